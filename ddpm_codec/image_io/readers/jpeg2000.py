"""JPEG 2000 files and code streams (ISO/IEC 15444-1): unsigned samples of 1 to 16 bits, as many as are stored."""

import random
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

import imagecodecs
import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.boxes import Box, boxes, children, only
from ddpm_codec.image_io.readers.simple import allowed, ceil_div, file_metadata
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import MODES, Picture, PictureInfo, check_name

_SOC: Final = b"\xff\x4f"
_SIZ, _SOT, _EOC = 0xFF51, 0xFF90, 0xFFD9
_SOT_BYTES: Final = 12
_MODES: Final = {
    8: {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"},
    16: {1: "I;16", 2: "LA;16", 3: "RGB;16", 4: "RGBA;16"},
}
_SRGB, _GREY = 16, 17
_ENUMERATED: Final = {_SRGB: 3, _GREY: 1}
"""Channels of the colour spaces that are kept as they are."""

_ICC_METHODS: Final = (2, 3)
_COLOUR, _OPACITY = 0, 1


@dataclass(frozen=True)
class _Stream:
    """A code stream: where it stands, and what its SIZ marker and its tile-parts say."""

    start: int
    end: int
    size: tuple[int, int]
    bits: int
    components: int
    parts: tuple[tuple[int, int], ...]


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    file.seek(0)
    data = file.read()
    stream, streams = _stream(data)
    return Header("JPEG2000", stream.size, streams, "pictures", bits=stream.bits, white=_white(stream))


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    file.seek(0)
    data = file.read()
    stream, _ = _stream(data)
    check_name(name)
    depth = 8 if stream.bits <= 8 else 16
    mode = _MODES[depth][stream.components]
    pixels = _decoded(data[stream.start : stream.end], stream, mode)
    if _decoded(_extended(data, stream), stream, mode) != pixels:
        raise InputError("is damaged (its compressed data end too early)")
    metadata, notes = file_metadata(data, "JPEG2000")
    info = PictureInfo(name, mode, stream.size, None, None, metadata, _white(stream))
    return ReadPicture(Picture(info, pixels), notes)


def _white(stream: _Stream) -> int | None:
    return None if stream.bits in (8, 16) else (1 << stream.bits) - 1


def _stream(data: bytes) -> tuple[_Stream, int]:
    """Return the first code stream, checked, and how many there are."""
    if data.startswith(_SOC):
        stream = _code_stream(data, 0, len(data))
        if stream.components not in (1, 3):
            raise InputError(f"is a code stream of {stream.components} components, which does not say what they mean")
        return stream, 1
    found = list(boxes(data, 0, len(data)))
    streams = [box for box in found if box.kind == b"jp2c"]
    head = only(found, b"jp2h")
    if head is None or not streams:
        raise InputError("is damaged (it has no header or no picture)")
    stream = _code_stream(data, streams[0].start, streams[0].end)
    inside = children(data, head)
    described = only(inside, b"ihdr")
    if described is None or data[described.start : described.start + 10] != struct.pack(
        ">IIH", stream.size[1], stream.size[0], stream.components
    ):
        raise InputError("is damaged (its header and its code stream do not agree)")
    _check_colours(data, inside, stream.components)
    return stream, len(streams)


def _code_stream(data: bytes, start: int, end: int) -> _Stream:
    """Walk a code stream from SOC to EOC."""
    at = start + 2
    if data[start:at] != _SOC or end - at < 42 or struct.unpack_from(">H", data, at) != (_SIZ,):
        raise InputError("is damaged (its code stream has no header)")
    length, _, right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
        ">HHIIIIIIIIH", data, at + 2
    )
    described = data[at + 40 : at + 2 + length]
    allowed(components, (1, 2, 3, 4), f"has {components} components; of JPEG 2000 only 1 to 4 are read")
    if len(described) != 3 * components or right <= left or bottom <= top or not (tile_width and tile_height):
        raise InputError("is damaged (its size marker is malformed)")
    depths, across, down = set(described[::3]), set(described[1::3]), set(described[2::3])
    if any(depth & 0x80 for depth in depths):
        raise InputError("has signed samples, which are not read of JPEG 2000")
    if len(depths) > 1 or max(depths) > 15:
        raise InputError(f"has samples of {sorted(depth + 1 for depth in depths)} bits; of JPEG 2000 up to 16 are read")
    if across != {1} or down != {1}:
        raise InputError("has subsampled components, which are not read of JPEG 2000")
    tiles = ceil_div(right - tile_left, tile_width) * ceil_div(bottom - tile_top, tile_height)
    parts = _tile_parts(data, _first_tile(data, at, end), end, tiles)
    return _Stream(start, end, (right - left, bottom - top), max(depths) + 1, components, parts)


