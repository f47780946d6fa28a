"""Laws of sub-pixels one at a time, compiled; :mod:`ddpm_codec.coding.pixel_laws` says what they are, for arrays."""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.network import GUESS_BITS
from ddpm_codec.coding.pixel_laws import (
    COEFFICIENT_BITS,
    COEFFICIENT_LIMIT,
    HEAD_SHIFT,
    MEAN16_BITS,
    PRECISION,
    TAIL_BITS,
)
from ddpm_codec.compilation import inlined
from ddpm_codec.nn.exact.decoder_parameters import RESIDUAL_SHIFT, RESIDUAL_ZERO

RED, GREEN, BLUE = 0, 1, 2

ALONE, SCALE, ROW, COEFFICIENT = 0, 3, 6, 9
"""Places in the numbers of a pixel: means before colours are known, scales, rows of tails, coefficients; three each."""

NUMBERS = 12

_LOWEST, _HIGHEST = -64 << MEAN16_BITS, (320 << MEAN16_BITS) - 1
_MIDDLE = 255 << (MEAN16_BITS - 1)
_WHOLE, _SPREAD = 1 << PRECISION, (1 << PRECISION) - 256
_OF_MEANS, _OF_SCALES, _OF_COEFFICIENTS, _OF_TAILS, _BASE = 1, 4, 7, 10, 13
"""Places in ``MaskedNetwork.heads``; the first is the multiplier of residuals."""

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@inlined
def _clamped(a: int, low: int, high: int) -> int:
    if a < low:
        return low
    return high if a > high else a


@inlined
def _rounded(a: int, shift: int) -> int:
    """Return a / 2^shift rounded half to even."""
    return (a + ((1 << (shift - 1)) - 1) + ((a >> shift) & 1)) >> shift


@inlined
def prepare(
    v: Ints, first: int, mean: Ints, tile: int, y: int, x: int, heads: Longs, scales: int, rows: int, numbers: Longs
) -> None:
    """Set the NUMBERS of a pixel.

    Args:
        v: its sums, from ``first`` on.
        first: place in v.
        mean: m_0, int32 [n, 3, >= h, >= w].
        tile: of the pixel.
        y: row.
        x: column.
        heads: multipliers.
        scales: how many there are.
        rows: of tails, how many there are.
        numbers: int64 [NUMBERS].
    """
    for colour in range(3):
        shift = _rounded(v[first + colour] * heads[_OF_MEANS + colour], HEAD_SHIFT)
        middle = (int(mean[tile, colour, y, x]) << 6) + _MIDDLE
        numbers[ALONE + colour] = _clamped(middle + shift, _LOWEST, _HIGHEST)
        scale = _rounded(v[first + 3 + colour] * heads[_OF_SCALES + colour], HEAD_SHIFT) + heads[_BASE]
        numbers[SCALE + colour] = _clamped(scale, 0, scales - 1)
        row = _rounded(v[first + 9 + colour] * heads[_OF_TAILS + colour], HEAD_SHIFT)
        numbers[ROW + colour] = _clamped(row, 0, rows - 1)
        coefficient = _rounded(v[first + 6 + colour] * heads[_OF_COEFFICIENTS + colour], HEAD_SHIFT)
        numbers[COEFFICIENT + colour] = _clamped(coefficient, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)


@inlined
def learn(grey: int, colour: int, numbers: Longs) -> None:
    """Move the means of the colours that come after one, of which the grey level is known now.

    The mean of blue gathers its two products in ROW + GREEN, which is done with, before it rounds their sum.
    """
    far = (grey << MEAN16_BITS) - numbers[ALONE + colour]
    if colour == GREEN:
        red = numbers[ALONE + RED] + _rounded(numbers[COEFFICIENT] * far, COEFFICIENT_BITS)
        numbers[ALONE + RED] = _clamped(red, _LOWEST, _HIGHEST)
        numbers[ROW + GREEN] = numbers[COEFFICIENT + 1] * far
    elif colour == RED:
        both = numbers[ROW + GREEN] + numbers[COEFFICIENT + 2] * far
        blue = numbers[ALONE + BLUE] + _rounded(both, COEFFICIENT_BITS)
        numbers[ALONE + BLUE] = _clamped(blue, _LOWEST, _HIGHEST)


@inlined
def cumulative(k: int, mean16: int, inverse: int, row: int, tails: Ints) -> int:
    """Return the sum of the frequencies of grey levels below k, 0..256."""
    if k <= 0:
        return 0
    if k >= 256:
        return _WHOLE
    d = ((2 * k - 1) << (MEAN16_BITS - 1)) - mean16
    p = (-d if d < 0 else d) * inverse
    last = tails.shape[1] - 1
    position = p >> 36
    if position >= last:
        above = int(tails[row, last])
    else:
        lower = int(tails[row, position])
        rise = int(tails[row, position + 1]) - lower
        above = lower + ((rise * ((p >> 20) & 65535)) >> 16)
    below = (1 << TAIL_BITS) - above if d < 0 else above
    return k + ((below * _SPREAD) >> TAIL_BITS)


@inlined
def guessed(quantile: int, mean16: int, step: int, row: int, guesses: Ints) -> int:
    """Return a grey level near that of a quantile in 0..2^24 - 1."""
    d = int(guesses[row, quantile >> (PRECISION - GUESS_BITS)]) * step
    return _clamped((mean16 + d + (1 << (MEAN16_BITS - 1))) >> MEAN16_BITS, 0, 255)


@inlined
def residual(grey: int, mean: int, multiplier: int) -> int:
    """Return clamp(R((1024 x - m_0) multiplier, 24)) with its zero point, 0..8191."""
    far = _rounded((1024 * grey - 130560 - mean) * multiplier, RESIDUAL_SHIFT)
    return _clamped(far, -RESIDUAL_ZERO, RESIDUAL_ZERO - 1) + RESIDUAL_ZERO
