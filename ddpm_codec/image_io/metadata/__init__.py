"""Metadata of image files as the files store them, found by reading the files' own structure."""

from collections.abc import Callable
from typing import Final

from ddpm_codec.image_io.metadata.boxes import read_avif, read_jpeg2000
from ddpm_codec.image_io.metadata.found import LABELS, MAX_UNPACKED_BYTES, Found, in_order
from ddpm_codec.image_io.metadata.gif import read_gif
from ddpm_codec.image_io.metadata.headers import read_bmp, read_dib, read_pcx, read_pnm, read_qoi, read_sgi, read_tga
from ddpm_codec.image_io.metadata.jpeg import read_jpeg
from ddpm_codec.image_io.metadata.photoshop import read_psd
from ddpm_codec.image_io.metadata.png import keys_of_chunks, read_png
from ddpm_codec.image_io.metadata.png_chunks import chunks_came_back, without_metadata
from ddpm_codec.image_io.metadata.riff import read_webp
from ddpm_codec.picture import MetadataKey

__all__ = [
    "LABELS",
    "MAX_UNPACKED_BYTES",
    "chunks_came_back",
    "keys_of_chunks",
    "read_metadata",
    "without_metadata",
]

_READERS: Final[dict[str, Callable[[bytes, Found], None]]] = {
    "AVIF": read_avif,
    "BMP": read_bmp,
    "DIB": read_dib,
    "GIF": read_gif,
    "JPEG": read_jpeg,
    "JPEG2000": read_jpeg2000,
    "MPO": read_jpeg,
    "PCX": read_pcx,
    "PNG": read_png,
    "PPM": read_pnm,
    "PSD": read_psd,
    "QOI": read_qoi,
    "SGI": read_sgi,
    "TGA": read_tga,
    "WEBP": read_webp,
}


def read_metadata(file: bytes, kind: str) -> tuple[dict[MetadataKey, bytes], list[str]]:
    """Find the metadata of an image file, byte for byte as they are stored.

    Nothing is raised: metadata that are damaged are left out, and never cost the pixels.

    Args:
        file: the whole file.
        kind: Pillow's name of its format. Of those that are not listed here, nothing is found; TIFF has a reader of its own.

    Returns:
        The pieces, as :class:`~ddpm_codec.picture.PictureInfo` describes them, and a line for each that had to be left out.
    """
    found = Found()
    reader = _READERS.get(kind)
    if reader is not None:
        try:
            reader(file, found)
        except Exception as error:  # damage shows as almost anything, and what was found before it stays
            found.note(f"metadata are damaged and left out in part ({' '.join(str(error).split())[:100]})")
    return in_order(found.metadata), found.notes
