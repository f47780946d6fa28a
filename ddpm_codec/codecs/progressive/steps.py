"""Reverse steps of a chain on whole pictures, patch by patch, shared by encoder and decoder.

Latents z_t = W (x_0 - 127.5) + sigma_t eps are integers in units of 2**-VALUE_BITS grey levels. Step t leads from level t to
level t - 1; step K + 1 comes first and leads from nothing to level K, with the prior in place of the network:

    p(z_s | z_t) = N(a z_t + (1 - a) W x0_mean, sigma_s^2 (1 - a) + (1 - a)^2 w),   a = sigma_s^2 / sigma_t^2,

with a = 0 for the first step. Decoding uses integers, tables and single float64 operations only.
"""

from dataclasses import dataclass, replace
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.latents import GreyChain, rounded
from ddpm_codec.coding.allocation import LOWEST, Classes, cost_class
from ddpm_codec.coding.bits_back import PADDING
from ddpm_codec.coding.codebook import LABEL_BITS, Labels
from ddpm_codec.errors import FormatError
from ddpm_codec.nn import integer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Latents = NDArray[np.int32]

VALUE_BITS = 10
"""Fractional bits of a latent; its unit is 2**-VALUE_BITS grey levels."""

UNIT = 2.0**-VALUE_BITS

MARGIN = 64
"""Context in pixels around a patch: more than the reach of the network (56), so patch borders are invisible."""

FLOORS = ((20.0, -6), (2.5, -7))
"""(sigma in grey levels, log2 bits): from this much noise on, a dimension is coded only if it is expected to take at least
this many bits. At low rates the few large coefficients matter most (reverse water-filling); the others are sent later."""

JUMP = 2.5
"""Size of a jump in standard deviations of p."""

_ONE = float(1 << VALUE_BITS)

WHOLE_PIXELS = 1 << 20
"""A picture with at most this many pixels is one patch."""

PATCH_SIDE = 1024
"""Maximum side of the patches of a larger picture."""


