"""RMSE and PSNR between two pictures."""

import math

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.units import GREY_MAX

Pixels = NDArray[np.uint8]


def check_rgb(pixels: Pixels, what: str = "picture") -> None:
    """Check that an array is an 8-bit RGB picture.

    Args:
        pixels: the array.
        what: its name in the message.

    Raises:
        InputError: it is not uint8 [H, W, 3] with at least one pixel.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InputError(f"{what}: must be uint8 [H, W, 3], not {pixels.dtype} {list(pixels.shape)}")


def check_pair(original: Pixels, decoded: Pixels) -> None:
    """Check that two pictures can be compared.

    Raises:
        InputError: their shapes differ, or one is not 8-bit RGB.
    """
    if original.shape != decoded.shape:
        raise InputError(f"pictures differ in shape: {list(original.shape)} and {list(decoded.shape)}")
    check_rgb(original)
    check_rgb(decoded)


def rmse_255(original: Pixels, decoded: Pixels) -> float:
    """Return ``sqrt(mean (x - y)^2)`` over all sub-pixels, in grey levels.

    Args:
        original: x, [H, W, 3].
        decoded: y, [H, W, 3].

    Raises:
        InputError: see :func:`check_pair`.
    """
    check_pair(original, decoded)
    difference = original.astype(np.float64) - decoded
    return math.sqrt(float(np.mean(difference * difference)))


def psnr_db(original: Pixels, decoded: Pixels) -> float:
    """Return ``20 log10(255 / RMSE)`` over all sub-pixels in dB; infinity for equal pictures.

    Args:
        original: [H, W, 3].
        decoded: [H, W, 3].

    Raises:
        InputError: see :func:`check_pair`.
    """
    error = rmse_255(original, decoded)
    return 20.0 * math.log10(GREY_MAX / error) if error > 0.0 else math.inf
