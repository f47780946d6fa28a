"""What a coder of pixels given z_0 is, to the codecs that use it: p(x_0 | z_0) as streams."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

Origin = tuple[int, int]
"""Row and column, in the network's input, of the first pixel that is coded: what lies around it is context."""


class PixelCode(Protocol):
    """Codes pixels x_0 given z_0."""

    @property
    def reach(self) -> int | None:
        """Pixels around a block of 8x8 whose z_0 p(x_0 | z_0) there depends on, at most; None where nothing is known of it.

        With as much around them, parts of a picture have the p(x_0 | z_0) of the whole, to the bit.
        """
        ...

    def given(self, picture: Ints) -> "PixelsGiven":
        """Return p(x_0 | z_0) for ``picture``, z_0 as the network reads it, int64 [B, 3, H, W]; sides are multiples of 8.

        Here the network is evaluated, once for all that is coded.
        """
        ...

    def stream_count(self, images: int, height: int, width: int) -> int:
        """Return how many streams pictures of one size have, [images, 3, height, width]."""
        ...


class PixelsGiven(Protocol):
    """p(x_0 | z_0) for one z_0, [B, 3, H, W]. What is coded, [B, 3, h, w], is a part of it from ``origin`` on."""

    def encode(self, x_0: Pixels, origin: Origin = (0, 0)) -> "Streams":
        """Return the streams of x_0, uint8 [B, 3, h, w]."""
        ...

    def decode(self, shape: tuple[int, int], streams: Sequence[bytes], origin: Origin = (0, 0)) -> Pixels:
        """Return x_0 of the shape (h, w), uint8 [B, 3, h, w].

        Raises:
            FormatError: the streams are damaged.
        """
        ...

    def mean(self) -> Pixels:
        """Return the mean of p(x_0 | z_0), uint8 [B, 3, H, W]."""
        ...

    def sample(self, shape: tuple[int, int], rng: np.random.Philox, origin: Origin = (0, 0)) -> Pixels:
        """Return what ``sample`` shows, uint8 [B, 3, h, w]: a draw from p(x_0 | z_0)."""
        ...


class Streams(Protocol):
    """Coded pixels."""

    @property
    def streams(self) -> list[bytes]:
        """Their bytes."""
        ...

    @property
    def bits(self) -> Floats:
        """Ideal code length of each picture, [B]."""
        ...
