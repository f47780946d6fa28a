"""TIFF and BigTIFF files.

What a picture holds is what the file holds, with these exceptions: grey of up to 8 bits whose white is stored as 0 is
inverted, so that black is 0 in every picture, and grey of 2 and 4 bits is scaled to 8 bits; both can be undone exactly, and
Pillow does the same. JPEG-compressed YCbCr becomes RGB by libjpeg. The orientation is not applied but kept as a tag.
"""

from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.ifd import Directory, TiffReader
from ddpm_codec.image_io.metadata.tiff import metadata_of_directory
from ddpm_codec.image_io.readers.tiff_layout import Layout, layout_of
from ddpm_codec.image_io.readers.tiff_pages import Pages, read_pages
from ddpm_codec.image_io.readers.tiff_pixels import decode_pixels
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import MODES, Palette, Picture, PictureInfo, check_name

_COLOUR_MAP: Final = 320


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    reader, pages = _opened(file)
    layout = layout_of(pages.first, reader.size)
    _palette(pages.first, layout)
    bits = MODES[layout.mode].sample_bits
    return Header("TIFF", layout.size, pages.count, bits=bits, white=layout.white)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    reader, pages = _opened(file)
    page = pages.first
    layout = layout_of(page, reader.size)
    palette = _palette(page, layout)
    check_name(name)
    pixels = _pixels(decode_pixels(file, page, layout), layout)
    notes = list(pages.notes[id(page)])
    if pages.thumbnails:
        notes.append("has a thumbnail of EXIF; left out")
    changed = layout.inverted or layout.scale > 1
    metadata = metadata_of_directory(page, notes.append, changed_samples=changed)
    info = PictureInfo(name, layout.mode, layout.size, palette, metadata=metadata, white=layout.white)
    return ReadPicture(Picture(info, pixels), tuple(notes))


def _opened(file: BinaryIO) -> tuple[TiffReader, Pages]:
    reader = TiffReader(file)
    return reader, read_pages(reader)


def _palette(page: Directory, layout: Layout) -> Palette | None:
    """Return the colours of a palette, which TIFF stores with 16 bits a channel.

    Raises:
        InputError: it is damaged, or not all colours are multiples of 257, or of 256: they would be lost.
    """
    if not MODES[layout.mode].has_palette:
        return None
    wanted = 3 << layout.bits
    values = np.array(page.integers(_COLOUR_MAP), np.int64)
    if values.size != wanted:
        raise InputError(f"is damaged (its palette has {values.size} of {wanted} values)")
    if np.any(values % 257) and np.any(values % 256):
        raise InputError("has a palette with more than 8 bits per colour, which would be lost")
    return Palette(3, (values.reshape(3, -1).T >> 8).astype(np.uint8).tobytes())


def _pixels(samples: NDArray[Any], layout: Layout) -> bytes:
    """Return samples in the layout of :mod:`ddpm_codec.picture`."""
    if layout.mode == "1":
        return np.packbits((samples[..., 0] != 0) ^ layout.inverted, axis=1).tobytes()
    if layout.inverted:
        samples = ((1 << layout.bits) - 1) - samples
    if layout.scale > 1:
        samples = samples * np.uint8(layout.scale)
    return samples.astype(MODES[layout.mode].stored, copy=False).tobytes()
