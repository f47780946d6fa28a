"""What the functions of the API have in common: images, models, devices and threads as arguments."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ddpm_codec.codecs.tiling import CodingOptions, checked_options
from ddpm_codec.errors import InputError
from ddpm_codec.image_io import picture_from_image
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture, picture_from_array

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession, Model


Image = NDArray[Any] | PIL.Image.Image
"""An image to encode: a uint8, uint16, uint32 or float32 array [H, W] (grey), [H, W, 2] (grey, alpha), [H, W, 3] (RGB) or
[H, W, 4] (RGBA), or a Pillow image of any mode, with its palette, transparency, ICC profile, EXIF, XMP,
comment and density."""

PICTURE_NAME = "picture.png"
"""What a single picture is called."""


def named_picture(pair: tuple[str, Image]) -> Picture:
    """Return a pair of name and image as a picture.

    Raises:
        InputError: see :func:`as_picture`.
        TypeError: it is no such pair.
    """
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
        raise TypeError("images are a mapping from names to images, or pairs of a name (text) and an image")
    return as_picture(pair[1], pair[0])


def as_picture(image: Image, name: str) -> Picture:
    """Return an image as a picture.

    Raises:
        InputError: its shape, mode or name cannot be used.
        TypeError: it is neither an array of such a type nor a Pillow image.
    """
    if isinstance(image, PIL.Image.Image):
        return picture_from_image(image, name)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is a NumPy array or a Pillow image, not {type(image).__name__}")
    return picture_from_array(image, name)


def opened_model(model: "ModelName | Model", device: str) -> "Model":
    """Return an open model. A model that is already open stays on its device."""
    from ddpm_codec.codecs.session import Model, cached_model

    device_name(device)
    if isinstance(model, str | os.PathLike):
        if model == "none":
            raise InputError("model none: only encode without progressive works without a model")
        return cached_model(model, device)
    if not isinstance(model, Model):
        raise TypeError(f"a model is a name, a path or an open model, not {type(model).__name__}")
    if device not in ("auto", model.device.type):
        raise InputError(f"device {device}: the model was opened on {model.device.type}")
    return model


def session_of(model: "ModelName | Model", device: str, steps: int | None) -> "CodingSession | None":
    """Return the session that encodes; None for the fallback alone, model ``none``."""
    return None if isinstance(model, str) and model == "none" else opened_model(model, device).session(steps)


def device_name(device: str) -> str:
    """Return the name of a device, checked.

    Raises:
        InputError: there is no such name.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {device!r}: use auto, cpu or cuda")
    return device


def cut_options(session: "CodingSession | None", block_pixels: int, tile: int | None) -> CodingOptions:
    """Return the sizes of blocks and tiles; ``tile`` None is the model's own.

    Raises:
        InputError: they make no sense.
    """
    own = 256 if session is None else session.model.tile
    return checked_options(block_pixels, own if tile is None else tile)
