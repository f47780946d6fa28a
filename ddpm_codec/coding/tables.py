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
from decimal import Context, Decimal
from functools import cache, lru_cache
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.exact_math import Floats, exact_exp, exact_normal_cdf

Ints = NDArray[np.int64]

PRECISION = 24
MEAN_BITS = 16
"""Fractional bits of a mean, in lattice units or grey levels."""

FRACTION_BITS = 6
"""2**FRACTION_BITS bins of the fractional mean serve sampled posteriors and all tables of a scale below 1."""

STEPS_PER_OCTAVE = 24
"""Neighbouring scales differ by 2.9 %: choosing the nearest costs 1e-4 bits on average, 3e-4 at most."""

GREY_LEVELS = 256
OUTSIDE = 3
"""Means of grey levels are taken to lie at most this far outside 0..255."""

_WEIGHT_BITS = 36
_REACH = 8.0
"""Tables reach 8 standard deviations, and two more."""

_EXACT = Context(prec=40)
_CACHED_PIXEL_TABLES = 1 << 15


class ScaleGrid:
    """Log-spaced scales: smallest * 2**(i / STEPS_PER_OCTAVE).

    Args:
        smallest: scale of index 0.
        octaves: extent of the grid.

    Attributes:
        scales: [1 + octaves * STEPS_PER_OCTAVE].
        fraction_bits: log2 of the bins of the fractional mean, [len(scales)].
        windows: tables reach from -window to window + 1 about the floor of the mean, [len(scales)].
    """

    def __init__(self, smallest: float, octaves: int) -> None:
        count = octaves * STEPS_PER_OCTAVE + 1
        self.scales = _powers(smallest, [Decimal(i) / STEPS_PER_OCTAVE for i in range(count)])
        between = [(Decimal(i) + Decimal("0.5")) / STEPS_PER_OCTAVE for i in range(count - 1)]
        self._thresholds = _powers(smallest, between)
        self.fraction_bits: Ints = np.array([_fraction_bits(scale) for scale in self.scales], dtype=np.int64)
        self.windows: Ints = np.array([_window(scale) for scale in self.scales], dtype=np.int64)

    def index(self, scale: Floats) -> Ints:
        """Return the index of the scale nearest in logarithm; beyond the ends, of the last."""
        return np.searchsorted(self._thresholds, scale)


def _powers(smallest: float, exponents: list[Decimal]) -> Floats:
    """Return smallest * 2**exponent through decimal arithmetic, which does not depend on the platform."""
    powers = [_EXACT.power(Decimal(2), exponent) for exponent in exponents]
    return np.array([float(_EXACT.multiply(Decimal(smallest), power)) for power in powers])


def _fraction_bits(scale: float) -> int:
    """Return the bits of the fractional mean: fewer for wider tables, where they matter less.

    A mean rounded to one of F bins costs 1/(24 F^2 s^2 ln 2) bits on average: under 1e-4 from s = 0.4 on.
    """
    bits = FRACTION_BITS
    while bits > 1 and scale >= 2.0 ** (FRACTION_BITS - bits):
        bits -= 1
    return bits


def _window(scale: float) -> int:
    return int(np.ceil(_REACH * scale)) + 2


LATTICE_GRID = ScaleGrid(0.25, 9)
PIXEL_GRID = ScaleGrid(0.05, 11)


@dataclass(frozen=True)
class Table:
    """Frequencies of consecutive integers.

    Attributes:
        first: the integer of symbol 0, relative to the floor of the mean.
        frequencies: int64, each >= 1, sum 2**PRECISION; with ``escape`` the last symbol stands for all other integers.
        escape: whether there is an escape symbol.
        model: the same table for the entropy coder.
    """

    first: int
    frequencies: Ints
    escape: bool
    model: Any

    @property
    def count(self) -> int:
        """Integers in the table, the escape symbol not counted."""
        return len(self.frequencies) - self.escape


