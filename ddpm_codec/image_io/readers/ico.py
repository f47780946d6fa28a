"""Windows icons: the largest picture, a PNG file or a bitmap with a mask."""

import io
import struct
from dataclasses import replace
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers import png
from ddpm_codec.image_io.readers.bmp import bitmap, pixels_of_bitmap
from ddpm_codec.image_io.readers.simple import ceil_div, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Picture, PictureInfo, check_name

_HEADER_BYTES: Final = 6
_ENTRY_BYTES: Final = 16


class _Entry(NamedTuple):
    size: tuple[int, int]
    colour_bits: int
    length: int
    start: int


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    entries = _entries(file)
    data = _largest(file, entries)
    if data.startswith(png.SIGNATURE):
        size = png.header(io.BytesIO(data)).size
    else:
        width, height = bitmap(io.BytesIO(data), 0).size
        size = width, height // 2
    return Header("ICO", size, len(entries), "sizes", "largest")


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    data = _largest(file, _entries(file))
    if data.startswith(png.SIGNATURE):
        inner = io.BytesIO(data)
        if png.header(inner).pictures > 1:
            raise InputError("has an animated picture, of which only the first frame would be kept")
        return png.read(inner, name)
    check_name(name)
    return ReadPicture(_masked(data, name))


def _entries(file: BinaryIO) -> list[_Entry]:
    file.seek(0)
    _, _, count = struct.unpack("<HHH", read_exactly(file, _HEADER_BYTES))
    table = read_exactly(file, _ENTRY_BYTES * count)
    length = file.seek(0, 2)
    entries = []
    for width, height, colours, _, _, bits, size, start in struct.iter_unpack("<BBBBHHII", table):
        if start + size > length:
            raise InputError("is damaged (the file ends inside one of its pictures)")
        depth = bits or max(0, colours - 1).bit_length() or 256
        entries.append(_Entry((width or 256, height or 256), depth, size, start))
    if not entries:
        raise InputError("is damaged (it has no picture)")
    return entries


def _largest(file: BinaryIO, entries: list[_Entry]) -> bytes:
    """Return the data of the largest picture, and of several of that size the one with most colours."""
    entry = max(entries, key=lambda entry: (entry.size[0] * entry.size[1], entry.colour_bits))
    file.seek(entry.start)
    return read_exactly(file, entry.length)


def _masked(data: bytes, name: str) -> Picture:
    """Return a bitmap, with its mask as alpha, as RGBA."""
    file = io.BytesIO(data)
    found = bitmap(file, 0)
    if found.compression or found.size[1] % 2 or not found.upwards:
        raise InputError("has a compressed bitmap or one without a mask, which is not read of icons")
    width, height = found.size[0], found.size[1] // 2
    colours = replace(found, size=(width, height))
    mask_bytes = ceil_div(width, 32) * 4 * height
    behind = data[found.end + colours.row_bytes * height :]
    # Where there is more than the mask, readers look for it in front or at the end.
    certain = len(behind) >= mask_bytes and behind[:mask_bytes] == behind[len(behind) - mask_bytes :]
    if not certain and not (found.bits == 32 and not behind):
        raise InputError("is damaged (its picture and mask have another length than its table says)")
    raw = read_exactly(file, colours.row_bytes * height)
    alpha = np.frombuffer(raw, np.uint8)[3::4].reshape(height, width)[::-1] if found.bits == 32 else None
    rgba = np.full((height, width, 4), 255, np.uint8)
    if alpha is not None:
        rgba[:, :, :3] = np.frombuffer(raw, np.uint8).reshape(height, width, 4)[::-1, :, 2::-1]
        if not alpha.any():
            raise InputError("has an alpha channel that is zero everywhere, so that its colours are not seen")
        rgba[:, :, 3] = alpha
    else:
        samples = pixels_of_bitmap(raw, colours)
        if found.bits <= 8 and int(samples.max()) >= len(found.palette):
            raise InputError("is damaged (it has pixels beyond its palette)")
        rgba[:, :, :3] = found.palette[samples] if found.bits <= 8 else samples
        mask = np.frombuffer(read_exactly(file, mask_bytes), np.uint8).reshape(height, -1)[::-1]
        rgba[:, :, 3] = 255 - 255 * np.unpackbits(mask, axis=1, count=width)
    return Picture(PictureInfo(name, "RGBA", (width, height)), rgba.tobytes())
