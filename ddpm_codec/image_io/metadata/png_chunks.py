"""Chunks of PNG files, and the bytes in which ``png`` metadata hold them (PNG specification, 3rd edition, section 5)."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD: Final = b"XML:com.adobe.xmp"

BEFORE_PLTE: Final = frozenset({b"cHRM", b"cICP", b"cLLI", b"gAMA", b"iCCP", b"mDCV", b"sBIT", b"sRGB"})
"""Chunks that must precede the palette; all others may stand between palette and pixels."""

_PIXELS: Final = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
_CRITICAL: Final = 0x20
"""Bit of a type's first letter that is clear in chunks that every reader must understand."""


class Chunk(NamedTuple):
    """A chunk: type, data, and whether its checksum is right."""

    type: bytes
    data: bytes
    intact: bool = True

    @property
    def critical(self) -> bool:
        """Whether a reader must understand it."""
        return not self.type[0] & _CRITICAL

    @property
    def name(self) -> str:
        """The type as text."""
        return self.type.decode("latin-1")

    def to_bytes(self) -> bytes:
        """Return it as it stands in a file."""
        head = struct.pack(">I", len(self.data)) + self.type
        return b"".join((head, self.data, struct.pack(">I", zlib.crc32(self.data, zlib.crc32(self.type)))))


class Places(NamedTuple):
    """Ancillary chunks by where they stand: before the palette, between it and the pixels, behind the pixels."""

    before_palette: list[Chunk]
    before_pixels: list[Chunk]
    behind_pixels: list[Chunk]

    def types(self) -> list[list[bytes]]:
        """Return the types, for comparison."""
        return [[chunk.type for chunk in part] for part in self]


def chunks_of(file: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG file up to ``IEND``, or to where it is cut short or no type follows."""
    at = len(SIGNATURE)
    while at + 12 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        end = at + 12 + length
        if end > len(file) or not kind.isalpha():
            return
        data = file[at + 8 : end - 4]
        yield Chunk(kind, data, file[end - 4 : end] == struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
        if kind == b"IEND":
            return
        at = end


def without_metadata(file: bytes) -> bytes:
    """Return a PNG file without its metadata: pixels, palette, transparency and frames as they are, damage included.

    Readers that give up on a picture for the sake of a text chunk can read this.
    """
    kept, at = [file[: len(SIGNATURE)]], len(SIGNATURE)
    while at + 12 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        end = at + 12 + length
        if end > len(file) or not kind.isalpha():
            break
        if not kind[0] & _CRITICAL or kind in _PIXELS:
            kept.append(file[at:end])
        at = end
        if kind == b"IEND":
            return b"".join(kept)
    return b"".join((*kept, file[at:]))


def pack(places: Places, *, palette: bool) -> bytes:
    """Return chunks as ``png`` metadata. An empty ``IDAT`` stands for the pixels if chunks follow them.

    Args:
        places: the chunks.
        palette: whether the file has a palette of its own. An empty ``PLTE`` stands for it where the chunks' types do not
            tell on which side of it they were.
    """
    middle = [*places.before_palette, *places.before_pixels]
    if palette and split(middle, palette=True).types() != [*places.types()[:2], []]:
        middle = [*places.before_palette, Chunk(b"PLTE", b""), *places.before_pixels]
    tail = [Chunk(b"IDAT", b""), *places.behind_pixels] if places.behind_pixels else []
    return b"".join(chunk.to_bytes()[:-4] for chunk in (*middle, *tail))


def unpack(data: bytes) -> list[Chunk]:
    """Read ``png`` metadata.

    Raises:
        ValueError: they are damaged.
    """
    found, at = [], 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("is cut short")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end > len(data) or not kind.isalpha():
            raise ValueError("is damaged")
        found.append(Chunk(kind, data[at + 8 : end]))
        at = end
    return found


def split(chunks: Iterable[Chunk], *, palette: bool) -> Places:
    """Tell where the chunks of :func:`unpack` stand in a file; the empty ``PLTE`` and ``IDAT`` are gone.

    Args:
        chunks: what is to be placed.
        palette: whether the file has a palette of its own.
    """
    listed = list(chunks)
    pixels = next((at for at, chunk in enumerate(listed) if chunk.type == b"IDAT"), len(listed))
    middle, behind = listed[:pixels], listed[pixels + 1 :]
    at = next((at for at, chunk in enumerate(middle) if chunk.type == b"PLTE"), None)
    if at is not None:
        return Places(middle[:at], [chunk for chunk in middle[at:] if chunk != Chunk(b"PLTE", b"")], behind)
    if not palette:
        return Places([], middle, behind)
    before = [chunk for chunk in middle if chunk.type in BEFORE_PLTE]
    return Places(before, [chunk for chunk in middle if chunk.type not in BEFORE_PLTE], behind)


def keyword(chunk: Chunk) -> bytes:
    """Return the keyword of a text chunk."""
    return chunk.data.partition(b"\0")[0]


def international_text(chunk: Chunk) -> tuple[bytes, bool]:
    """Return the text of an ``iTXt`` chunk as it is stored, and whether it is compressed.

    Raises:
        ValueError: the chunk is cut short, or compressed by an unknown method.
    """
    _, separator, rest = chunk.data.partition(b"\0")
    parts = rest[2:].split(b"\0", 2)
    if not separator or len(parts) != 3 or rest[0] > 1 or (rest[0] and rest[1]):
        raise ValueError("it is malformed")
    return parts[2], bool(rest[0])


def chunks_came_back(written: bytes, read: bytes) -> bool:
    """Whether ``png`` metadata hold all chunks of others, in their order; further ones may be between them."""
    left = iter(unpack(read))
    return all(any(chunk == other for other in left) for chunk in unpack(written))