def integer_frequencies(weights: Floats, escape: bool) -> Ints:
    """Turn non-negative weights into integers >= 1 with the sum 2**PRECISION, in exact integer arithmetic.

    Every symbol gets 1; what is left is dealt out in proportion, rounded down; the rest goes to the likeliest symbol. An
    escape symbol, of frequency 1, is appended.

    Args:
        weights: one table or many, [..., symbols], with something positive in each.
        escape: whether to append the escape symbol.
    """
    scaled = np.rint(weights / weights.max(axis=-1, keepdims=True) * 2.0**_WEIGHT_BITS).astype(np.int64)
    spare = (1 << PRECISION) - weights.shape[-1] - escape
    # weight <= 2**36 and spare < 2**24: the products fit 63 bits.
    frequencies: Ints = 1 + scaled * spare // scaled.sum(axis=-1, keepdims=True)
    rest = (1 << PRECISION) - escape - frequencies.sum(axis=-1, keepdims=True)
    mode = scaled.argmax(axis=-1)[..., None]
    np.put_along_axis(frequencies, mode, np.take_along_axis(frequencies, mode, -1) + rest, -1)
    if not escape:
        return frequencies
    return np.concatenate([frequencies, np.ones((*frequencies.shape[:-1], 1), np.int64)], axis=-1)


def _table(first: int, frequencies: Ints, escape: bool) -> Table:
    # The coder's own quantiser gives each symbol 1 and deals 2**24 - n out in proportion: with these "probabilities",
    # whose sum is exactly 2**24 - n, its proportion is one and its table is ours.
    model = constriction.stream.model.Categorical((frequencies - 1).astype(np.float64), perfect=False)
    return Table(first, frequencies, escape, model)


@cache
def lattice_table(scale_index: int, fraction: int) -> Table:
    """Return the table of n - floor(m), with escape.

    Args:
        scale_index: of LATTICE_GRID.
        fraction: bin of the fractional mean, one of 2**LATTICE_GRID.fraction_bits[scale_index].
    """
    frequencies = _lattice_frequencies(scale_index)[fraction]
    return _table(-int(LATTICE_GRID.windows[scale_index]), frequencies, escape=True)


@cache
def sampling_table(scale: float, fraction: int) -> Table:
    """Return the table of n - floor(m) for an exact scale and one of 2**FRACTION_BITS bins, without escape."""
    return _table(-_window(scale), _sampling_frequencies(scale)[fraction], escape=False)


def sampling_window(scale: float) -> int:
    """Return the reach of :func:`sampling_table`: from -window to window + 1.

    Raises:
        ValueError: the scale is not a positive number of the size of those in LATTICE_GRID.
    """
    if not 0.0 < scale <= float(LATTICE_GRID.scales[-1]):
        raise ValueError(f"the scale of a sampled posterior must lie in (0, {LATTICE_GRID.scales[-1]:g}], got {scale}")
    return _window(scale)


@cache
def _lattice_frequencies(scale_index: int) -> Ints:
    scale, bits = float(LATTICE_GRID.scales[scale_index]), int(LATTICE_GRID.fraction_bits[scale_index])
    return integer_frequencies(_discrete_gaussians(scale, bits), escape=True)


@cache
def _sampling_frequencies(scale: float) -> Ints:
    return integer_frequencies(_discrete_gaussians(scale, FRACTION_BITS), escape=False)


def _discrete_gaussians(scale: float, fraction_bits: int) -> Floats:
    """Return the weights for all bins of the fractional mean, [2**fraction_bits, offsets]."""
    distance = _offsets(_window(scale), fraction_bits) / scale
    return exact_exp(-0.5 * distance * distance)


def _offsets(window: int, fraction_bits: int) -> Floats:
    """Return the distances of -window..window + 1 from the centre of each bin, [2**fraction_bits, 2 window + 2]."""
    bins = 1 << fraction_bits
    centres = (np.arange(bins, dtype=np.float64) + 0.5) / bins
    return np.arange(-window, window + 2, dtype=np.float64)[None, :] - centres[:, None]


def pixel_range(floor: Ints, scale_index: NDArray[np.integer[Any]]) -> tuple[Ints, Ints]:
    """Return (low, high), the first and last offset from ``floor`` of pixel tables: their window within 0..255.

    Args:
        floor: of the means, in -OUTSIDE..255 + OUTSIDE.
        scale_index: of PIXEL_GRID, the same shape.
    """
    window = PIXEL_GRID.windows[scale_index]
    return np.maximum(-floor, -window), np.minimum(GREY_LEVELS - 1 - floor, window + 1)


