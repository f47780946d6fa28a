r"""A shared codebook of Gaussian vectors, the same on every machine.

Random bits come from Philox-4x64-10, a counter-based generator (Salmon et al. 2011), sixteen at a time; a fixed table
turns each into a quantile of the standard normal distribution, rounded to LABEL_BITS fractional bits:

    label(u) = the j with  Phi((j - 1/2) / 2^12) < (u + 1/2) / 2^16 <= Phi((j + 1/2) / 2^12).

Nothing here depends on a platform: the generator is integers, and the table comes from
:mod:`~ddpm_codec.coding.exact_math`.
"""

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.exact_math import exact_normal_cdf

Labels = NDArray[np.int16]

LABEL_BITS = 12
"""Fractional bits of a label, in standard deviations."""

WIDTH = 128
"""Labels in a codeword: the most dimensions that share one."""

_UNIFORM_BITS = 16
_FARTHEST = 5
"""Standard deviations: beyond them lies less than one of 2**16 quantiles."""


@cache
def quantile_table() -> Labels:
    """Return the labels of the 2**16 quantiles of the standard normal distribution, increasing, antisymmetric."""
    edge = _FARTHEST << LABEL_BITS
    edges = exact_normal_cdf((np.arange(-edge, 1, dtype=np.float64) + 0.5) / 2.0**LABEL_BITS)
    half = 1 << (_UNIFORM_BITS - 1)
    targets = (np.arange(half, dtype=np.float64) + 0.5) / 2.0**_UNIFORM_BITS
    lower = np.searchsorted(edges, targets) - edge
    return np.concatenate([lower, -lower[::-1]]).astype(np.int16)


def gaussian_labels(key: int, count: int) -> Labels:
    """Return ``count`` standard normal labels of the stream ``key``.

    The words of Philox under the key (``key``, 0) and the counter 1, 2, ..., each as four sixteen-bit numbers, the lowest
    first, through :func:`quantile_table`.
    """
    words = np.random.Philox(key=key).random_raw(-(-count // 4)).astype("<u8")
    labels: Labels = quantile_table()[words.view("<u2")[:count]]
    return labels


@lru_cache(maxsize=4)
def codebook(register_bits: int) -> Labels:
    """Return 2**register_bits codewords of WIDTH labels, [2**register_bits, WIDTH]: stream ``register_bits``."""
    return gaussian_labels(register_bits, WIDTH << register_bits).reshape(1 << register_bits, WIDTH)


@lru_cache(maxsize=2)
def scoring_labels(register_bits: int) -> NDArray[np.float32]:
    """Return the labels of all codewords in standard deviations, [WIDTH, 2**register_bits]."""
    return np.ascontiguousarray(codebook(register_bits).T.astype(np.float32) * np.float32(2.0**-LABEL_BITS))
