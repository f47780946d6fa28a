"""TIFF files."""

from typing import BinaryIO, Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.image_io.readers.simple import picture_of
from ddpm_codec.image_io.stored import Header, ReadPicture

_BITS_PER_SAMPLE: Final = 258


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    with opened(file, "TIFF") as image:
        return Header("TIFF", image.size, getattr(image, "n_frames", 1))


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    with opened(file, "TIFF") as image:
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]
        if image.mode not in ("I", "I;16", "I;16B", "F") and any(int(value) > 8 for value in bits):
            raise InputError("has more than 8 bits per colour sample; Pillow reads only 8")
        return ReadPicture(picture_of(image, name))
