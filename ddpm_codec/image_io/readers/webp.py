"""WebP files (RFC 9649): lossy, lossless, with alpha; of an animation the first frame."""

import random
import struct
from typing import BinaryIO, Final, NamedTuple

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.image_io.readers.simple import file_metadata, picture_of
from ddpm_codec.image_io.stored import Header, ReadPicture

_PIXELS: Final = (b"VP8 ", b"VP8L")
_CODED: Final = (*_PIXELS, b"ALPH")
_ALPHA_FLAG: Final = 0x10
_ANIMATION_FLAG: Final = 0x02
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
    file.seek(0)
    data = file.read()
    metadata, notes = file_metadata(data, "WEBP")
    with opened(_rebuilt(data, chunks, None), "WEBP") as image:
        picture = picture_of(image, name, metadata)
    has_alpha = _has_alpha(data, chunks)
    if has_alpha != (picture.mode == "RGBA"):
        raise InputError("is damaged (its header and its picture do not agree on alpha)")
    for seed in range(_PROBES):
        with opened(_rebuilt(data, chunks, random.Random(seed)), "WEBP") as image:
            if image.tobytes() != picture.pixels:
                raise InputError("is damaged (its compressed data end too early)")
    if len(data) > end:
        notes = (*notes, f"{len(data) - end} bytes behind the picture are left out")
    return ReadPicture(picture, notes)


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


def _has_alpha(data: bytes, chunks: list[_Chunk]) -> bool:
    """Return whether the picture has alpha, by its own chunks: those of the first frame in an animation."""
    for chunk in chunks:
        if chunk.tag == b"ANMF":
            # The canvas of an animation is transparent where frames do not cover it, if the header says so.
            return bool(data[chunks[0].start] & _ALPHA_FLAG)
        if chunk.tag == b"ALPH":
            return True
        if chunk.tag == b"VP8L":
            return bool(data[chunk.start + 4] & 0x10)
    return False


def _rebuilt(data: bytes, chunks: list[_Chunk], draw: random.Random | None) -> bytes:
    """Return the file without metadata; with ``draw``, there are random bytes behind all compressed data."""
    parts = []
    for tag, start, length in chunks:
        body = data[start : start + length]
        if tag == b"VP8X":
            body = bytes([body[0] & (_ALPHA_FLAG | _ANIMATION_FLAG)]) + body[1:]
        elif tag == b"ANMF":
            inner, at = [body[:_FRAME_HEADER_BYTES]], _FRAME_HEADER_BYTES
            while at + 8 <= len(body):
                inner_tag, inner_length = struct.unpack_from("<4sI", body, at)
                inner.append(_chunk(inner_tag, body[at + 8 : at + 8 + inner_length], draw))
                at += 8 + inner_length + inner_length % 2
            body = b"".join(inner)
        if tag in (b"VP8X", b"ANIM", b"ANMF", *_CODED):
            parts.append(_chunk(tag, body, draw))
    whole = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def _chunk(tag: bytes, body: bytes, draw: random.Random | None) -> bytes:
    if draw is not None and tag in _CODED:
        body += draw.randbytes(64)
    return tag + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
