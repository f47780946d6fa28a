"""From a loaded Pillow image to exact bytes, and back."""

import sys
from typing import Final

import numpy as np
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.picture import MODES, Palette, Picture, Transparency

MAX_PALETTE: Final = 256


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
    raise InputError("its transparent colour is of an unknown kind")


def to_image(picture: Picture) -> Image.Image:
    """Return a picture as a Pillow image, palette, transparency and metadata included."""
    image = Image.frombytes(picture.mode, picture.size, _little_endian(picture.mode, picture.pixels))
    if picture.palette is not None:
        image.putpalette(picture.palette.colours, "RGB" if picture.palette.channels == 3 else "RGBA")
    if picture.transparency is not None:
        image.info["transparency"] = picture.transparency
    for ours, theirs in (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp")):
        if ours in picture.metadata:
            image.info[theirs] = picture.metadata[ours]
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
