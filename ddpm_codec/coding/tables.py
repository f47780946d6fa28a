r"""Integer frequency tables, indexed by quantised scale and quantised fractional mean.

Latents live on a lattice, z = delta n, and are coded with the discrete Gaussian

    P(n) = exp(-(n - m)^2 / (2 s^2)) / Z,      m, s in units of delta,

sampled, not integrated over bins. By Poisson summation its mean, its variance, its convolutions and its relative
entropies are those of the continuous Gaussian up to terms of order exp(-2 pi^2 s^2): 1e-5 at s = 3/4. So a lattice as
coarse as delta = 4/3 sigma costs nothing, while bins at that width would cost several percent, and bits-back needs few
initial bits.

Frequencies are integers of PRECISION bits, each at least 1, with the exact sum 2**PRECISION. They come from
:mod:`~ddpm_codec.coding.exact_math` and integer arithmetic, so they are the same on every machine.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.exact_math import Floats, exact_exp, exact_normal_cdf

PRECISION = 24
MEAN_BITS = 16
"""Fractional bits of a mean, in lattice units or grey levels."""

FRACTION_BITS = 6
"""Fraction bins of pixel tables and of sampled posteriors, and of lattice tables of small scale."""

STEPS_PER_OCTAVE = 24
"""Neighbouring scales differ by 2.9 %: choosing the nearest costs at most 1e-4 bits."""

_WEIGHT_BITS = 36
_REACH = 8.0
"""Tables reach 8 standard deviations, and two more."""

GREY_LEVELS = 256


class ScaleGrid:
    """Log-spaced scales: smallest * 2**(i / STEPS_PER_OCTAVE).

    Args:
        smallest: scale of index 0.
        octaves: extent of the grid.
    """

    def __init__(self, smallest: float, octaves: int) -> None:
        count = octaves * STEPS_PER_OCTAVE + 1
        self.scales = _powers(smallest, [Decimal(i) / STEPS_PER_OCTAVE for i in range(count)])
        between = [(Decimal(i) + Decimal("0.5")) / STEPS_PER_OCTAVE for i in range(count - 1)]
        self._thresholds = _powers(smallest, between)

    def index(self, scale: Floats) -> NDArray[np.int64]:
        """Return the index of the scale nearest in logarithm; beyond the ends, of the last."""
        return np.searchsorted(self._thresholds, scale)


def _powers(smallest: float, exponents: list[Decimal]) -> Floats:
    """Return smallest * 2**exponent through decimal arithmetic, which does not depend on the platform."""
    return np.array([float(Decimal(smallest) * Decimal(2) ** exponent) for exponent in exponents])


LATTICE_GRID = ScaleGrid(0.25, 9)
PIXEL_GRID = ScaleGrid(0.05, 11)


def _fraction_bits(scale: float) -> int:
    """Return the bits of the fractional mean: fewer for wider tables, where they matter less (see module tests)."""
    bits = FRACTION_BITS
    while bits > 1 and scale >= 2.0 ** (FRACTION_BITS - bits):
        bits -= 1
    return bits


LATTICE_FRACTION_BITS = np.array([_fraction_bits(scale) for scale in LATTICE_GRID.scales], dtype=np.int64)


@dataclass(frozen=True)
class Table:
    """Frequencies of consecutive integers.

    Attributes:
        first: the integer of symbol 0.
        frequencies: int64, each >= 1, sum 2**PRECISION; with ``escape`` the last symbol stands for all other integers.
        escape: whether there is an escape symbol.
        model: the same table for the entropy coder.
    """

    first: int
    frequencies: NDArray[np.int64]
    escape: bool
    model: Any

    @property
    def count(self) -> int:
        """Integers in the table, the escape symbol not counted."""
        return len(self.frequencies) - self.escape


def integer_frequencies(weights: Floats, escape: bool) -> NDArray[np.int64]:
    """Turn non-negative weights into integers >= 1 with the sum 2**PRECISION, in exact integer arithmetic.

    Every symbol gets 1; what is left is dealt out in proportion, rounded down; the rest goes to the likeliest symbol. An
    escape symbol, of frequency 1, is appended.
    """
    largest = weights.max()
    scaled = np.rint(weights / largest * 2.0**_WEIGHT_BITS).astype(np.int64)
    count = len(weights) + escape
    spare = (1 << PRECISION) - count
    total = int(scaled.sum())
    # weight < 2**36 and spare < 2**24: the products fit 63 bits.
    frequencies = 1 + scaled * spare // total
    frequencies[int(scaled.argmax())] += (1 << PRECISION) - escape - int(frequencies.sum())
    return np.append(frequencies, 1) if escape else frequencies


def _table(first: int, weights: Floats, escape: bool) -> Table:
    frequencies = integer_frequencies(weights, escape)
    # The coder's own quantiser gives each symbol 1 and deals 2**24 - n out in proportion: with these "probabilities",
    # whose sum is exactly 2**24 - n, its proportion is one and its table is ours.
    model = constriction.stream.model.Categorical((frequencies - 1).astype(np.float64), perfect=False)
    return Table(first, frequencies, escape, model)


def _window(scale: float) -> int:
    return int(np.ceil(_REACH * scale)) + 2


@cache
def lattice_table(scale_index: int, fraction: int) -> Table:
    """Return the table of n - floor(m) for a scale of LATTICE_GRID and a bin of the fractional mean, with escape."""
    scale = float(LATTICE_GRID.scales[scale_index])
    weights = _discrete_gaussians(scale, int(LATTICE_FRACTION_BITS[scale_index]))[fraction]
    return _table(-_window(scale), weights, escape=True)


@cache
def sampling_table(scale: float, fraction: int) -> Table:
    """Return the table of n - floor(m) for an exact scale and one of 2**FRACTION_BITS bins, without escape."""
    return _table(-_window(scale), _discrete_gaussians(scale, FRACTION_BITS)[fraction], escape=False)


@cache
def _discrete_gaussians(scale: float, fraction_bits: int) -> Floats:
    """Return the weights of all fraction bins, [2**fraction_bits, offsets]."""
    window = _window(scale)
    offsets = np.arange(-window, window + 2, dtype=np.float64)
    distance = (offsets - _bin_centres(fraction_bits)) / scale
    return exact_exp(-0.5 * distance * distance)


def _bin_centres(fraction_bits: int) -> Floats:
    bins = 1 << fraction_bits
    return ((np.arange(bins, dtype=np.float64) + 0.5) / bins)[:, None]


def pixel_clip(floor: NDArray[np.int64], scale_index: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return (low, high): the first and last offset from ``floor`` of a pixel table.

    Where the window stays inside the grey range they are those of the window; elsewhere of the range's edge.
    """
    window = PIXEL_WINDOWS[scale_index]
    low, high = np.maximum(-floor, -window), np.minimum(GREY_LEVELS - 1 - floor, window + 1)
    return np.minimum(low, GREY_LEVELS - 1 - floor), np.maximum(high, -floor)


