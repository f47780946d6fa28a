"""Writes :class:`Picture` to image files that hold it exactly."""

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import PngImagePlugin, TiffImagePlugin

from ddpm_codec.atomic import new_file
from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import MAX_PALETTE, colours, palette_of, pixels_of, to_image, transparency_of
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.picture import METADATA_KEYS, MODES, MetadataKey, Picture, PictureInfo

MAX_WEBP_SIDE: Final = 16383
MAX_PNG_ICC_BYTES: Final = 1 << 20
"""Pillow refuses PNG files whose profile unpacks to more."""

_FORMATS: Final = {
    ".png": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".ppm": "ppm",
    ".pgm": "ppm",
    ".pbm": "ppm",
    ".pnm": "ppm",
    ".bmp": "bmp",
    ".npy": "npy",
}
_HOLDS: Final = {
    "png": frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}),
    "webp": frozenset({"RGB", "RGBA"}),
    "tiff": frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"}),
    "ppm": frozenset({"1", "L", "RGB"}),
    "bmp": frozenset({"1", "L", "P", "RGB"}),
    "npy": frozenset(MODES),
}
_EXTENSIONS: Final = {"png": ".png", "tiff": ".tiff", "npy": ".npy"}
_UNCOMPRESSED_TIFF: Final = frozenset({"YCbCr", "I;16B"})
"""Modes that Pillow's own TIFF writer holds and libtiff's compressing one does not."""


def default_extension(picture: PictureInfo) -> str:
    """Return ``.png`` where PNG holds the picture, else ``.tiff``, else ``.npy`` (an array; modes that no format has)."""
    for kind, extension in _EXTENSIONS.items():
        if _obstacle(picture, kind) is None:
            return extension
    return ".npy"


def write_picture(picture: Picture, path: Path, *, overwrite: bool = False) -> list[str]:
    """Write a picture to a lossless format, chosen by the extension, and read it back before it counts as written.

    ``.npy`` holds the pixels alone, as an array [height, width] or [height, width, channels].

    Args:
        picture: what to write.
        path: ends in .png, .webp, .tif(f), .ppm, .pgm, .pbm, .pnm, .bmp or .npy.
        overwrite: replace a file that is there.

    Returns:
        One line for each piece of metadata that the format does not hold; the pixels are exact always.

    Raises:
        InputError: the format is lossy or unknown, or does not hold this picture exactly.
        OutputExistsError: ``path`` is there.
        OutputError: it cannot be written.
    """
    kind = format_for(picture.info, path)
    metadata, warnings = _metadata_for(picture, kind)
    with new_file(path, overwrite=overwrite) as temporary:
        if kind == "npy":
            with temporary.open("wb") as file:
                np.save(file, picture.samples(), allow_pickle=False)
        elif not _write_proved(picture, temporary, kind, metadata):
            # Metadata that the format's writer chokes on must not cost the pixels.
            if not (metadata and _write_proved(picture, temporary, kind, {})):
                raise InputError(f"{path}: {kind} cannot hold this picture exactly; use {_better(picture.info, kind)}")
            names = ", ".join(key.upper() for key in metadata)
            warnings.append(f"{kind} does not take the {names} metadata of this picture; left out")
    return [f"{path}: {warning}" for warning in warnings]


def format_for(info: PictureInfo, path: Path) -> str:
    """Return the format that ``path`` names by its extension, checked to hold a picture exactly.

    Raises:
        InputError: the format is lossy or unknown, or does not hold this picture exactly.
    """
    extension = path.suffix.lower()
    kind = _FORMATS.get(extension)
    if kind is None:
        lossy = extension in {".jpg", ".jpeg", ".jpe", ".jp2", ".avif", ".heic", ".gif"}
        why = "would lose pixel values" if lossy else "is not a format that can be written"
        raise InputError(f"{path}: {extension or 'no extension'} {why}; use png, webp, tiff, ppm or bmp")
    obstacle = _obstacle(info, kind)
    if obstacle:
        raise InputError(f"{path}: {kind} cannot hold {obstacle} exactly; use {_better(info)}")
    return kind


