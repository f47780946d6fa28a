"""Pictures on their way through files: read, stripped, told apart and compared."""

import hashlib
from pathlib import Path

from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.errors import FormatError
from ddpm_codec.image_io import Picture, PictureInfo, read_picture

UNLIMITED = 1 << 62
"""Pixels: what was just written needs no limit."""


def read_stripped(path: Path, name: str, first_frame: bool, strip: bool) -> Picture:
    """Read a picture; with ``strip``, without its ICC, EXIF and XMP.

    Raises:
        InputError: it cannot be read.
    """
    picture = read_picture(path, first_frame=first_frame, name=name)
    if not strip:
        return picture
    info = picture.info
    bare = PictureInfo(info.name, info.mode, info.size, info.palette, info.transparency)
    return Picture(bare, picture.pixels)


def picture_digest(picture: Picture) -> bytes:
    """Return a SHA-256 of pixels and description."""
    return hashlib.sha256(repr(picture.info).encode("utf-8", "surrogateescape") + picture.pixels).digest()


def compare(decoder: ArchiveDecoder, digests: list[bytes]) -> None:
    """Decode an archive and compare with what was encoded.

    Args:
        decoder: of the archive.
        digests: of the pictures that were encoded, in order; see :func:`picture_digest`.

    Raises:
        FormatError: a picture did not come back.
    """
    seen: set[int] = set()
    for index, picture in decoder.pictures():
        seen.add(index)
        if picture_digest(picture) != digests[index]:
            raise FormatError(f"{picture.name}: did not come back as it was")
    if len(seen) != len(digests):
        raise FormatError(f"{len(digests) - len(seen)} pictures did not come back")
