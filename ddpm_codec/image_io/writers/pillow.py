"""Pixels written by Pillow, and read back before they count as written."""

import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import imagecodecs

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import MAX_PALETTE, colours, palette_of, pixels_of, to_image, transparency_of
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.picture import Picture


def saved(picture: Picture, kind: str, settings: Iterable[dict[str, Any]] = ({},)) -> bytes:
    """Return a file that shows a picture exactly.

    Args:
        picture: what to write; its metadata are not written.
        kind: Pillow's name of the format.
        settings: options of Pillow's writer, tried one after the other.

    Raises:
        InputError: none of them gives the picture; the message tells no file.
    """
    image = to_image(Picture(replace(picture.info, metadata={}), picture.pixels))
    attempts = [(image, options) for options in settings]
    if picture.palette is not None:
        # Pillow spends on an index no more bits than the palette needs, and a pixel may lie beyond its palette.
        padded = image.copy()
        channels = picture.palette.channels
        full = picture.palette.colours.ljust(MAX_PALETTE * channels, b"\0")
        padded.putpalette(full, "RGB" if channels == 3 else "RGBA")
        attempts += [(padded, options) for _, options in attempts]
    for attempt, options in attempts:
        out = io.BytesIO()
        try:
            attempt.save(out, kind, **options)
        except Exception:  # Pillow raises almost anything where a format does not suit a picture
            continue
        if shows(out.getvalue(), picture, kind):
            return out.getvalue()
    raise InputError(f"{kind.lower()} cannot hold this picture exactly")


def shows(file: bytes, picture: Picture, kind: str) -> bool:
    """Whether a file reads as a picture: mode, size, pixels, palette and transparent colour."""
    try:
        if kind == "WEBP":
            # Pillow's reader looks at the limit of pixels that belongs to the whole process.
            samples = imagecodecs.webp_decode(file)
            return samples.shape == picture.array().shape and samples.tobytes() == picture.pixels
        with opened(file, kind) as image:
            image.load()
            return (
                image.mode == picture.mode
                and image.size == picture.size
                and pixels_of(image) == picture.pixels
                and colours(palette_of(image), transparency_of(image)) == colours(picture.palette, picture.transparency)
            )
    except Exception:  # and its readers too
        return False