def _obstacle(picture: PictureInfo, kind: str) -> str | None:
    """Return what of a picture a format cannot hold, or None."""
    if picture.mode not in _HOLDS[kind]:
        return f"mode {picture.mode}"
    if kind in ("png", "npy"):
        return None
    if picture.transparency is not None or (picture.palette is not None and picture.palette.channels == 4):
        return "a transparent colour"
    if kind == "webp" and max(picture.size) > MAX_WEBP_SIDE:
        return f"{picture.size[0]}x{picture.size[1]} pixels (at most {MAX_WEBP_SIDE} a side)"
    return None


def _better(picture: PictureInfo, failed: str = "") -> str:
    holding = [kind for kind in ("png", "tiff") if kind != failed and _obstacle(picture, kind) is None]
    return " or ".join(holding) or "npy"


def _metadata_for(picture: Picture, kind: str) -> tuple[dict[MetadataKey, bytes], list[str]]:
    """Return the metadata that a format holds, and a line for each piece that it does not."""
    kept: dict[MetadataKey, bytes] = {}
    warnings = []
    for key in METADATA_KEYS:
        if key not in picture.metadata:
            continue
        data = picture.metadata[key]
        if kind in ("ppm", "bmp", "npy"):
            warnings.append(f"{kind} does not hold {key.upper()} metadata; it is left out")
        elif kind == "png" and key == "icc" and len(data) > MAX_PNG_ICC_BYTES:
            warnings.append(f"the ICC profile of {len(data)} bytes is too large for png; it is left out")
        else:
            kept[key] = data
    return kept, warnings


def _write_proved(picture: Picture, path: Path, kind: str, metadata: dict[MetadataKey, bytes]) -> bool:
    """Write, read back, and return whether it is the same picture."""
    image = to_image(picture)
    for key in ("icc_profile", "exif", "xmp"):
        image.info.pop(key, None)
    attempts = [(image, options) for options in _save_options(picture, kind, metadata)]
    if picture.palette is not None:
        # Pillow spends on an index no more bits than the palette needs, and a pixel may lie beyond its palette.
        padded = image.copy()
        channels = picture.palette.channels
        full = picture.palette.colours.ljust(MAX_PALETTE * channels, b"\0")
        padded.putpalette(full, "RGB" if channels == 3 else "RGBA")
        attempts += [(padded, options) for _, options in attempts]
    for image, options in attempts:
        # Encoded in memory first: a format that refuses shows as such, and not as a failure of the disk.
        out = io.BytesIO()
        try:
            image.save(out, kind.upper(), **options)
        except Exception:  # Pillow raises almost anything on metadata it cannot parse
            continue
        if _proved(out, picture, kind):
            path.write_bytes(out.getbuffer())
            return True
    return False


def _save_options(picture: Picture, kind: str, metadata: dict[MetadataKey, bytes]) -> list[dict[str, Any]]:
    """Return the settings to try, best first."""
    options: dict[str, Any] = {}
    if "icc" in metadata:
        options["icc_profile"] = metadata["icc"]
    if "exif" in metadata:
        options["exif"] = b"Exif\0\0" + metadata["exif"]
    if kind == "png":
        if "xmp" in metadata:
            chunks = PngImagePlugin.PngInfo()
            chunks.add_itxt("XML:com.adobe.xmp", metadata["xmp"])
            options["pnginfo"] = chunks
        return [options]
    if kind == "tiff":
        if "xmp" in metadata:
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[700] = metadata["xmp"]
            options["tiffinfo"] = tags
        # Pillow hands compression to libtiff, which takes no sub-directories from it, and EXIF has some.
        if picture.mode in _UNCOMPRESSED_TIFF or "exif" in metadata:
            return [options]
        return [{**options, "compression": "tiff_adobe_deflate"}, options]
    if kind == "webp":
        if "xmp" in metadata:
            options["xmp"] = metadata["xmp"]
        return [{**options, "lossless": True, "exact": True, "method": 4}]
    return [options]


def _proved(file: io.BytesIO, picture: Picture, kind: str) -> bool:
    """Say whether what was written reads back as the picture."""
    try:
        return _same(file, picture, kind)
    except Exception:  # and its readers too
        return False


def _same(file: io.BytesIO, picture: Picture, kind: str) -> bool:
    file.seek(0)
    with opened(file, kind.upper()) as image:
        image.load()
        return (
            image.mode == picture.mode
            and image.size == picture.size
            and pixels_of(image) == picture.pixels
            and colours(palette_of(image), transparency_of(image)) == colours(picture.palette, picture.transparency)
        )
