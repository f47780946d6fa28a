"""Chunks of WebP files (WebP Container Specification), and the metadata in them."""

import struct
from collections.abc import Iterator
from typing import Final

from ddpm_codec.image_io.metadata.found import Found
from ddpm_codec.picture import MetadataKey

KEYS: Final[dict[bytes, MetadataKey]] = {b"ICCP": "icc", b"EXIF": "exif", b"XMP ": "xmp"}
_OF_THE_PICTURE: Final = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})


def riff_chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, data) of each chunk up to the end that the header gives, or to where the file is cut short."""
    at, end = 12, min(len(file), 8 + struct.unpack_from("<I", file, 4)[0])
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", file, at)
        if at + 8 + length > end:
            return
        yield kind, file[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def riff_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk as it stands in a file."""
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def read_webp(file: bytes, found: Found) -> None:
    """Find the metadata of a WebP file."""
    others: set[str] = set()
    for kind, data in riff_chunks(file):
        if kind in KEYS:
            found.keep(KEYS[kind], data)
        elif kind not in _OF_THE_PICTURE:
            others.add(kind.decode("latin-1").strip())
    found.leave_out(others, "WebP chunks that are not kept")
