"""Windows and OS/2 bitmaps: 1, 4 and 8 bits with a palette, RLE included, 24 bits, 32 bits with or without alpha."""

import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import allowed, ceil_div, file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Palette, Picture, PictureInfo, check_name

FILE_HEADER_BYTES: Final = 14
_CORE: Final = 12
_INFO: Final = 40
_HEADERS: Final = (_CORE, _INFO, 52, 56, 64, 108, 124)
_RAW, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3
_RED_GREEN_BLUE: Final = (0xFF0000, 0xFF00, 0xFF, 0)
_BYTE_OF_MASK: Final = {0xFF: 0, 0xFF00: 1, 0xFF0000: 2, 0xFF000000: 3}


@dataclass(frozen=True)
class Bitmap:
    """The header of a device-independent bitmap.

    Attributes:
        size: (width, height).
        upwards: whether the last row comes first.
        bits: bits per pixel.
        compression: 0 none, 1 and 2 run lengths, 3 bit fields.
        masks: of red, green, blue and alpha.
        palette: of the colours, [n, 3] RGB.
        end: offset behind header, masks and palette.
        stored_bytes: how many bytes the pixels take by the header; 0 if it does not say.
    """

    size: tuple[int, int]
    upwards: bool
    bits: int
    compression: int
    masks: tuple[int, ...]
    palette: NDArray[np.uint8]
    end: int
    stored_bytes: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without compression."""
        return ceil_div(self.size[0] * self.bits, 32) * 4


def bitmap(file: BinaryIO, at: int) -> Bitmap:
    """Read the header of a bitmap at an offset.

    Raises:
        InputError: it is damaged, or of a kind that would not come back exactly.
    """
    file.seek(at)
    (length,) = struct.unpack("<I", read_exactly(file, 4))
    allowed(length, _HEADERS, f"has a bitmap header of {length} bytes, which is not known")
    body = read_exactly(file, length - 4)
    masks, colours, compression, stored_bytes = _RED_GREEN_BLUE, 0, _RAW, 0
    if length == _CORE:
        width, height, _, bits = struct.unpack("<HHHH", body)
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", body)
        stored_bytes, _, _, colours = struct.unpack_from("<IiiI", body, 16)
    if length == 64 and compression >= _BITFIELDS:
        raise InputError("is an OS/2 bitmap with a compression that is not read")
    if compression == _BITFIELDS:
        fields = body[36:52] if length >= 56 else body[36:48] if length == 52 else read_exactly(file, 12)
        masks = struct.unpack("<4I", fields.ljust(16, b"\0"))
    _check(bits, compression, masks)
    if width < 1 or height == 0 or (height < 0 and compression in (_RLE8, _RLE4)):
        raise InputError(f"has no pixels ({width}x{height})")
    palette = np.zeros((0, 3), np.uint8)
    if bits <= 8:
        colours = colours or 1 << bits
        if colours > 1 << bits:
            raise InputError(f"is damaged (it has {colours} colours in a palette of {bits} bits)")
        entry = 3 if length == _CORE else 4
        entries = np.frombuffer(read_exactly(file, entry * colours), np.uint8).reshape(-1, entry)
        palette = np.ascontiguousarray(entries[:, 2::-1])
    return Bitmap((width, abs(height)), height > 0, bits, compression, masks, palette, file.tell(), stored_bytes)


def _check(bits: int, compression: int, masks: tuple[int, ...]) -> None:
    """Refuse depths and compressions that would not come back exactly."""
    if bits == 16:
        raise InputError("has 16 bits per pixel, 5 or 6 a colour; of BMP only 8 a colour are read")
    allowed(bits, (1, 4, 8, 24, 32), f"has {bits} bits per pixel, which is not read of BMP")
    if compression in (4, 5):
        raise InputError("is a bitmap that wraps a JPEG or PNG file, which is not read")
    wanted = {_RAW: bits, _RLE8: 8, _RLE4: 4, _BITFIELDS: 32}
    if wanted.get(compression) != bits:
        raise InputError(f"has compression {compression} at {bits} bits per pixel, which is not read of BMP")
    used = [mask for mask in masks if mask]
    if any(mask not in _BYTE_OF_MASK for mask in used) or len(set(used)) < len(used) or not all(masks[:3]):
        raise InputError("has colours of other than 8 bits; of BMP only 8 are read")


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    _, found = _opened(file)
    return Header("BMP", found.size)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    start, found = _opened(file)
    check_name(name)
    file.seek(start)
    if found.compression in (_RLE8, _RLE4):
        samples: NDArray[Any] = _unpacked_runs(file.read(), found)
    else:
        samples = pixels_of_bitmap(read_exactly(file, found.row_bytes * found.size[1]), found)
    if found.bits <= 8 and samples.max() >= len(found.palette):
        raise InputError("is damaged (a pixel has a colour beyond the palette)")
    metadata, notes = file_metadata(file, "BMP")
    mode, palette = _mode(found, samples)
    pixels = np.packbits(samples, axis=1) if mode == "1" else samples
    return ReadPicture(Picture(PictureInfo(name, mode, found.size, palette, None, metadata), pixels.tobytes()), notes)


def _opened(file: BinaryIO) -> tuple[int, Bitmap]:
    """Return where the pixels start, and the header."""
    file.seek(0)
    length, _, start = struct.unpack_from("<III", read_exactly(file, FILE_HEADER_BYTES), 2)
    found = bitmap(file, FILE_HEADER_BYTES)
    if max(length, start + found.stored_bytes) > file.seek(0, os.SEEK_END):
        raise InputError("is damaged (it is shorter than it says)")
    if start < found.end:
        raise InputError("is damaged (its pixels start inside its header)")
    return start, found


def pixels_of_bitmap(data: bytes, found: Bitmap) -> NDArray[np.uint8]:
    """Return samples without compression, from the top: [height, width] indices, or [height, width, 3 or 4].

    Raises:
        InputError: of 32 bits 8 have no meaning by the header, and are not all the same.
    """
    rows = np.frombuffer(data, np.uint8).reshape(found.size[1], found.row_bytes)
    if found.upwards:
        rows = rows[::-1]
    width = found.size[0]
    if found.bits == 1:
        return np.unpackbits(rows, axis=1, count=width)
    if found.bits == 4:
        return np.stack((rows >> 4, rows & 15), axis=2).reshape(len(rows), -1)[:, :width]
    if found.bits == 8:
        return rows[:, :width]
    whole = rows[:, : width * found.bits // 8].reshape(len(rows), width, -1)
    if found.bits == 24:
        return whole[:, :, ::-1]
    order = [_BYTE_OF_MASK[mask] for mask in found.masks if mask]
    if len(order) == 3:
        (unused,) = {0, 1, 2, 3} - set(order)
        rest = whole[:, :, unused]
        if rest.min() != rest.max() or rest[0, 0] not in (0, 255):
            raise InputError("has a fourth channel of which its header does not say what it is; it would be lost")
    return whole[:, :, order]


def _mode(found: Bitmap, samples: NDArray[Any]) -> tuple[str, Palette | None]:
    """Return mode and palette; a palette of greys that are the indices themselves is none."""
    if found.bits > 8:
        return ("RGB" if samples.shape[2] == 3 else "RGBA"), None
    greys = np.array([0, 255]) if len(found.palette) == 2 else np.arange(len(found.palette))
    if (found.palette == greys[:, None]).all():
        if found.bits == 1 and len(greys) == 2:
            return "1", None
        if found.bits == 8 and len(greys) > 2:
            return "L", None
    return "P", Palette(3, found.palette.tobytes())


def _unpacked_runs(data: bytes, found: Bitmap) -> NDArray[np.uint8]:
    """Unpack run lengths.

    Raises:
        InputError: the data end too early, or leave pixels out.
    """
    width, height = found.size
    rows: list[bytes] = []
    row, at = bytearray(), 0
    four = found.compression == _RLE4
    while len(rows) < height:
        if at + 2 > len(data):
            raise InputError("is damaged (its compressed rows end too early)")
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            row += (bytes((value >> 4, value & 15)) * 128)[:count] if four else bytes([value]) * count
        elif value > 2:
            length = ceil_div(value, 2) if four else value
            part = data[at : at + length]
            if len(part) < length:
                raise InputError("is damaged (its compressed rows end too early)")
            row += bytes(nibble for byte in part for nibble in (byte >> 4, byte & 15))[:value] if four else part
            at += length + length % 2
        else:
            if value == 2 or len(row) != width:
                raise InputError("has rows that leave pixels out; they have no colour")
            rows.append(bytes(row))
            row = bytearray()
            if value == 1 and len(rows) < height:
                raise InputError("is damaged (its compressed rows end too early)")
        if len(row) > width:
            raise InputError("is damaged (a compressed row is too long)")
    return np.frombuffer(b"".join(reversed(rows)), np.uint8).reshape(height, width)
