"""Pillow images to exact bytes, and back."""

import sys
from typing import Final

import numpy as np
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.found import in_order
from ddpm_codec.image_io.metadata.pillow_info import metadata_of_info, metadata_to_info
from ddpm_codec.picture import MODES, MetadataKey, Palette, Picture, Transparency

MAX_PALETTE: Final = 256

_EXIF_PREFIX: Final = b"Exif\0\0"
_X_RESOLUTION: Final = 282
_XMP_TAG: Final = 700
# Of a TIFF file's tags, those that describe the picture and not how the file stores it: description, camera,
# orientation, software, date, artist, copyright. Then the two sub-directories, EXIF and GPS.
_DESCRIPTIVE_TAGS: Final = (270, 271, 272, 274, 305, 306, 315, 33432)
_SUB_DIRECTORIES: Final = (34665, 34853)


def pixels_of(image: Image.Image) -> bytes:
    """Return the pixels of an image in the layout of :mod:`ddpm_codec.picture`."""
    return _little_endian(image.mode, image.tobytes())


def palette_of(image: Image.Image) -> Palette | None:
    """Return the palette of a P or PA image, without the alpha that ``info["transparency"]`` repeats."""
    if not MODES[image.mode].has_palette:
        return None
    kind = image.im.getpalettemode()
    own_alpha = kind == "RGBA" and "transparency" not in image.info
    mode = "RGBA" if own_alpha else "RGB"
    return Palette(len(mode), bytes(image.getpalette(mode) or ()))


def transparency_of(image: Image.Image) -> Transparency | None:
    """Return ``info["transparency"]`` in units of the samples.

    Raises:
        InputError: Pillow gave something that is neither a value, alphas nor a colour.
    """
    value = image.info.get("transparency")
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, bytes | bytearray) and len(value) <= MAX_PALETTE:
        return bytes(value)
    if isinstance(value, tuple) and all(isinstance(part, int) for part in value):
        return value
    raise InputError(f"transparency of type {type(value).__name__} is not supported")


def to_image(picture: Picture) -> Image.Image:
    """Return a picture as a Pillow image: palette, transparency, ICC profile, EXIF, XMP, comment and density included.

    Raises:
        InputError: Pillow has no mode for the samples, such as 16-bit colour, or they are not white at 255 or 65535.
    """
    if not picture.info.layout.in_pillow:
        raise InputError(f"{picture.name}: Pillow has no mode for samples of mode {picture.mode}; decode to an array")
    if picture.info.white is not None:
        raise InputError(
            f"{picture.name}: Pillow has no mode for samples that are white at {picture.info.white}; decode to an array"
        )
    image = Image.frombytes(picture.mode, picture.size, _little_endian(picture.mode, picture.pixels))
    if picture.palette is not None:
        image.putpalette(picture.palette.colours, "RGB" if picture.palette.channels == 3 else "RGBA")
    if picture.transparency is not None:
        image.info["transparency"] = picture.transparency
    image.info.update(metadata_to_info(picture.metadata))
    return image


def colours(palette: Palette | None, transparency: Transparency | None) -> object:
    """Return what a palette and a transparent colour mean, in a form that compares equal where the meaning is.

    With a palette: all 256 entries as RGBA, of which those that are not there count as opaque black. Without: the
    transparent colour.
    """
    if palette is None:
        return transparency
    entries = np.full((MAX_PALETTE, 4), 255, np.uint8)
    entries[:, :3] = 0
    given = np.frombuffer(palette.colours, np.uint8).reshape(-1, palette.channels)
    entries[: len(given), : palette.channels] = given
    if isinstance(transparency, bytes):
        entries[: len(transparency), 3] = np.frombuffer(transparency, np.uint8)
    elif isinstance(transparency, int) and 0 <= transparency < MAX_PALETTE:
        entries[transparency, 3] = 0
    return entries.tobytes()


def _little_endian(mode: str, pixels: bytes) -> bytes:
    """Convert 32-bit samples between the machine's byte order and the file's."""
    if sys.byteorder == "big" and MODES[mode].sample_bits == 32:
        return np.frombuffer(pixels, "<u4").byteswap().tobytes()
    return pixels


def metadata_of(image: Image.Image) -> dict[MetadataKey, bytes]:
    """Return ICC, EXIF, XMP, comment and density of a loaded image, as Pillow has them."""
    found = metadata_of_info(image.info, image.format)
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        found.pop("exif", None)
        if _X_RESOLUTION not in tags:
            # Pillow has a density nevertheless.
            found.pop("density", None)
        xmp, exif = tags.get(_XMP_TAG), _tiff_exif(image)
        if isinstance(xmp, bytes) and xmp:
            found.setdefault("xmp", xmp)
        if exif:
            found["exif"] = exif.removeprefix(_EXIF_PREFIX)
    return in_order(found)


def _tiff_exif(image: Image.Image) -> bytes:
    """Return the descriptive tags of a TIFF file as EXIF, which there is spread among the structural ones."""
    exif, kept = image.getexif(), Image.Exif()
    for tag in _DESCRIPTIVE_TAGS:
        if tag in exif:
            kept[tag] = exif[tag]
    for tag in _SUB_DIRECTORIES:
        entries = exif.get_ifd(tag)
        if entries:
            kept[tag] = entries
    return kept.tobytes() if len(kept) else b""
