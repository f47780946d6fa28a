"""Small blobs, packed by whichever of three ways is smallest, and unpacked under a limit."""

import lzma
import zlib
from typing import Any, Final

from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

STORED: Final = 0
DEFLATE: Final = 1
LZMA2: Final = 2

_LARGE: Final = 1 << 23
"""Beyond this LZMA takes seconds, and what is large is mostly metadata that does not shrink."""


def pack(data: bytes) -> bytes:
    """Return method byte, for methods other than stored the raw length, and the packed bytes (no length of them)."""
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
    """Undo :func:`pack`, never making more than the ``limit`` and the declared length.

    Raises:
        FormatError: the method is unknown, or the data are not what they say.
    """
    reader = Reader(data)
    method = reader.take(1)[0]
    if method == STORED:
        raw = reader.rest()
        if len(raw) > limit:
            raise FormatError("it is larger than the format allows")
        return raw
    if method not in (DEFLATE, LZMA2):
        raise FormatError("it is packed in an unknown way: made by a newer version")
    length = reader.varint(limit)
    try:
        raw = _unpack(method, reader.rest(), length)
    except (zlib.error, lzma.LZMAError, EOFError, MemoryError):
        raise FormatError("it does not unpack") from None
    if len(raw) != length:
        raise FormatError("it does not unpack to its length")
    return raw


def _unpack(method: int, data: bytes, length: int) -> bytes:
    """Return at most one byte more than ``length``; that byte shows that there is too much."""
    if method == DEFLATE:
        inflate = zlib.decompressobj(-15)
        raw = inflate.decompress(data, length + 1)
        complete = inflate.eof and not inflate.unused_data
    else:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(length))
        raw = decoder.decompress(data, length + 1)
        complete = decoder.eof and not decoder.unused_data
    if not complete:
        raise FormatError("it does not unpack to its length")
    return raw


def _filters(length: int) -> list[dict[str, Any]]:
    # No match reaches back further than the data go; the stream itself does not say the size of the dictionary.
    size = max(4096, min(_LARGE, length))
    return [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": size, "lc": 3, "lp": 0, "pb": 0}]
