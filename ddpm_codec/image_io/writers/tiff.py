"""Writes TIFF files."""

from typing import Any, Final

from PIL import TiffImagePlugin

from ddpm_codec.image_io.writers.pillow import saved
from ddpm_codec.picture import MetadataKey, Picture

_UNCOMPRESSED: Final = frozenset({"YCbCr", "I;16B"})
"""Modes that Pillow's own TIFF writer holds and libtiff's compressing one does not."""


def write_tiff(picture: Picture, metadata: dict[MetadataKey, bytes]) -> tuple[bytes, list[str]]:
    """Return a picture as a TIFF file, and a line for each piece of metadata that it does not hold.

    Raises:
        InputError: TIFF does not hold the picture.
    """
    options: dict[str, Any] = {}
    if "icc" in metadata:
        options["icc_profile"] = metadata["icc"]
    if "exif" in metadata:
        options["exif"] = b"Exif\0\0" + metadata["exif"]
    if "xmp" in metadata:
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[700] = metadata["xmp"]
        options["tiffinfo"] = tags
    # Pillow hands compression to libtiff, which takes no sub-directories from it, and EXIF has some.
    plain = picture.mode in _UNCOMPRESSED or "exif" in metadata
    settings = [options] if plain else [{**options, "compression": "tiff_adobe_deflate"}, options]
    notes = [
        f"tiff does not hold {key} metadata; it is left out" for key in metadata if key not in ("icc", "exif", "xmp")
    ]
    return saved(picture, "TIFF", settings), notes