@lru_cache(maxsize=_CACHED_PIXEL_TABLES)
def pixel_table(scale_index: int, fraction: int, low: int, high: int) -> Table:
    """Return the table of x - floor(m), the mass of bin k being Phi((k + 1/2 - m)/s) - Phi((k - 1/2 - m)/s).

    There is an escape symbol unless the table holds the whole grey range.

    Args:
        scale_index: of PIXEL_GRID.
        fraction: bin of the fractional mean, one of 2**PIXEL_GRID.fraction_bits[scale_index].
        low: first offset; where it is above that of the window, it is grey level 0, whose bin is open.
        high: last offset; where it is below that of the window, it is grey level 255, whose bin is open.
    """
    escape = not _covers_grey(scale_index, low, high)
    return _table(low, _pixel_frequencies(scale_index, low, high, fraction), escape)


def _covers_grey(scale_index: int, low: int, high: int) -> bool:
    window = int(PIXEL_GRID.windows[scale_index])
    return low > -window and high < window + 1


def _pixel_frequencies(scale_index: int, low: int, high: int, fraction: int | slice = slice(None)) -> Ints:
    """Return the frequencies of :func:`pixel_table` for one bin of the fractional mean, or for all."""
    window = int(PIXEL_GRID.windows[scale_index])
    inside, below, above = (masses[fraction] for masses in _pixel_masses()[scale_index])
    first, last = low + window, high + window
    weights = inside[..., first : last + 1].copy()
    if low > -window:
        weights[..., 0] = below[..., first]
    if high < window + 1:
        weights[..., -1] = above[..., last]
    return integer_frequencies(weights, not _covers_grey(scale_index, low, high))


@cache
def _pixel_masses() -> list[tuple[Floats, Floats, Floats]]:
    """Return, for each scale of PIXEL_GRID, the mass of a bin, of it and all below, of it and all above.

    Each [bins of the fractional mean, offsets]. All scales at once: the distribution function takes hundreds of operations,
    and arrays as small as those of one scale would cost more in calls than in arithmetic.
    """
    grids = zip(PIXEL_GRID.windows.tolist(), PIXEL_GRID.fraction_bits.tolist(), strict=True)
    offsets = [_offsets(window, bits) for window, bits in grids]
    scales = np.repeat(PIXEL_GRID.scales, [grid.size for grid in offsets])
    flat = np.concatenate([grid.ravel() for grid in offsets])
    # Right of the mean the mirror image is as heavy, and there the distribution function is small and exact.
    near = exact_normal_cdf((0.5 - np.abs(flat)) / scales)
    far = exact_normal_cdf((-0.5 - np.abs(flat)) / scales)
    masses = near - far, np.where(flat <= 0, near, 1.0 - far), np.where(flat > 0, near, 1.0 - far)
    ends = np.cumsum([grid.size for grid in offsets])[:-1]
    pieces = zip(offsets, *(np.split(mass, ends) for mass in masses), strict=True)
    return [
        (inside.reshape(grid.shape), below.reshape(grid.shape), above.reshape(grid.shape))
        for grid, inside, below, above in pieces
    ]


@cache
def tables_hash() -> str:
    """Return a SHA-256 over every lattice table, and pixel tables of every scale: equal hashes, equal arithmetic.

    In the order of the scale index, the bins of the fractional mean and the symbols: frequencies as little-endian int32;
    first the lattice tables, then for each pixel scale those inside the grey range and at its two ends.
    """
    digest = hashlib.sha256()
    for index in range(len(LATTICE_GRID.scales)):
        digest.update(_lattice_frequencies(index).astype("<i4").tobytes())
    for index, window in enumerate(PIXEL_GRID.windows.tolist()):
        for low, high in ((-window, window + 1), (0, window + 1), (-window, 0)):
            digest.update(_pixel_frequencies(index, low, high).astype("<i4").tobytes())
    return digest.hexdigest()
