"""Conversions between units, each written once.

Grey levels ``k`` in 0..255 and model values ``x = k / 127.5 - 1`` in [-1, 1]; information in nats and bits; rates in bits
per dimension (``_bpd``, a dimension is a sub-pixel) and bits per pixel (``_bpp``).
"""

import math

GREY_MAX = 255
GREY_PER_UNIT = 127.5
"""Grey levels in one unit of model value."""

BIN_WIDTH = 1.0 / GREY_PER_UNIT
"""Width of one grey level in model values (2 / 255)."""

NATS_PER_BIT = math.log(2.0)


def nats_to_bits(nats: float) -> float:
    """Return ``nats / ln 2``."""
    return nats / NATS_PER_BIT


def bytes_to_bpd(count: int, dims: int) -> float:
    """Return the rate of ``count`` bytes over ``dims`` dimensions, ``8 count / dims`` bits per dimension."""
    return 8.0 * count / dims
