"""Estimated bits of each of several pictures that share a stack: used for choices, never for coding.

Choices decide which bytes are written, so a price is the same on every machine. The tables come from decimal arithmetic; a
symbol's price is element-wise float64, which IEEE 754 rounds correctly, rounded to a multiple of 2^-PRICE_BITS bits; and
sums of such multiples stay below 2^53 of them, exact in whatever order a machine adds them up.
"""

from decimal import Context, Decimal
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.tables import GREY_LEVELS, LATTICE_GRID, MEAN_BITS, PIXEL_GRID, PRECISION, Ints, ScaleGrid

Floats = NDArray[np.float64]
Indices = NDArray[np.integer[Any]]

PRICE_BITS = 16
"""Fractional bits of the price of a symbol."""

DEAREST = float(PRECISION + 48)
"""Bits of the dearest symbol, one that its table lacks: an escape of frequency 1, and 48 bits for its value."""

_UNIT = 2.0**-PRICE_BITS
_LN2 = Decimal("0.693147180559945309417232121458")
_TWO_PI = Decimal("6.28318530717958647692528676656")
_DECIMAL = Context(prec=25)


def lattice_bits(n: Indices, mean: Ints, scale_index: Indices) -> Floats:
    """Return the bits of each picture's lattice points under N(mean, scale^2), [B].

    Args:
        n: lattice points [B, ...].
        mean: with MEAN_BITS fractional bits, the same shape.
        scale_index: of LATTICE_GRID, the same shape.
    """
    return _sums(_prices(n - mean * 2.0**-MEAN_BITS, *_lattice_tables(), scale_index))


def pixel_bits(x: Indices, mean: Ints, scale_index: Indices) -> Floats:
    """Return the bits of each picture's grey levels, about, [B]: see :func:`lattice_bits`, with PIXEL_GRID."""
    distance = x - np.clip(mean * 2.0**-MEAN_BITS, 0.0, GREY_LEVELS - 1.0)
    prices = _prices(distance, *_pixel_tables(), scale_index)
    # Where the density is higher than one, the mass of the interval is not.
    return _sums(np.maximum(prices, 0.0, out=prices))


def _prices(distance: Floats, constants: Floats, weights: Floats, scale_index: Indices) -> Floats:
    """Return a + b distance^2 of each symbol, at most DEAREST, in whole units."""
    prices: Floats = weights.take(scale_index)
    prices *= distance
    prices *= distance
    prices += constants.take(scale_index)
    np.minimum(prices, DEAREST / _UNIT, out=prices)
    return np.rint(prices, out=prices)


def _sums(prices: Floats) -> Floats:
    sums: Floats = prices.reshape(len(prices), -1).sum(axis=1) * _UNIT
    return sums


@cache
def _lattice_tables() -> tuple[Floats, Floats]:
    return _gaussians(LATTICE_GRID, Decimal(0))


@cache
def _pixel_tables() -> tuple[Floats, Floats]:
    # A grey level stands for an interval of width one, whose own variance is 1/12.
    return _gaussians(PIXEL_GRID, _DECIMAL.divide(1, 12))


def _gaussians(grid: ScaleGrid, more: Decimal) -> tuple[Floats, Floats]:
    """Return a and b, in units, of -log2 N(x; 0, scale^2 + more) = a + b x^2 for each scale of a grid."""
    d = _DECIMAL
    variances = [d.add(d.multiply(Decimal(scale), Decimal(scale)), more) for scale in grid.scales.tolist()]
    constants = [d.divide(d.ln(d.multiply(_TWO_PI, variance)), 2 * _LN2) for variance in variances]
    weights = [d.divide(1, d.multiply(2 * _LN2, variance)) for variance in variances]
    return np.array([float(a) for a in constants]) / _UNIT, np.array([float(b) for b in weights]) / _UNIT
