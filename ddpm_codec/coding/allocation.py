"""Expected cost of each dimension in bits, which encoder and decoder both know before the message.

The reverse step p(x_s | x_t) = N(m_p, S^2) and the variance v of q(x_s | x_t, x_0) are known to both sides. Where the
denoiser's variance is right, the expected KL of a dimension is log2(S / sqrt(v)) bits. Dimensions are put into classes of
nearly equal expectation, eight to an octave, and coded class by class; those that expect less than the lowest class are
not coded at all: they take shared noise, and later steps correct them.
"""

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Classes = NDArray[np.uint8]

CLASSES_PER_OCTAVE = 8
LOWEST = -8
"""log2 of the fewest bits a dimension that is coded."""

OCTAVES = 12
CLASSES = CLASSES_PER_OCTAVE * OCTAVES
UNCODED = CLASSES
"""The class of dimensions that expect too little to be coded."""

COST_BITS = 16
"""Fractional bits of an expected cost."""

_EXACT = Context(prec=40)


@cache
def class_costs() -> Ints:
    """Return the expected bits of each class, COST_BITS fractional bits, decreasing, [CLASSES]."""
    with localcontext(_EXACT):
        exponents = [LOWEST + OCTAVES - (Decimal(c) + Decimal("0.5")) / CLASSES_PER_OCTAVE for c in range(CLASSES)]
        costs = [int((Decimal(2) ** e * (1 << COST_BITS)).to_integral_value()) for e in exponents]
    return np.array(costs, dtype=np.int64)


@cache
def _thresholds() -> Floats:
    """Return S^2 / v at the lower edge of each class, increasing, [CLASSES]."""
    with localcontext(_EXACT):
        edges = [Decimal(2) ** (LOWEST + Decimal(c) / CLASSES_PER_OCTAVE) for c in range(CLASSES)]
        return np.array([float(Decimal(4) ** edge) for edge in edges])


def cost_class(variance_ratio: Floats, floor: int = LOWEST) -> Classes:
    """Return the class of dimensions whose S^2 / v is given: 0 the dearest, UNCODED those that cost next to nothing.

    Args:
        variance_ratio: variance of p over variance of q, at least 1.
        floor: log2 of the fewest bits that count, at least LOWEST.
    """
    below = np.searchsorted(_thresholds(), variance_ratio, side="right")
    uncoded = below <= (floor - LOWEST) * CLASSES_PER_OCTAVE
    return np.where(uncoded, UNCODED, CLASSES - below).astype(np.uint8)


@lru_cache(maxsize=4)
def _spread(count: int) -> Ints:
    """Return a permutation of 0..count - 1 that puts neighbours far apart: i -> i M mod count, M near 0.618 count."""
    step = max(1, int(count * 0.6180339887498949))
    while np.gcd(step, count) != 1:
        step += 1
    return np.arange(count, dtype=np.int64) * step % count


def coding_order(classes: Classes) -> tuple[Ints, list[tuple[int, int]]]:
    """Return the dimensions that are coded, class by class, the cheapest first, and how many there are in each class.

    The cheapest come first because a trellis starts with few paths, which cheap dimensions hardly feel. Within a class they
    come in the order of ``_spread`` over all dimensions, so that what is dear or cheap beyond expectation in one place of the
    picture is shared out.

    Args:
        classes: of all dimensions, [N].

    Returns:
        Indices, [coded]; (class, dimensions in it) in the same order, those without any left out.
    """
    spread = _spread(len(classes))
    # Stable, so descending by the negative of the class.
    order = spread[np.argsort(UNCODED - classes[spread], kind="stable")]
    counts = np.bincount(classes, minlength=CLASSES + 1)
    present = [(c, int(counts[c])) for c in range(CLASSES - 1, -1, -1) if counts[c]]
    return order[int(counts[UNCODED]) :], present


@dataclass(frozen=True)
class Run:
    """Consecutive codewords of one shape.

    Attributes:
        first: place of its first dimension in the coding order.
        dims: how many it has.
        width: dimensions in a codeword; the last ones may be filled up.
        bits: that each step adds to every stream, [steps].
    """

    first: int
    dims: int
    width: int
    bits: Ints