@dataclass(frozen=True)
class Patch:
    """A rectangle of blocks.

    Attributes:
        rows: rows of blocks.
        columns: columns of blocks.
    """

    rows: slice
    columns: slice

    @property
    def at(self) -> tuple[EllipsisType, slice, slice]:
        """Index for arrays whose last two axes are rows and columns of blocks."""
        return ..., self.rows, self.columns

    @property
    def blocks(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def pixels(self, block: int) -> tuple[slice, slice]:
        """Return the index of its pixels, as rows and columns."""
        return _scaled(self.rows, block), _scaled(self.columns, block)

    def widened(self, margin: int, shape: tuple[int, int]) -> "Patch":
        """Return the patch grown by ``margin`` blocks on each side, clipped to a picture of ``shape``."""
        return Patch(_widened(self.rows, margin, shape[0]), _widened(self.columns, margin, shape[1]))

    def within(self, outer: "Patch") -> "Patch":
        """Return this patch relative to a patch that contains it."""
        return Patch(_moved(self.rows, outer.rows.start), _moved(self.columns, outer.columns.start))


def plan_patches(height: int, width: int, block: int) -> list[Patch]:
    """Cut a picture whose sides are multiples of the block and of PADDING into patches, row by row."""
    whole = height * width <= WHOLE_PIXELS
    rows, columns = (_cut(side, side if whole else PATCH_SIDE, block) for side in (height, width))
    return [Patch(row, column) for row in rows for column in columns]


def _cut(side: int, longest: int, block: int) -> list[slice]:
    """Cut a side, in pixels, into as few pieces as possible, as even as multiples of PADDING allow."""
    count = -(-side // longest)
    piece = -(-side // (count * PADDING)) * PADDING
    return [slice(start // block, min(start + piece, side) // block) for start in range(0, side, piece)]


def _scaled(blocks: slice, block: int) -> slice:
    return slice(blocks.start * block, blocks.stop * block)


def _widened(blocks: slice, margin: int, end: int) -> slice:
    return slice(max(0, blocks.start - margin), min(end, blocks.stop + margin))


def _moved(blocks: slice, by: int) -> slice:
    return slice(blocks.start - by, blocks.stop - by)


@dataclass(frozen=True)
class StepLaw:
    """p(z_s | z_t) of a patch.

    Attributes:
        mean: in units of latents, [D, h, w].
        index: index into the tables, [D, h, w].
        spread: standard deviation of p in units of latents, by index.
        classes: cost class of a dimension (its expected bits), by index.
        variance: v of q(z_s | z_t, x_0) in grey levels squared.
        kept: a, the weight of z_t.
        x0_mean: W x0_mean in grey levels, [D, h, w].
        x0_variance: w in grey levels squared, by index.
    """

    mean: Ints
    index: NDArray[np.integer]
    spread: Floats
    classes: Classes
    variance: float
    kept: float
    x0_mean: Floats
    x0_variance: Floats

    def posterior_mean(self, z_t: NDArray[np.integer], y_0: Floats) -> Floats:
        """Return the mean of q(z_s | z_t, x_0), a z_t + (1 - a) y_0, in units of latents, for y_0 in grey levels."""
        return (1.0 - self.kept) * _ONE * y_0 + self.kept * z_t

    def kl_bits(self, target: Floats, places: Ints | slice = slice(None)) -> Floats:
        """Return KL( q || p ) of each dimension for the mean ``target`` of q, in bits.

        With r = S^2 / v and d = (target - mean) / S: 1/2 [ ln r + 1/r + d^2 - 1 ] / ln 2.

        Args:
            target: means at the flat ``places``, in units of latents.
            places: flat indices of dimensions.
        """
        ratio, distance = self.compared(target, places)
        bits: Floats = (np.log(ratio) + 1.0 / ratio + distance * distance - 1.0) * (0.5 / np.log(2.0))
        return bits

    def compared(self, target: Floats, places: Ints | slice = slice(None)) -> tuple[Floats, Floats]:
        """Return S^2 / v and (target - mean) / S at flat ``places``; see :meth:`kl_bits`."""
        spread = self.spread[self.index.reshape(-1)[places]]
        return (spread * UNIT) ** 2 / self.variance, (target - self.mean.reshape(-1)[places]) / spread

    def jumped(self, places: Ints, jumps: Ints) -> "StepLaw":
        """Return the law with the means at flat ``places`` shifted by ``jumps`` times JUMP standard deviations.

        Raises:
            FormatError: a mean is out of range.
        """
        if not len(places):
            return self
        moved = self.mean.copy()
        flat = moved.reshape(-1)
        distance = jumps * (self.spread[self.index.reshape(-1)[places]] * JUMP)
        if np.abs(distance).max() > 2.0**40:
            raise FormatError("its entropy-coded data is damaged")
        flat[places] += rounded(distance)
        return replace(self, mean=moved)

    def sample(self, labels: Labels) -> Latents:
        """Return z_s = mean + spread * label, [D, h, w], given the labels of all dimensions.

        Raises:
            FormatError: a latent is out of range.
        """
        offset = rounded(self.spread[self.index] * (labels.reshape(self.mean.shape) * 2.0**-LABEL_BITS))
        values = self.mean + offset
        if values.size and max(int(values.max()), -int(values.min())) >> 31:
            raise FormatError("its entropy-coded data is damaged")
        return values.astype(np.int32)

    def flat_classes(self) -> Classes:
        """Return the class of each dimension, [D h w]."""
        classes: Classes = self.classes[self.index].reshape(-1)
        return classes


class ProgressiveChain:
    """A frozen chain for progressive coding.

    Args:
        chain: the denoiser and its levels.

    Attributes:
        grey: the argument ``chain``.
        steps: K.
        transform: W.
        sigmas: in grey levels, [K + 1].
    """

    def __init__(self, chain: GreyChain) -> None:
        self.grey = chain
        self.steps, self.transform, self.sigmas = chain.steps, chain.transform, chain.sigmas

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the latent shape [D, H / block, W / block] of a picture whose sides are multiples of the block."""
        return self.transform.dims, height // self.transform.block, width // self.transform.block

    def coefficients(self, x_0: NDArray[np.uint8]) -> Floats:
        """Return y_0 = W (x_0 - 127.5) in grey levels, [D, h, w], given pixels [H, W, 3]."""
        doubled = 2 * x_0.transpose(2, 0, 1)[None].astype(np.int64) - 255
        y_0: Floats = (self.transform.forward_exact(doubled) / (2.0 * self.grey.norm))[0]
        return y_0

    def first_law(self, shape: tuple[int, int, int]) -> StepLaw:
        """Return the law of step K + 1, from nothing to level K, for latents of ``shape`` [D, h, w]."""
        variance = float(self.sigmas[-1] * self.sigmas[-1])
        index = np.broadcast_to(np.arange(shape[0], dtype=np.int16)[:, None, None], shape)
        mean = np.broadcast_to(self.grey.prior_mean[:, None, None], shape)
        sigma = float(self.sigmas[-1])
        return self._law(rounded(mean * _ONE), index, variance, 0.0, mean, self.grey.prior_variance, sigma)

    def law(self, z_t: Latents, patch: Patch, level: int) -> StepLaw:
        """Return the law of the step from ``level`` to ``level - 1`` for a patch.

        Args:
            z_t: latents of the whole picture, [D, h, w].
            patch: the patch.
            level: t, 1 to K.
        """
        seen, inner = self._seen(z_t, patch)
        mean, index = self.grey.predict(seen, UNIT, level)
        mean, kept = mean[inner.at], self.grey.kept(level)
        from_mean = mean * ((1.0 - kept) * _ONE / (2**integer.MEAN_BITS * self.grey.norm))
        variance = float(self.sigmas[level - 1] * self.sigmas[level - 1] * (1.0 - kept))
        return self._law(
            rounded(z_t[patch.at] * kept + from_mean[0]),
            index[0][inner.at],
            variance,
            kept,
            (mean / (2**integer.MEAN_BITS * self.grey.norm))[0],
            self.grey.variance,
            float(self.sigmas[level - 1]),
        )

    def pixel_law(self, z_0: Latents, patch: Patch) -> tuple[Ints, NDArray[np.int32]]:
        """Return mean and scale index of p(x_0 | z_0) of a patch, [3, H, W]."""
        seen, inner = self._seen(z_0, patch)
        mean, scale = self.grey.pixel_law(seen, UNIT)
        at = (0, slice(None), *inner.pixels(self.transform.block))
        return mean[at], scale[at]

    def _law(
        self,
        mean: Ints,
        index: NDArray[np.integer],
        variance: float,
        kept: float,
        x0_mean: Floats,
        x0_variance: Floats,
        sigma: float,
    ) -> StepLaw:
        learnt = (1.0 - kept) * (1.0 - kept) * x0_variance
        spread2 = variance + learnt
        classes = cost_class(spread2 / variance, self._floor(sigma))
        return StepLaw(mean, index, np.sqrt(spread2) * _ONE, classes, variance, kept, x0_mean, x0_variance)

    @staticmethod
    def _floor(sigma: float) -> int:
        return next((floor for least, floor in FLOORS if sigma >= least), LOWEST)

    def _seen(self, z_t: Latents, patch: Patch) -> tuple[Latents, Patch]:
        """Return the network input for a patch, [1, D, h, w], and the patch relative to it."""
        outer = patch.widened(MARGIN // self.transform.block, (z_t.shape[1], z_t.shape[2]))
        return np.ascontiguousarray(z_t[None][outer.at]), patch.within(outer)
