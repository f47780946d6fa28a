"""Arithmetic around the network that both codecs share: integers and correctly rounded float64 only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.exact_math import exact_exp
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import FormatError
from ddpm_codec.nn import integer
from ddpm_codec.units import GREY_PER_UNIT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Indices = NDArray[np.int32]

GREY2 = GREY_PER_UNIT * GREY_PER_UNIT
"""Variances in grey levels are so many times those in model values."""

_SHIFT = 20
"""Fractional bits while a picture is put together from coefficients."""

_FARTHEST = float(1 << 24)
"""Grey levels: only damaged data hold latents beyond, and arithmetic stays exact up to here."""


def grey_variances() -> Floats:
    """Return the variance that each index of a prediction stands for, in grey levels squared."""
    logs = integer.log_variances()
    variance = exact_exp(-np.abs(logs))
    return np.where(logs > 0, 1.0 / variance, variance) * GREY2


def norms(transform: BlockTransform) -> Floats:
    """Return the norm of each row of M, [1, D, 1, 1]."""
    return np.sqrt(transform.norms2.astype(np.float64))[None, :, None, None]


def noisy_picture(transform: BlockTransform, values: NDArray[np.int32], unit: float) -> Ints:
    """Return W^T z as the network reads it, (grey - 127.5) 2**PICTURE_BITS, [B, 3, H, W].

    Args:
        transform: W.
        values: z in units of ``unit`` grey levels, [B, D, h, w].
        unit: size of one.

    Raises:
        FormatError: a latent that no encoder draws.
    """
    # Python integers: the absolute value of the smallest int32 is not one.
    if max(int(values.max(initial=0)), -int(values.min(initial=0))) * unit > _FARTHEST:
        raise FormatError("its entropy-coded data is damaged")
    fixed = np.rint(values * (unit / norms(transform) * 2.0**_SHIFT)).astype(np.int64)
    # One factor 1/norm of M^T N^-1/2 is in `fixed`; M^T itself is exact.
    drop = _SHIFT - integer.PICTURE_BITS
    return (transform.inverse_exact(fixed) + (1 << (drop - 1))) >> drop


def rounded(values: NDArray[np.floating[Any]]) -> Ints:
    """Return the nearest integers, halves to even."""
    nearest: Ints = np.rint(values).astype(np.int64)
    return nearest
