"""QOI files (qoiformat.org)."""

import struct
from typing import BinaryIO, Final

import imagecodecs
import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Picture, PictureInfo, check_name

_HEADER_BYTES: Final = 14
_END: Final = b"\0" * 7 + b"\1"
_MODES: Final = {3: "RGB", 4: "RGBA"}
_PROBES: Final = (b"\xfe\x01\x02\x03\xff\x04\x05\x06\x07" * 2, b"\xfe\xf1\xf2\xf3\xff\xf4\xf5\xf6\xf7" * 2)
"""Pixels to put behind the last: decoders fill in what is missing, with the last or with these."""


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    file.seek(0)
    _, width, height, channels, space = struct.unpack(">4sIIBB", read_exactly(file, _HEADER_BYTES))
    if channels not in _MODES or space > 1:
        raise InputError(f"is damaged (it has {channels} channels and colour space {space})")
    return Header("QOI", (width, height))


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    size = header(file).size
    check_name(name)
    file.seek(0)
    data = file.read()
    mode = _MODES[data[12]]
    body, end = data[: -len(_END)], data[-len(_END) :]
    if end != _END or len(body) < _HEADER_BYTES:
        raise InputError("is damaged (it does not end with the end mark of QOI)")
    pixels = _decoded(data, size, len(mode))
    for more in _PROBES:
        if _decoded(body + more + _END, size, len(mode)) != pixels:
            raise InputError("is damaged (its pixels end too early)")
    metadata, notes = file_metadata(file, "QOI")
    return ReadPicture(Picture(PictureInfo(name, mode, size, metadata=metadata), pixels), notes)


def _decoded(data: bytes, size: tuple[int, int], channels: int) -> bytes:
    samples = imagecodecs.qoi_decode(data)
    if samples.dtype != np.uint8 or samples.shape != (size[1], size[0], channels):
        raise InputError("is damaged (its samples are not what the header says)")
    return samples.tobytes()
