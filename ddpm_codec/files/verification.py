"""Compares what a file decodes to with what was encoded."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import Picture

UNLIMITED: Final = 1 << 62
"""Pixel limit for files that were just written."""


def picture_digest(picture: Picture) -> bytes:
    """Return a SHA-256 of the pixels and the picture info."""
    return hashlib.sha256(repr(picture.info).encode("utf-8", "surrogateescape") + picture.pixels).digest()


def compare(decoder: ArchiveDecoder, digests: list[bytes]) -> None:
    """Decode an archive and compare it with the encoded pictures.

    Args:
        decoder: decoder of the archive.
        digests: digests of the encoded pictures, in order; see :func:`picture_digest`.

    Raises:
        FormatError: a picture is missing or differs.
    """
    seen: set[int] = set()
    for index, picture in decoder.pictures():
        seen.add(index)
        if picture_digest(picture) != digests[index]:
            raise FormatError(f"{picture.name}: does not decode to the same picture")
    if len(seen) != len(digests):
        raise FormatError(f"{len(digests) - len(seen)} pictures are missing after decoding")


@contextmanager
def named_after(target: Path) -> Iterator[None]:
    """Add to an error of verification that nothing was written."""
    try:
        yield
    except FormatError as error:
        named = "" if str(target) in str(error) else f"{target}: "
        raise FormatError(f"{named}{error}; nothing was written") from error
