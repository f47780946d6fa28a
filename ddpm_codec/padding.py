"""Cuts and pads arrays of pixels: up to whole blocks, and down to their middle."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def pad_to_multiple(pixels: NDArray[Scalar], multiple: int = 8, axes: tuple[int, int] = (-2, -1)) -> NDArray[Scalar]:
    """Repeat the last row and the last column until both sides are multiples of ``multiple``.

    Args:
        pixels: any layout; the array itself is returned where it fits already.
        multiple: of both sides, in pixels.
        axes: the axes of the height and the width; (-2, -1) of [..., H, W], (0, 1) of [H, W, C].
    """
    missing = [-pixels.shape[axis] % multiple for axis in axes]
    if not any(missing):
        return pixels
    widths = [(0, 0)] * pixels.ndim
    for axis, count in zip(axes, missing, strict=True):
        widths[axis] = (0, count)
    return np.pad(pixels, widths, mode="edge")


def centre_crop(pixels: NDArray[Scalar], height: int, width: int) -> NDArray[Scalar]:
    """Return the middle of [H, W, ...] as a view, ``height`` x ``width`` pixels, or less where the picture has less."""
    height, width = min(height, pixels.shape[0]), min(width, pixels.shape[1])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]
