"""WebP files (RFC 9649): lossy, lossless, with alpha; of an animation the first frame."""

import random
import struct
from typing import BinaryIO, Final, NamedTuple

import imagecodecs

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import file_metadata
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Picture, PictureInfo, check_name

_PIXELS: Final = (b"VP8 ", b"VP8L")
_CODED: Final = (*_PIXELS, b"ALPH")
_ALPHA_FLAG: Final = 0x10
_LOSSLESS_ALPHA: Final = 0x10
_FRAME_HEADER_BYTES: Final = 16
_PROBES: Final = 2


class _Chunk(NamedTuple):
    tag: bytes
    start: int
    length: int


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    chunks, _ = _chunks(file)
    pixels = [chunk for chunk in chunks if chunk.tag in _PIXELS]
    frames = [chunk for chunk in chunks if chunk.tag == b"ANMF"]
    if len(pixels) + len(frames) == 0:
        raise InputError("is damaged (it has no picture)")
    if len(pixels) > 1 or (pixels and frames):
        raise InputError("is damaged (it has several pictures that are no animation)")
    first = chunks[0]
    size = _canvas(file, first) if first.tag == b"VP8X" else _size(file, first)
    if frames:
        _check_first_frame(file, frames[0], size)
    return Header("WEBP", size, max(1, len(frames)))


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    chunks, end = _chunks(file)
    size = header(file).size
    check_name(name)
    file.seek(0)
    data = file.read()
    frame = next((chunk for chunk in chunks if chunk.tag == b"ANMF"), None)
    coded = [chunk for chunk in chunks if chunk.tag in _CODED]
    if frame is not None:
        coded = _walk(file, frame.start + _FRAME_HEADER_BYTES, frame.start + frame.length)
        coded = [chunk for chunk in coded if chunk.tag in _CODED]
    mode = "RGBA" if _has_alpha(data, chunks[0], coded) else "RGB"
    pixels = _decoded(_still(data, coded, size, None), size, mode)
    for seed in range(_PROBES):
        if _decoded(_still(data, coded, size, random.Random(seed)), size, mode) != pixels:
            raise InputError("is damaged (its compressed data end too early)")
    metadata, notes = file_metadata(data, "WEBP")
    if len(data) > end:
        notes = (*notes, f"{len(data) - end} bytes behind the picture are left out")
    return ReadPicture(Picture(PictureInfo(name, mode, size, metadata=metadata), pixels), notes)


def _chunks(file: BinaryIO) -> tuple[list[_Chunk], int]:
    """Return the chunks of the file, and where it ends by its own account."""
    file.seek(0)
    start = file.read(12)
    length = file.seek(0, 2)
    if len(start) < 12 or start[:4] != b"RIFF" or start[8:] != b"WEBP":
        raise InputError("is damaged (no WebP header)")
    end = 8 + struct.unpack_from("<I", start, 4)[0]
    if end > length:
        raise InputError(f"is damaged (the file has {length} of {end} bytes)")
    return _walk(file, 12, end), end


def _walk(file: BinaryIO, at: int, end: int) -> list[_Chunk]:
    chunks = []
    while at < end:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or at + 8 > end:
            raise InputError("is damaged (a chunk is cut short)")
        tag, length = struct.unpack("<4sI", head)
        chunks.append(_Chunk(tag, at + 8, length))
        at += 8 + length
        if at > end:
            raise InputError("is damaged (a chunk is cut short)")
        at += length % 2
    if not chunks:
        raise InputError("is damaged (it has no picture)")
    return chunks


def _canvas(file: BinaryIO, chunk: _Chunk) -> tuple[int, int]:
    file.seek(chunk.start)
    body = file.read(10)
    if len(body) < 10:
        raise InputError("is damaged (its header is cut short)")
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def _size(file: BinaryIO, chunk: _Chunk) -> tuple[int, int]:
    """Return the size that a VP8 or VP8L chunk states."""
    file.seek(chunk.start)
    body = file.read(10)
    if chunk.tag == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if chunk.tag == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        (bits,) = struct.unpack_from("<I", body, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise InputError("is damaged (its first chunk is no picture)")


def _check_first_frame(file: BinaryIO, frame: _Chunk, canvas: tuple[int, int]) -> None:
    file.seek(frame.start)
    body = file.read(_FRAME_HEADER_BYTES)
    left, top, width, height = (int.from_bytes(body[at : at + 3], "little") for at in (0, 3, 6, 9))
    if (left, top, width + 1, height + 1) != (0, 0, *canvas):
        raise InputError("has a first frame that covers only part of the canvas; the rest has no pixels")


def _has_alpha(data: bytes, first: _Chunk, coded: list[_Chunk]) -> bool:
    """Return whether the picture has alpha.

    Raises:
        InputError: it has, and its header says that it has not.
    """
    stored = any(
        chunk.tag == b"ALPH" or (chunk.tag == b"VP8L" and chunk.length > 4 and data[chunk.start + 4] & _LOSSLESS_ALPHA)
        for chunk in coded
    )
    if first.tag != b"VP8X":
        return stored
    declared = bool(data[first.start] & _ALPHA_FLAG)
    if stored and not declared:
        raise InputError("has alpha that its header does not announce; readers do not agree on it")
    return declared


def _still(data: bytes, coded: list[_Chunk], size: tuple[int, int], draw: random.Random | None) -> bytes:
    """Return a file of one picture without metadata; with ``draw``, there are random bytes behind all compressed data."""
    alpha = any(chunk.tag == b"ALPH" for chunk in coded)
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in size)
    parts = [_chunk(b"VP8X", bytes([_ALPHA_FLAG, 0, 0, 0]) + canvas)] if alpha else []
    for tag, start, length in coded:
        more = draw.randbytes(64) if draw else b""
        parts.append(_chunk(tag, data[start : start + length] + more))
    whole = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def _chunk(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _decoded(file: bytes, size: tuple[int, int], mode: str) -> bytes:
    samples = imagecodecs.webp_decode(file, hasalpha=mode == "RGBA")
    if samples.shape != (size[1], size[0], len(mode)):
        raise InputError("is damaged (its picture has another size than its header says)")
    return samples.tobytes()
