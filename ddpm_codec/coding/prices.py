"""What coding costs each of several pictures that share a stack, in real arithmetic: for choices, never for coding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.tables import GREY_LEVELS, LATTICE_GRID, MEAN_BITS, PIXEL_GRID, Ints

Floats = NDArray[np.float64]
Indices = NDArray[np.integer[Any]]


def _gaussian(variances: Floats) -> tuple[Floats, Floats]:
    """Return a and b of -log2 N(x; 0, variance) = a + b x^2."""
    return 0.5 * np.log2(2.0 * np.pi * variances), 0.5 / (np.log(2.0) * variances)


_LATTICE_CONSTANTS, _LATTICE_WEIGHTS = _gaussian(LATTICE_GRID.scales**2)
# A grey level stands for an interval of width one, whose own variance is 1/12.
_PIXEL_CONSTANTS, _PIXEL_WEIGHTS = _gaussian(PIXEL_GRID.scales**2 + 1.0 / 12.0)


def lattice_bits(n: Indices, mean: Ints, scale_index: Indices) -> Floats:
    """Return the bits of each picture's lattice points under N(mean, scale^2), [B].

    Args:
        n: lattice points [B, ...].
        mean: with MEAN_BITS fractional bits, the same shape.
        scale_index: of LATTICE_GRID, the same shape.
    """
    distance = _flat(n - mean * 2.0**-MEAN_BITS)
    index = _flat(scale_index)
    squares = np.einsum("bi,bi,bi->b", _LATTICE_WEIGHTS[index], distance, distance)
    bits: Floats = _LATTICE_CONSTANTS[index].sum(axis=1) + squares
    return bits


def pixel_bits(x: Indices, mean: Ints, scale_index: Indices) -> Floats:
    """Return the bits of each picture's grey levels, about, [B]: see :func:`lattice_bits`, with PIXEL_GRID."""
    distance = _flat(x - np.clip(mean * 2.0**-MEAN_BITS, 0.0, GREY_LEVELS - 1.0))
    index = _flat(scale_index)
    bits = _PIXEL_CONSTANTS[index] + _PIXEL_WEIGHTS[index] * distance * distance
    # Where the density is higher than one, the mass of the interval is not.
    sums: Floats = np.maximum(bits, 0.0).sum(axis=1)
    return sums


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)
