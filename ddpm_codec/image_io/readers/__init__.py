"""Readers of image files, one module a format: every sample as the file holds it, or an error that says what would be lost.

A reader is a module with two functions, see :class:`Reader`. What it does not know to be exact, it refuses.
"""

from pathlib import PurePath
from typing import BinaryIO, Final, Protocol

from ddpm_codec.image_io.readers import (
    avif,
    bmp,
    gif,
    ico,
    jpeg,
    jpeg2000,
    pcx,
    png,
    pnm,
    psd,
    qoi,
    sgi,
    tga,
    tiff,
    webp,
)
from ddpm_codec.image_io.signatures import HEAD_BYTES, sniff
from ddpm_codec.image_io.stored import Header, ReadPicture

__all__ = ["READERS", "Reader", "format_of"]


class Reader(Protocol):
    """Reads files of one format."""

    def header(self, file: BinaryIO) -> Header:
        """Return what the headers of a file say; no pixels are unpacked.

        Args:
            file: a seekable file of this format, read from its start.

        Raises:
            InputError: the file is damaged, or holds something that would be lost; the line does not begin with a name.
        """

    def read(self, file: BinaryIO, name: str) -> ReadPicture:
        """Return the picture of a file; of several, the one that :attr:`Header.taken` tells.

        Args:
            file: a seekable file of this format, read from its start; its header has been looked at.
            name: the name of the picture.

        Raises:
            InputError: as for :meth:`header`, and for damage that only decoding shows.
        """


READERS: Final[dict[str, Reader]] = {
    "PNG": png,
    "JPEG": jpeg,
    "TIFF": tiff,
    "GIF": gif,
    "PSD": psd,
    "QOI": qoi,
    "JPEG2000": jpeg2000,
    "WEBP": webp,
    "AVIF": avif,
    "PPM": pnm,
    "BMP": bmp,
    "ICO": ico,
    "PCX": pcx,
    "SGI": sgi,
    "TGA": tga,
}
"""By the name that :func:`format_of` gives a format."""

_TGA_SUFFIXES: Final = frozenset({".tga", ".icb", ".vda", ".vst"})


def format_of(file: BinaryIO, name: str) -> str | None:
    """Return the format of a file by its contents; None if it is not known.

    Args:
        file: a seekable file.
        name: its name: TGA files have no signature, so their suffix tells.
    """
    file.seek(0)
    found = sniff(file.read(HEAD_BYTES))
    file.seek(0)
    if found is None and PurePath(name).suffix.lower() in _TGA_SUFFIXES:
        return "TGA"
    return found
