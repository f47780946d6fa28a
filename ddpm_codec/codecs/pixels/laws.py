"""Laws of sub-pixels one at a time, compiled: :mod:`ddpm_codec.coding.pixel_laws`, which says what they are, does so for arrays."""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.network import GUESS_BITS, MaskedNetwork
from ddpm_codec.coding.pixel_laws import (
    COEFFICIENT_BITS,
    COEFFICIENT_LIMIT,
    HEAD_SHIFT,
    MEAN16_BITS,
    PRECISION,
    TAIL_BITS,
)
from ddpm_codec.compilation import compiled
from ddpm_codec.nn.exact.decoder_parameters import RESIDUAL_SHIFT, RESIDUAL_ZERO

_LOWEST, _HIGHEST = -64 << MEAN16_BITS, (320 << MEAN16_BITS) - 1
_MIDDLE = 255 << (MEAN16_BITS - 1)
_WHOLE, _SPREAD = 1 << PRECISION, (1 << PRECISION) - 256
_OF_MEANS, _OF_SCALES, _OF_COEFFICIENTS, _OF_TAILS, _BASE = 1, 4, 7, 10, 13
"""Places in ``MaskedNetwork.heads``; the first is the multiplier of residuals."""

ALONE, SCALE, ROW, COEFFICIENT = 0, 3, 6, 9
"""Places in the numbers of a pixel: means before colours are known, scales, rows of tails, coefficients; three each."""

NUMBERS = 12

Longs = NDArray[np.int64]


@compiled
def _clamped(a: int, low: int, high: int) -> int:
    return min(max(a, low), high)


@compiled
def _rounded(a: int, shift: int) -> int:
    """Return a / 2^shift rounded half to even."""
    return (a + ((1 << (shift - 1)) - 1) + ((a >> shift) & 1)) >> shift


@compiled
def prepare(sums: Longs, mean: Longs, network: MaskedNetwork, numbers: Longs) -> None:
    """Set the NUMBERS of a pixel from its 12 sums and m_0 (red, green, blue)."""
    heads = network.heads
    last_scale, last_row = len(network.inverse_scales) - 1, len(network.tails) - 1
    for colour in range(3):
        shift = _rounded(sums[colour] * heads[_OF_MEANS + colour], HEAD_SHIFT)
        numbers[ALONE + colour] = _clamped((mean[colour] << 6) + _MIDDLE + shift, _LOWEST, _HIGHEST)
        scale = _rounded(sums[3 + colour] * heads[_OF_SCALES + colour], HEAD_SHIFT) + heads[_BASE]
        numbers[SCALE + colour] = _clamped(scale, 0, last_scale)
        coefficient = _rounded(sums[6 + colour] * heads[_OF_COEFFICIENTS + colour], HEAD_SHIFT)
        numbers[COEFFICIENT + colour] = _clamped(coefficient, -COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)
        row = _rounded(sums[9 + colour] * heads[_OF_TAILS + colour], HEAD_SHIFT)
        numbers[ROW + colour] = _clamped(row, 0, last_row)


@compiled
def red_mean(numbers: Longs, green: int) -> int:
    """Return the mean of red given green."""
    far = _rounded(numbers[COEFFICIENT] * ((green << MEAN16_BITS) - numbers[ALONE + 1]), COEFFICIENT_BITS)
    return _clamped(numbers[ALONE] + far, _LOWEST, _HIGHEST)


@compiled
def blue_mean(numbers: Longs, green: int, red: int, mean_of_red: int) -> int:
    """Return the mean of blue given green, red and the mean of red."""
    of_green = numbers[COEFFICIENT + 1] * ((green << MEAN16_BITS) - numbers[ALONE + 1])
    of_red = numbers[COEFFICIENT + 2] * ((red << MEAN16_BITS) - mean_of_red)
    return _clamped(numbers[ALONE + 2] + _rounded(of_green + of_red, COEFFICIENT_BITS), _LOWEST, _HIGHEST)


@compiled
def cumulative(k: int, mean16: int, scale: int, row: int, network: MaskedNetwork) -> int:
    """Return the sum of the frequencies of grey levels below k, 0..256."""
    if k <= 0:
        return 0
    if k >= 256:
        return _WHOLE
    d = ((2 * k - 1) << (MEAN16_BITS - 1)) - mean16
    p = abs(d) * network.inverse_scales[scale]
    last = network.tails.shape[1] - 1
    position = p >> 36
    if position >= last:
        above = np.int64(network.tails[row, last])
    else:
        lower = np.int64(network.tails[row, position])
        rise = np.int64(network.tails[row, position + 1]) - lower
        above = lower + ((rise * ((p >> 20) & 65535)) >> 16)
    below = (1 << TAIL_BITS) - above if d < 0 else above
    return k + ((below * _SPREAD) >> TAIL_BITS)


@compiled
def find_grey(quantile: int, mean16: int, scale: int, row: int, network: MaskedNetwork) -> tuple[int, int, int]:
    """Return (k, cum(k), frequency(k)) with cum(k) <= quantile < cum(k + 1), for a quantile in 0..2^24 - 1."""
    guess = np.int64(network.guesses[row, quantile >> (PRECISION - GUESS_BITS)])
    d = guess * ((1 << 36) // network.inverse_scales[scale])
    k = _clamped((mean16 + d + (1 << (MEAN16_BITS - 1))) >> MEAN16_BITS, 0, 255)
    low, high = cumulative(k, mean16, scale, row, network), cumulative(k + 1, mean16, scale, row, network)
    # cum(0) = 0 and cum(256) = 2^24 end both.
    while quantile < low and k > 0:
        k, high = k - 1, low
        low = cumulative(k, mean16, scale, row, network)
    while quantile >= high and k < 255:
        k, low = k + 1, high
        high = cumulative(k + 1, mean16, scale, row, network)
    return k, low, high - low


@compiled
def residual(grey: int, mean: int, network: MaskedNetwork) -> int:
    """Return clamp(R((1024 x - m_0) multiplier, 24)) with its zero point, 0..8191."""
    far = _rounded((1024 * grey - 130560 - mean) * network.heads[0], RESIDUAL_SHIFT)
    return _clamped(far, -RESIDUAL_ZERO, RESIDUAL_ZERO - 1) + RESIDUAL_ZERO
