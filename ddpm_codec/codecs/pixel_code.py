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
    """Codes pixels given z_0. ``picture`` is z_0 as the network reads it, int64 [B, 3, H, W]; sides are multiples of 8."""

    def encode(self, picture: Ints, x_0: Pixels, origin: Origin = (0, 0)) -> "Streams":
        """Return the streams of x_0, uint8 [B, 3, h, w], a part of the picture."""
        ...

    def decode(
        self, picture: Ints, shape: tuple[int, int], streams: Sequence[bytes], origin: Origin = (0, 0)
    ) -> Pixels:
        """Return x_0 of the shape (h, w), uint8 [B, 3, h, w].

        Raises:
            FormatError: the streams are damaged.
        """
        ...

    def stream_count(self, images: int, height: int, width: int) -> int:
        """Return how many streams pictures of one size have, [images, 3, height, width]."""
        ...

    def mean(self, picture: Ints) -> Pixels:
        """Return the mean of p(x_0 | z_0), uint8 [B, 3, H, W]."""
        ...

    def sample(self, picture: Ints, shape: tuple[int, int], rng: np.random.Philox, origin: Origin = (0, 0)) -> Pixels:
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