def _first_tile(data: bytes, at: int, end: int) -> int:
    while at + 4 <= end:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _SOT:
            return at
        if marker < 0xFF00 or length < 2:
            break
        at += 2 + length
    raise InputError("is damaged (its code stream ends in its header)")


def _tile_parts(data: bytes, at: int, end: int, tiles: int) -> tuple[tuple[int, int], ...]:
    """Return start and end of each tile-part.

    Raises:
        InputError: some are missing, or the stream does not end behind them.
    """
    parts: list[tuple[int, int]] = []
    counts: dict[int, int] = {}
    declared: dict[int, int] = {}
    while at + _SOT_BYTES <= end and struct.unpack_from(">H", data, at) == (_SOT,):
        tile, length, _, total = struct.unpack_from(">HIBB", data, at + 4)
        length = length or end - 2 - at
        if length < _SOT_BYTES or at + length > end:
            raise InputError("is damaged (the file ends inside a tile)")
        counts[tile] = counts.get(tile, 0) + 1
        declared[tile] = max(total, declared.get(tile, 0))
        parts.append((at, at + length))
        at += length
    missing = len(counts) != tiles or any(counts[tile] < declared[tile] for tile in counts)
    if missing or data[at : at + 2] != struct.pack(">H", _EOC):
        raise InputError("is damaged (not all of its tiles are there)")
    return tuple(parts)


def _check_colours(data: bytes, head: list[Box], components: int) -> None:
    """Refuse colours that would be converted or whose meaning would be lost."""
    if only(head, b"pclr"):
        raise InputError("has a palette, which is not read of JPEG 2000")
    colours = components
    definitions = only(head, b"cdef")
    if definitions:
        (count,) = struct.unpack_from(">H", data, definitions.start)
        entries = data[definitions.start + 2 : definitions.end]
        if len(entries) != 6 * count or count != components:
            raise InputError("is damaged (its channel definitions are malformed)")
        described = sorted(struct.iter_unpack(">HHH", entries))
        kinds = [kind for _, kind, _ in described]
        colours = kinds.count(_COLOUR)
        in_order = [(channel, kind, place) for channel, kind, place in described if kind == _COLOUR]
        wanted = [(channel, _COLOUR, channel + 1) for channel in range(colours)]
        if in_order != wanted or kinds[colours:] not in ([], [_OPACITY]):
            raise InputError("has channels in another order or of other meaning than colours and alpha")
    specifications = [box for box in head if box.kind == b"colr"]
    known = []
    for box in specifications:
        method = data[box.start]
        (space,) = struct.unpack_from(">I", data, box.start + 3) if box.end - box.start >= 7 else (0,)
        if method in _ICC_METHODS or (method == 1 and space in _ENUMERATED):
            known.append(method if method in _ICC_METHODS else space)
    if not known:
        raise InputError("has colours in a space that would be lost")
    expected = {_ENUMERATED[space] for space in known if space in _ENUMERATED} or {1, 3}
    if not definitions and components in (2, 4):
        raise InputError(f"has {components} channels and does not say what the last one means")
    if colours not in expected:
        raise InputError(f"has {colours} colour channels, which its colour space does not have")


def _decoded(stream: bytes, found: _Stream, mode: str) -> bytes:
    samples = imagecodecs.jpeg2k_decode(stream)
    kind = np.dtype(MODES[mode].stored)
    width, height = found.size
    if samples.dtype != kind.newbyteorder("=") or samples.size != width * height * found.components:
        raise InputError("is damaged (its samples are not what the header says)")
    return samples.astype(kind).tobytes()


def _extended(data: bytes, stream: _Stream) -> bytes:
    """Return the code stream with bytes behind each tile-part: they change pixels only where data were missing."""
    draw = random.Random(0)
    out = [data[stream.start : stream.parts[0][0]]]
    for start, end in stream.parts:
        more = bytes(draw.choices(range(255), k=64))
        out += [data[start : start + 6], struct.pack(">I", end - start + len(more)), data[start + 10 : end], more]
    return b"".join((*out, struct.pack(">H", _EOC)))
