"""PCX files: one bit a pixel, 16 colours in four planes, 256 colours or greys, 24 bits."""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import allowed, ceil_div, file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Palette, Picture, PictureInfo, check_name

_HEADER_BYTES: Final = 128
_PALETTE_BYTES: Final = 768
_PALETTE_MARK: Final = 12
_GREYS: Final = 2
_KINDS: Final = ((1, 1), (1, 4), (8, 1), (8, 3))
_RUN: Final = 0xC0


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]
    bits: int
    planes: int
    row_bytes: int
    greys: bool
    palette: bytes


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    return Header("PCX", _header(file).size)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    head = _header(file)
    check_name(name)
    width, height = head.size
    file.seek(_HEADER_BYTES)
    data = file.read()
    unpacked, end = _unpacked(data, head.row_bytes * head.planes, height)
    rows = np.frombuffer(unpacked, np.uint8).reshape(height, head.planes, head.row_bytes)
    metadata, notes = file_metadata(file, "PCX")
    palette = None
    if head.bits == 8:
        samples = rows[:, :, :width].transpose(0, 2, 1)
        palette = _palette_behind(data, end, head) if head.planes == 1 else None
        mode = "RGB" if head.planes == 3 else "P" if palette else "L"
    else:
        planes = np.unpackbits(rows, axis=2, count=width)
        if head.planes == 1:
            mode, samples = "1", np.packbits(planes[:, 0], axis=1)
        else:
            mode, palette = "P", Palette(3, head.palette)
            samples = (planes << np.arange(4, dtype=np.uint8)[:, None]).sum(axis=1, dtype=np.uint8)
    return ReadPicture(Picture(PictureInfo(name, mode, head.size, palette, None, metadata), samples.tobytes()), notes)


def _header(file: BinaryIO) -> _Header:
    file.seek(0)
    head = read_exactly(file, _HEADER_BYTES)
    version, encoding, bits = head[1:4]
    left, top, right, bottom = struct.unpack_from("<4H", head, 4)
    planes, row_bytes, kind = struct.unpack_from("<BHH", head, 65)
    if head[0] != 10 or encoding != 1 or right < left or bottom < top:
        raise InputError("is damaged (no PCX header)")
    allowed((bits, planes), _KINDS, f"has {planes} planes of {bits} bits, which is not read of PCX")
    if (bits == 8 and version != 5) or (planes == 4 and version not in (2, 5)):
        raise InputError(f"is of PCX version {version}, which has no palette for {bits * planes} bits per pixel")
    width = right - left + 1
    needed = ceil_div(width * bits, 8)
    allowed(row_bytes, (needed, needed + needed % 2), f"is damaged (it says that its rows have {row_bytes} bytes)")
    return _Header((width, bottom - top + 1), bits, planes, row_bytes, kind == _GREYS, head[16:64])


def _unpacked(data: bytes, row_bytes: int, height: int) -> tuple[bytes, int]:
    """Unpack run lengths; return the rows, and the offset behind them.

    Raises:
        InputError: there are too few, or a run goes on into the next row.
    """
    rows, at = bytearray(), 0
    while len(rows) < row_bytes * height:
        count = 1
        if at < len(data) and data[at] >= _RUN:
            count = data[at] - _RUN
            at += 1
        if at >= len(data):
            raise InputError("is damaged (the file ends too early)")
        if len(rows) % row_bytes + count > row_bytes:
            raise InputError("is damaged (a compressed row is longer than its header says)")
        rows += data[at : at + 1] * count
        at += 1
    return bytes(rows), at


def _palette_behind(data: bytes, end: int, head: _Header) -> Palette | None:
    """Return the palette of 256 colours at the end of the file; None for greys that are the samples themselves."""
    start = len(data) - _PALETTE_BYTES
    if start - 1 < end or data[start - 1] != _PALETTE_MARK:
        if head.greys and start - 1 < end:
            return None
        raise InputError("is damaged (it has no palette)")
    if data[start:] == bytes(value for value in range(256) for _ in range(3)):
        return None
    return Palette(3, data[start:])