PIXEL_WINDOWS = np.array([_window(scale) for scale in PIXEL_GRID.scales], dtype=np.int64)


@cache
def pixel_table(scale_index: int, fraction: int, low: int, high: int) -> Table:
    """Return the table of x - floor(m), the mass of bin k being Phi((k + 1/2 - m)/s) - Phi((k - 1/2 - m)/s).

    Args:
        scale_index: of PIXEL_GRID.
        fraction: one of 2**FRACTION_BITS bins of the fractional mean.
        low: first offset; where it is above that of the window, it is grey level 0, whose bin is open.
        high: last offset; where it is below that of the window, it is grey level 255, whose bin is open.
    """
    window = int(PIXEL_WINDOWS[scale_index])
    black, white = low > -window, high < window + 1
    if low == high:
        return _table(low, np.ones(1), escape=not (black and white))
    inside, below, above = _pixel_masses(scale_index)
    first, last = low + window, high + window
    weights = inside[fraction, first : last + 1].copy()
    if black:
        weights[0] = below[fraction, first]
    if white:
        weights[-1] = above[fraction, last]
    return _table(low, weights, escape=not (black and white))


@cache
def _pixel_masses(scale_index: int) -> tuple[Floats, Floats, Floats]:
    """Return the masses of a bin, of it and all below, of it and all above: [2**FRACTION_BITS, offsets] each."""
    scale, window = float(PIXEL_GRID.scales[scale_index]), int(PIXEL_WINDOWS[scale_index])
    offsets = np.arange(-window, window + 2, dtype=np.float64) - _bin_centres(FRACTION_BITS)
    # Right of the mean the mirror image is as heavy, and there the distribution function is small and exact.
    near, far = (0.5 - np.abs(offsets)) / scale, (-0.5 - np.abs(offsets)) / scale
    inside = exact_normal_cdf(near) - exact_normal_cdf(far)
    return inside, exact_normal_cdf((offsets + 0.5) / scale), exact_normal_cdf((0.5 - offsets) / scale)


@cache
def tables_hash() -> str:
    """Return a SHA-256 over a sample of tables of every kind: equal hashes, equal arithmetic."""
    digest = hashlib.sha256()
    for index in range(0, len(LATTICE_GRID.scales), 12):
        digest.update(lattice_table(index, 0).frequencies.astype("<i8").tobytes())
    for index in range(0, len(PIXEL_GRID.scales), 24):
        window = int(PIXEL_WINDOWS[index])
        for low, high in ((-window, window + 1), (0, window + 1), (-window, 0)):
            digest.update(pixel_table(index, 21, low, high).frequencies.astype("<i8").tobytes())
    return digest.hexdigest()
