"""p(x_0 | z_0) at the end of a chain, as streams: what the lossless end of a progressive file is coded with.

A model with a pixel decoder has an autoregressive p(x_0 | z_0); one without has independent sub-pixels, with the mean and the
variance that its denoiser gives at level 0. Both are integers, tables and single float64 operations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.latents import GreyChain
from ddpm_codec.codecs.pixel_code import Origin, PixelCode
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.prices import pixel_bits
from ddpm_codec.coding.tables import MEAN_BITS
from ddpm_codec.errors import FormatError

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession

Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

_WORD_BYTES = 4


@dataclass(frozen=True)
class FactorisedStreams:
    """Coded pixels of :class:`FactorisedPixels`, a stream a picture.

    Attributes:
        streams: their bytes.
        bits: about the ideal code length of each picture, [B].
    """

    streams: list[bytes]
    bits: Floats


class FactorisedPixels:
    """Independent sub-pixels: the :class:`PixelCode` of a model without a pixel decoder.

    Args:
        chain: the denoiser and its levels.
    """

    reach = None
    """In floating point, what it says of a part is not what it says of the whole."""

    def __init__(self, chain: GreyChain) -> None:
        self._chain = chain

    def stream_count(self, images: int, _height: int, _width: int) -> int:
        """See :class:`PixelCode`."""
        return images

    def given(self, picture: Ints) -> "FactorisedGiven":
        """See :class:`PixelCode`."""
        return FactorisedGiven(*self._chain.pixel_law_of(picture))


@dataclass(frozen=True)
class FactorisedGiven:
    """Independent sub-pixels for one z_0, a :class:`~ddpm_codec.codecs.pixel_code.PixelsGiven`.

    Attributes:
        means: in units of 2**-MEAN_BITS grey levels, int64 [B, 3, H, W].
        scales: indices into the table of scales, int32 [B, 3, H, W].
    """

    means: Ints
    scales: NDArray[np.int32]

    def encode(self, x_0: Pixels, origin: Origin = (0, 0)) -> FactorisedStreams:
        """See :class:`~ddpm_codec.codecs.pixel_code.PixelsGiven`."""
        at = _inside(x_0.shape[2:], origin)
        mean, scale = self.means[at], self.scales[at]
        streams = []
        for one, pixels in enumerate(x_0):
            stack = Stack.empty()
            stack.push_pixels(np.ascontiguousarray(pixels), mean[one], scale[one])
            # The last word of a stack is never zero, and usually small.
            streams.append(stack.to_bytes().rstrip(b"\0"))
        return FactorisedStreams(streams, pixel_bits(x_0, mean, scale))

    def decode(self, shape: tuple[int, int], streams: Sequence[bytes], origin: Origin = (0, 0)) -> Pixels:
        """See :class:`~ddpm_codec.codecs.pixel_code.PixelsGiven`."""
        at = _inside(shape, origin)
        mean, scale = self.means[at], self.scales[at]
        found = []
        for one, stream in enumerate(streams):
            # If every pixel is the first of its table, as in black pictures, the stack is empty.
            stack = Stack.from_bytes(stream + bytes(-len(stream) % _WORD_BYTES)) if stream else Stack.empty()
            found.append(stack.pop_pixels(mean[one], scale[one]))
            if not stack.is_empty:
                raise FormatError("its entropy-coded data has the wrong length")
        return np.stack(found)

    def mean(self) -> Pixels:
        """See :class:`~ddpm_codec.codecs.pixel_code.PixelsGiven`."""
        grey = (self.means + (1 << (MEAN_BITS - 1))) >> MEAN_BITS
        shown: Pixels = np.clip(grey, 0, 255).astype(np.uint8)
        return shown

    def sample(self, shape: tuple[int, int], _rng: np.random.Philox, origin: Origin = (0, 0)) -> Pixels:
        """Return the mean: independent noise in every sub-pixel would not make a picture more realistic (Ho et al. 2020)."""
        return self.mean()[_inside(shape, origin)]


def _inside(shape: tuple[int, ...], origin: Origin) -> tuple[slice, slice, slice, slice]:
    (top, left), (height, width) = origin, shape
    return slice(None), slice(None), slice(top, top + height), slice(left, left + width)


def pixel_code(session: "CodingSession") -> PixelCode:
    """Return p(x_0 | z_0) of a session: its pixel decoder, or what its denoiser says at level 0."""
    return session.pixels or FactorisedPixels(session.chain)
