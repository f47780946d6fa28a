"""Exponential and normal distribution function with the same bits on every machine.

The functions of a C library differ in their last bits between platforms, and one bit is enough to change an integer
frequency. These use only element-wise float64 ``+ - * /``, ``rint`` and ``ldexp``, which IEEE 754 rounds correctly, in a
fixed order, without reductions.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LN2_HIGH = 0.693147180369123816490
"""ln 2 to 33 bits, so that its product with a small integer is exact (fdlibm)."""

_LN2_LOW = 1.90821492927058770002e-10
_LOG2_E = 1.44269504088896338700
_INVERSE_ROOT_2PI = 0.398942280401432677940
_EXP_TERMS = 14
_SERIES_TERMS = 45
_FRACTION_TERMS = 160
_FRACTION_FROM = 2.0
_UNDERFLOW = -708.0


def exact_exp(x: Floats) -> Floats:
    """Return e^x for x <= 0, to 3e-16 relative; 0 below -708.

    With x = k ln 2 + r, |r| <= ln 2 / 2: a Taylor polynomial in r by Horner's rule, scaled by 2^k.
    """
    bounded = np.maximum(x, _UNDERFLOW)
    k = np.rint(bounded * _LOG2_E)
    r = (bounded - k * _LN2_HIGH) - k * _LN2_LOW
    total = np.ones_like(r)
    for n in range(_EXP_TERMS, 0, -1):
        total = 1.0 + total * r / n
    return np.where(x < _UNDERFLOW, 0.0, np.ldexp(total, k.astype(np.int64)))


def exact_normal_cdf(x: Floats) -> Floats:
    """Return the standard normal distribution function, also where it is small.

    To 2e-14 relative for x >= -8; below, to the rounding of x^2 / 2.

    Near zero the series 1/2 + phi(x) (x + x^3/3 + x^5/15 + ...); beyond two standard deviations the continued fraction
    phi(x) / (x + 1/(x + 2/(x + 3/...))). Source: Abramowitz & Stegun, 26.2.11 and 26.2.14.
    """
    size = np.abs(x)
    density = _INVERSE_ROOT_2PI * exact_exp(-0.5 * size * size)
    near = np.minimum(size, _FRACTION_FROM)
    term, series = near, near
    for n in range(1, _SERIES_TERMS):
        term = term * near * near / (2 * n + 1)
        series = series + term
    far = np.maximum(size, _FRACTION_FROM)
    fraction = far
    for n in range(_FRACTION_TERMS, 0, -1):
        fraction = far + n / fraction
    tail = np.where(size < _FRACTION_FROM, 0.5 - density * series, density / fraction)
    return np.where(x > 0, 1.0 - tail, tail)
