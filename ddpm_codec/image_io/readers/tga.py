"""Truevision TGA files: 8 bits of grey or palette, grey with alpha, 24 and 32 bits; with or without run lengths.

They have no signature: whatever does not fit the specification in its header is not taken for one.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import allowed, file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Palette, Picture, PictureInfo, check_name

_HEADER_BYTES: Final = 18
_FOOTER: Final = b"TRUEVISION-XFILE.\0"
_FOOTER_BYTES: Final = 26
_ATTRIBUTES_AT: Final = 494
_NO_ALPHA, _PREMULTIPLIED = 0, 4
_PALETTE, _COLOUR, _GREY = 1, 2, 3
_RUN_LENGTHS: Final = 8
_RIGHT_TO_LEFT, _FROM_TOP, _INTERLEAVED = 0x10, 0x20, 0xC0
_KINDS: Final = {
    (_PALETTE, 8, 0): "P",
    (_GREY, 8, 0): "L",
    (_GREY, 16, 8): "LA",
    (_COLOUR, 24, 0): "RGB",
    (_COLOUR, 32, 8): "RGBA",
    (_COLOUR, 32, 0): "RGBX",
}


@dataclass(frozen=True)
class _Header:
    """What stands before the samples.

    Attributes:
        mode: the picture's; RGBX stands for four bytes of which the last should mean nothing.
    """

    mode: str
    size: tuple[int, int]
    compressed: bool
    flags: int
    palette: Palette | None
    start: int


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    return Header("TGA", _header(file).size)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    head = _header(file)
    check_name(name)
    width, height = head.size
    channels = len(head.mode)
    file.seek(head.start)
    stored = file.read() if head.compressed else read_exactly(file, width * height * channels)
    data = _unpacked(stored, head.size, channels) if head.compressed else stored
    samples = np.frombuffer(data, np.uint8).reshape(height, width, channels)
    samples = samples if head.flags & _FROM_TOP else samples[::-1]
    samples = samples[:, ::-1] if head.flags & _RIGHT_TO_LEFT else samples
    if channels >= 3:
        samples = samples[:, :, [2, 1, 0, 3][:channels]]
    mode, samples = _with_meaning(head.mode, samples, _attributes(file))
    metadata, notes = file_metadata(file, "TGA")
    return ReadPicture(
        Picture(PictureInfo(name, mode, head.size, head.palette, None, metadata), samples.tobytes()), notes
    )


def _header(file: BinaryIO) -> _Header:
    file.seek(0)
    head = read_exactly(file, _HEADER_BYTES)
    id_length, has_map, kind, first, count, entry_bits = struct.unpack_from("<BBBHHB", head)
    width, height, depth, flags = struct.unpack_from("<HHBB", head, 12)
    compressed, kind = bool(kind & _RUN_LENGTHS), kind & ~_RUN_LENGTHS
    if has_map > 1 or kind not in (_PALETTE, _COLOUR, _GREY) or flags & _INTERLEAVED or not (width and height):
        raise InputError("is not an image, or has a format that is not read")
    if depth in (15, 16) and kind == _COLOUR:
        raise InputError("has 16 bits per pixel, 5 a colour; of TGA only 8 a colour are read")
    mode = _KINDS.get((kind, depth, flags & 15))
    if mode is None or (has_map == 1) != (kind == _PALETTE):
        raise InputError(f"has {depth} bits per pixel and {flags & 15} of attributes, which is not read of TGA")
    start = _HEADER_BYTES + id_length
    palette = None
    if mode == "P":
        allowed(entry_bits, (24, 32), f"has a palette of {entry_bits} bits; of TGA only 24 and 32 are read")
        if first + count > 256:
            raise InputError("is damaged (its palette has more than 256 colours)")
        file.seek(start)
        entry = entry_bits // 8
        entries = np.zeros((first + count, entry), np.uint8)
        entries[first:] = np.frombuffer(read_exactly(file, entry * count), np.uint8).reshape(count, entry)
        palette = Palette(entry, entries[:, [2, 1, 0, 3][:entry]].tobytes())
        start += entry * count
    return _Header(mode, (width, height), compressed, flags, palette, start)


def _attributes(file: BinaryIO) -> int | None:
    """Return what the extension area says of alpha; None where there is none."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _FOOTER_BYTES))
    footer = file.read()
    (offset,) = struct.unpack_from("<I", footer)
    if not footer.endswith(_FOOTER) or not offset or offset + _ATTRIBUTES_AT >= end:
        return None
    file.seek(offset + _ATTRIBUTES_AT)
    return read_exactly(file, 1)[0]


def _with_meaning(mode: str, samples: NDArray[np.uint8], attributes: int | None) -> tuple[str, NDArray[np.uint8]]:
    """Return mode and samples; a fourth channel that means nothing is left out if it holds nothing."""
    if mode == "RGBX" or (mode == "RGBA" and attributes == _NO_ALPHA):
        rest = samples[:, :, 3]
        if rest.min() != rest.max() or rest[0, 0] not in (0, 255):
            raise InputError("has a fourth channel of which its header says that it means nothing; it would be lost")
        return "RGB", samples[:, :, :3]
    if mode in ("LA", "RGBA") and attributes == _PREMULTIPLIED:
        return {"LA": "La", "RGBA": "RGBa"}[mode], samples
    return mode, samples


def _unpacked(data: bytes, size: tuple[int, int], pixel_bytes: int) -> bytes:
    """Unpack run lengths.

    Raises:
        InputError: there are too few, or a run goes on into the next row, which TGA 2.0 forbids.
    """
    out, at, row_bytes = bytearray(), 0, size[0] * pixel_bytes
    while len(out) < row_bytes * size[1]:
        if at >= len(data):
            raise InputError("is damaged (the file ends too early)")
        count = (data[at] & 0x7F) + 1
        stored = pixel_bytes * (1 if data[at] & 0x80 else count)
        part = data[at + 1 : at + 1 + stored]
        if len(part) < stored:
            raise InputError("is damaged (the file ends too early)")
        if len(out) % row_bytes + count * pixel_bytes > row_bytes:
            raise InputError("is damaged (a compressed row is longer than its header says)")
        out += part * count if data[at] & 0x80 else part
        at += 1 + stored
    return bytes(out)
