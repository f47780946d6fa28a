"""Packs small blobs by the smallest of three methods, and unpacks them under a size limit."""

import lzma
import zlib
from typing import Any, Final

from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

STORED: Final = 0
DEFLATE: Final = 1
LZMA2: Final = 2

_LARGE: Final = 1 << 23
"""Above this LZMA takes seconds, and large blobs are mostly incompressible metadata."""


def pack(data: bytes) -> bytes:
    """Return the method byte, the raw length (unless stored), and the packed bytes, without their length."""
    best = bytes([STORED]) + data
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    candidates = [(DEFLATE, deflate.compress(data) + deflate.flush())]
    if len(data) <= _LARGE:
        candidates.append((LZMA2, lzma.compress(data, lzma.FORMAT_RAW, filters=_filters(len(data)))))
    for method, packed in candidates:
        out = bytearray([method])
        write_varint(out, len(data))
        if len(out) + len(packed) < len(best):
            best = bytes(out) + packed
    return best


def unpack(data: bytes, limit: int) -> bytes:
    """Unpack the output of :func:`pack`, never producing more than ``limit`` or the declared length.

    Raises:
        FormatError: the method is unknown, or the data is damaged.
    """
    reader = Reader(data)
    method = reader.take(1)[0]
    if method == STORED:
        raw = reader.rest()
        if len(raw) > limit:
            raise FormatError("it is larger than the format allows")
        return raw
    if method not in (DEFLATE, LZMA2):
        raise FormatError("its packing method is unknown: made by a newer version")
    length = reader.varint(limit)
    try:
        raw = _unpack(method, reader.rest(), length)
    except (zlib.error, lzma.LZMAError, EOFError, MemoryError):
        raise FormatError("it does not unpack") from None
    if len(raw) != length:
        raise FormatError("it does not unpack to its declared length")
    return raw


def _unpack(method: int, data: bytes, length: int) -> bytes:
    """Return at most ``length`` + 1 bytes; the extra byte indicates excess data."""
    if method == DEFLATE:
        inflate = zlib.decompressobj(-15)
        raw = inflate.decompress(data, length + 1)
        complete = inflate.eof and not inflate.unused_data
    else:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(length))
        raw = decoder.decompress(data, length + 1)
        complete = decoder.eof and not decoder.unused_data
    if not complete:
        raise FormatError("it does not unpack to its declared length")
    return raw


def _filters(length: int) -> list[dict[str, Any]]:
    # Matches cannot reach back past the data; the stream does not store the dictionary size.
    size = max(4096, min(_LARGE, length))
    return [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": size, "lc": 3, "lp": 0, "pb": 0}]
