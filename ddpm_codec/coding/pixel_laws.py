"""The distribution of a sub-pixel in the pixel decoder, in integers: from the masked network's sums to frequencies.

A sub-pixel has a mean (16 fractional bits of a grey level), the index of a scale sigma_i and a row s of the table of tails,
T_s[j] = rint(2^30 F_s(j / 64)) with F_s a symmetric distribution function of unit scale. With d = (2k - 1) 2^15 - mean, the
distance of the lower edge of grey level k, and inverse_scale_i = rint(2^26 / sigma_i),

    p = |d| inverse_scale_i,  j = p >> 36,  f = (p >> 20) & 65535,  F = T[j] + ((T[j+1] - T[j]) f >> 16),

mirrored below the mean, and cum(k) = k + (F (2^24 - 256) >> 30): one normalised table a shape of tail, whatever the scale.
The outer edges are open, and every grey level has a count of at least one. docs/FORMAT.md, section 10, has all of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.exact_math import exact_exp, exact_normal_cdf

Array = NDArray[np.int64]
Floats = NDArray[np.float64]

PRECISION = 24
"""Bits of the frequencies: all 256 of a sub-pixel sum to 2**PRECISION."""

MEAN16_BITS = 16
HEAD_SHIFT = 24
COEFFICIENT_BITS = 12
COEFFICIENT_LIMIT = 6144
"""1.5 with COEFFICIENT_BITS fractional bits."""

LEAST_SIGMA = 0.05
SIGMA_STEPS = 64
"""Scales to one unit of ln sigma."""

SCALES = 504
"""I, number of scales: sigma from 0.05 to 129.5 grey levels."""

TAIL_STEPS = 64
"""Entries of a row of tails to one sigma."""

TAIL_LENGTH = 4096
"""N, entries of a row of tails."""

TAIL_BITS = 30
TAIL_PARAMETER_BITS = 16
"""Fractional bits of a trained weight and ratio before a table is made of them."""

_LOWEST, _HIGHEST = -64 << MEAN16_BITS, (320 << MEAN16_BITS) - 1
_MIDDLE = 255 << MEAN16_BITS - 1
_POSITION_SHIFT = 36
_FRACTION_SHIFT = 20
_FRACTION = 65535


@dataclass(frozen=True, eq=False)
class LawHeads:
    """From the 12 sums of a pixel to the laws of its sub-pixels (red, green, blue), at one crossing.

    Attributes:
        mean: multiplier of sums 0..2, [3].
        scale: of sums 3..5, [3].
        scale_base: index of the scale where those sums are 0.
        coefficient: of sums 6..8: red from green, blue from green, blue from red, [3].
        tail: of sums 9..11, [3].
        rows: S, rows of the table of tails.
    """

    mean: Array
    scale: Array
    scale_base: int
    coefficient: Array
    tail: Array
    rows: int


@dataclass(frozen=True, eq=False)
class Laws:
    """Distributions of sub-pixels, [..., 3] each, red, green, blue.

    Attributes:
        mean16: mean in grey levels 0..255, 16 fractional bits.
        scale: index of sigma.
        row: of the table of tails.
    """

    mean16: Array
    scale: Array
    row: Array


def rounded_shift(a: Array, s: int) -> Array:
    """Return a / 2^s rounded half to even, s > 0."""
    return (a + (1 << s - 1) - 1 + (a >> s & 1)) >> s


def pixel_laws(v: NDArray[np.integer], mean: NDArray[np.integer], x_0: NDArray[np.integer], heads: LawHeads) -> Laws:
    """Return the laws of all sub-pixels of a picture at once, those of red and blue given the earlier ones.

        mean_g = m16_g,   mean_r = m16_r + a (k_g - mean_g),   mean_b = m16_b + b (k_g - mean_g) + c (k_r - mean_r)

    Args:
        v: sums of the masked network, [..., 12].
        mean: m_0 in 1/1024 grey levels around 127.5, [..., 3].
        x_0: grey levels, [..., 3].
        heads: multipliers of the crossing.
    """
    sums = v.astype(np.int64)
    m_0, greys = mean.astype(np.int64), x_0.astype(np.int64) << MEAN16_BITS
    alone = (m_0 << 6) + _MIDDLE + rounded_shift(sums[..., :3] * heads.mean, HEAD_SHIFT)
    alone = alone.clip(_LOWEST, _HIGHEST)
    coefficient = rounded_shift(sums[..., 6:9] * heads.coefficient, HEAD_SHIFT)
    coefficient = coefficient.clip(-COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)
    from_green = greys[..., 1] - alone[..., 1]
    red = alone[..., 0] + rounded_shift(coefficient[..., 0] * from_green, COEFFICIENT_BITS)
    red = red.clip(_LOWEST, _HIGHEST)
    of_both = coefficient[..., 1] * from_green + coefficient[..., 2] * (greys[..., 0] - red)
    blue = (alone[..., 2] + rounded_shift(of_both, COEFFICIENT_BITS)).clip(_LOWEST, _HIGHEST)
    scale = rounded_shift(sums[..., 3:6] * heads.scale, HEAD_SHIFT) + heads.scale_base
    row = rounded_shift(sums[..., 9:12] * heads.tail, HEAD_SHIFT)
    return Laws(
        mean16=np.stack([red, alone[..., 1], blue], axis=-1),
        scale=scale.clip(0, SCALES - 1),
        row=row.clip(0, heads.rows - 1),
    )


def cumulative(k: Array, laws: Laws, tails: NDArray[np.integer], inverse_scales: NDArray[np.integer]) -> Array:
    """Return the sum of the frequencies of grey levels below k, 0..256; shapes broadcast with those of the laws."""
    k = np.asarray(k, dtype=np.int64)
    d = (2 * k - 1 << MEAN16_BITS - 1) - laws.mean16
    p = np.abs(d) * inverse_scales.astype(np.int64)[laws.scale]
    last = tails.shape[1] - 1
    position = np.minimum(p >> _POSITION_SHIFT, last)
    table = tails.astype(np.int64)
    lower, upper = table[laws.row, position], table[laws.row, np.minimum(position + 1, last)]
    above = lower + ((upper - lower) * (p >> _FRACTION_SHIFT & _FRACTION) >> 16)
    below = np.where(d < 0, (1 << TAIL_BITS) - above, above)
    inner = k + (below * ((1 << PRECISION) - 256) >> TAIL_BITS)
    return np.where(k <= 0, 0, np.where(k >= 256, 1 << PRECISION, inner))


def frequency(k: Array, laws: Laws, tails: NDArray[np.integer], inverse_scales: NDArray[np.integer]) -> Array:
    """Return the frequency of grey level k, 0..255, at least 1, of 2**PRECISION."""
    k = np.asarray(k, dtype=np.int64)
    return cumulative(k + 1, laws, tails, inverse_scales) - cumulative(k, laws, tails, inverse_scales)


def make_tails(logit: Floats | None, log_ratio: Floats | None) -> Array:
    """Return the table of tails, [S, TAIL_LENGTH].

        F_s(u) = (1 - w_s) Phi(u) + w_s Phi(u / r_s)

    Args:
        logit: ln(w / (1 - w)) of each row; None: one row, a Gaussian.
        log_ratio: ln r, taken for 0 where it is less; None likewise.
    """
    u = np.arange(TAIL_LENGTH) / TAIL_STEPS
    if logit is None or log_ratio is None:
        shares = exact_normal_cdf(u)[None]
    else:
        weight = _sigmoid(rounded_parameter(logit))[:, None]
        narrower = exact_exp(-np.maximum(rounded_parameter(log_ratio), 0.0))[:, None]
        shares = (1.0 - weight) * exact_normal_cdf(u) + weight * exact_normal_cdf(u * narrower)
    table = np.rint(np.ldexp(shares, TAIL_BITS)).astype(np.int64)
    # The last bits of two formulas for the distribution function, joined at 2 sigma, need not be in order.
    return np.maximum.accumulate(np.minimum(table, 1 << TAIL_BITS), axis=1)


def make_inverse_scales() -> Array:
    """Return rint(2^26 / sigma_i) for sigma_i = 0.05 e^(i / 64), i = 0 .. SCALES - 1."""
    shrunk = exact_exp(-np.arange(SCALES) / SIGMA_STEPS)
    return np.rint(np.ldexp(shrunk / LEAST_SIGMA, 26)).astype(np.int64)


def rounded_parameter(value: Floats) -> Floats:
    """Return the nearest multiples of 2**-TAIL_PARAMETER_BITS, of which tables are made."""
    return np.ldexp(np.rint(np.ldexp(np.asarray(value, dtype=np.float64), TAIL_PARAMETER_BITS)), -TAIL_PARAMETER_BITS)


def _sigmoid(x: Floats) -> Floats:
    small = exact_exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)
