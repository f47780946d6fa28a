"""Latents of a frozen chain in grey levels, used by every codec: integers and correctly rounded float64.

Latents live in the transform domain, in variance-exploding coordinates and grey levels: z_j = y_0 + sigma_j eps with
y_0 = W (x_0 - 127.5), on the lattice z_j = delta_j n_j, delta_j = sigma_j / RATIO. With the discrete Gaussians of
:mod:`ddpm_codec.coding.tables` this coarse lattice costs no rate. For s < t, with a = sigma_s^2 / sigma_t^2,

    q(z_t | z_s) = N(z_s, sigma_t^2 - sigma_s^2),
    p(z_s | z_t) = N(a z_t + (1 - a) W x0_mean, sigma_s^2 (1 - a) + (1 - a)^2 w),

the step of :mod:`ddpm_codec.diffusion.gaussian` divided by sqrt(alpha_bar_s).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixel_code import PixelCode
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.bits_back import pop_factorised, push_factorised
from ddpm_codec.coding.exact_math import exact_exp
from ddpm_codec.coding.streams import pop_streams, push_streams
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS, PIXEL_GRID, PRECISION
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import FormatError
from ddpm_codec.nn import integer
from ddpm_codec.nn.integer import IntegerDenoiser, IntegerPrediction
from ddpm_codec.stopwatch import SharedStopwatch
from ddpm_codec.units import GREY_MAX, GREY_PER_UNIT
from ddpm_codec.workers import Workers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Indices = NDArray[np.int32]

GREY2 = GREY_PER_UNIT * GREY_PER_UNIT
"""Ratio of a variance in grey levels squared to the same variance in model values."""

_SHIFT = 20
"""Fractional bits used when a picture is assembled from coefficients."""

_FARTHEST = float(1 << 24)
"""Limit in grey levels: arithmetic is exact up to here, and only damaged data contains larger latents."""

RATIO = 0.75
"""sigma_j / delta_j, the resolution of the lattice."""

_ONE = float(1 << MEAN_BITS)


def grey_variances() -> Floats:
    """Return the variance of each prediction index, in grey levels squared."""
    logs = integer.log_variances()
    variance = exact_exp(-np.abs(logs))
    return np.where(logs > 0, 1.0 / variance, variance) * GREY2


def norms(transform: BlockTransform) -> Floats:
    """Return the norms of the rows of M, [1, D, 1, 1]."""
    return np.sqrt(transform.norms2.astype(np.float64))[None, :, None, None]


def noisy_picture(transform: BlockTransform, values: NDArray[np.int32], unit: float) -> Ints:
    """Return W^T z as network input, (grey - 127.5) 2**PICTURE_BITS, [B, 3, H, W].

    Args:
        transform: W.
        values: z in units of ``unit`` grey levels, [B, D, h, w].
        unit: grey levels per unit of ``values``.

    Raises:
        FormatError: a latent is out of range.
    """
    # Python integers, because abs(INT32_MIN) overflows.
    if max(int(values.max(initial=0)), -int(values.min(initial=0))) * unit > _FARTHEST:
        raise FormatError("its entropy-coded data is damaged")
    fixed = np.rint(values * (unit / norms(transform) * 2.0**_SHIFT)).astype(np.int64)
    # `fixed` includes one factor 1/norm of M^T N^-1/2; M^T itself is exact.
    drop = _SHIFT - integer.PICTURE_BITS
    return (transform.inverse_exact(fixed) + (1 << (drop - 1))) >> drop


def rounded(values: NDArray[np.floating[Any]]) -> Ints:
    """Round to the nearest integers, ties to even."""
    nearest: Ints = np.rint(values).astype(np.int64)
    return nearest


class GreyChain:
    """A denoiser, a transform and the levels of a chain, in grey levels.

    Args:
        denoiser: the integer denoiser.
        transform: W.
        sigmas: sigma of each level in model values, cleanest first, [K + 1].
        prior_mean: mean of each coefficient of W x_0 in model values, [D].
        prior_variance: variance of each coefficient, [D].
        network: adds up the time in the network; None: one of its own.

    Attributes:
        steps: K.
        transform: W.
        norm: norms of the rows of M, [1, D, 1, 1].
        sigmas: in grey levels, [K + 1].
        variance: variance of each prediction index, in grey levels squared.
        prior_mean: in grey levels, [D].
        prior_variance: in grey levels squared, [D].
    """

    def __init__(
        self,
        denoiser: IntegerDenoiser,
        transform: BlockTransform,
        sigmas: tuple[float, ...],
        prior_mean: Floats,
        prior_variance: Floats,
        network: SharedStopwatch | None = None,
    ) -> None:
        self.steps = len(sigmas) - 1
        self.transform, self.norm = transform, norms(transform)
        self.sigmas: Floats = np.array(sigmas, dtype=np.float64) * GREY_PER_UNIT
        self.variance = grey_variances()
        self.prior_mean, self.prior_variance = prior_mean * GREY_PER_UNIT, prior_variance * GREY2
        self._network = network or SharedStopwatch()
        self._denoiser = denoiser
        self._pixel_scales = PIXEL_GRID.index(np.sqrt(self.variance)).astype(np.int32)

    def kept(self, level: int) -> float:
        """Return a of the step from ``level`` to ``level - 1``, the weight of z_t in the mean of z_s."""
        ratio = self.sigmas[level - 1] / self.sigmas[level]
        return float(ratio * ratio)

    def predict(self, z_t: NDArray[np.int32], unit: float, level: int) -> tuple[Ints, NDArray[np.integer]]:
        """Return M x0_mean and its variance indices.

        Args:
            z_t: latents in units of ``unit`` grey levels, [B, D, h, w].
            unit: grey levels per unit of ``z_t``.
            level: t, 1 to K.

        Returns:
            Coefficients in units of norm 2**-integer.MEAN_BITS grey levels, and indices, each [B, D, h, w].

        Raises:
            FormatError: a latent is out of range.
        """
        # If W is the identity, a coefficient is a sub-pixel.
        predict = self._denoiser.pixels if self.transform.block == 1 else self._denoiser.coefficients
        prediction = self._timed(predict, self.noisy(z_t, unit), level)
        mean = _by_workers(self.transform.forward_exact, prediction.mean, self.transform.block)
        return mean, prediction.log_var_index

    def pixel_law(self, z_0: NDArray[np.int32], unit: float) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(x_0 | z_0) for the entropy coder, in grey levels, [B, 3, H, W].

        Args:
            z_0: latents in units of ``unit`` grey levels, [B, D, h, w].
            unit: grey levels per unit of ``z_0``.

        Raises:
            FormatError: a latent is out of range.
        """
        return self.pixel_law_of(self.noisy(z_0, unit))

    def pixel_law_of(self, picture: Ints) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(x_0 | z_0) as :meth:`pixel_law` does, for z_0 as the network reads it."""
        prediction = self._timed(self._denoiser.pixels, picture, 0)
        half = (GREY_MAX << MEAN_BITS) >> 1
        mean = (prediction.mean << (MEAN_BITS - integer.MEAN_BITS)) + half
        return mean, self._pixel_scales[prediction.log_var_index]

    def noisy(self, latents: NDArray[np.int32], unit: float) -> Ints:
        """Return W^T z as network input, as :func:`noisy_picture` does; workers share it out."""
        return _by_workers(lambda part: noisy_picture(self.transform, part, unit), latents, 1)

    def _timed(self, predict: Callable[[Ints, int], IntegerPrediction], picture: Ints, level: int) -> IntegerPrediction:
        with self._network.running():
            return predict(picture, level)


def _by_workers(function: Callable[[Any], Ints], batch: NDArray[Any], block: int) -> Ints:
    """Return ``function`` of a batch [B, C, h, w], some of it at a time: pictures, or of few pictures rows of blocks."""
    workers = Workers()
    if len(batch) >= workers.count:
        return np.concatenate(workers.map(lambda part: function(batch[part]), workers.shares(len(batch))))
    rows = [slice(part.start * block, part.stop * block) for part in workers.shares(batch.shape[2] // block)]
    return np.concatenate(workers.map(lambda part: function(batch[:, :, part]), rows), axis=2)


def _longest_stream(shape: tuple[int, ...]) -> int:
    """Return the most bytes that a stream of a batch of pictures has: PRECISION bits a sub-pixel, and the coder's state."""
    return (PRECISION * math.prod(shape) + 64) // 8


class DiffusionLattice:
    """:class:`~ddpm_codec.coding.bits_back.LatticeModel` of a denoiser and a chain.

    Args:
        chain: the denoiser and its levels.
        pixels: the pixel decoder that takes over at level 0; None: the denoiser gives independent sub-pixels there.

    Attributes:
        steps: K.
        sigmas: in grey levels, [K + 1].
    """

    def __init__(self, chain: GreyChain, pixels: PixelCode | None = None) -> None:
        self._chain, self._transform, self._pixels = chain, chain.transform, pixels
        self.steps, self.sigmas = chain.steps, chain.sigmas
        self._delta = self.sigmas / RATIO
        self._reverse_scales = [np.zeros(0, np.int32)] + [self._scales(t) for t in range(1, self.steps + 1)]

    def unit(self, level: int) -> float:
        """Return delta, the spacing of the lattice at a level, in grey levels."""
        return float(self._delta[level])

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the latent shape [B, D, H / block, W / block] of padded pictures [B, 3, H, W]."""
        images, _, height, width = shape
        side = self._transform.block
        return images, self._transform.dims, height // side, width // side

    def encode_mean(self, x0: NDArray[np.uint8]) -> Ints:
        """Return the mean of n_0, [B, D, h, w], given grey levels x0 [B, 3, H, W]."""
        doubled = 2 * x0.astype(np.int64) - GREY_MAX
        return rounded(self._transform.forward_exact(doubled) * (_ONE / (2.0 * self._chain.norm * self._delta[0])))

    def forward_scale(self, level: int) -> float:
        """Return the standard deviation of q(z_level | z_{level - 1}), or q(z_0 | y_0), in units of delta_level."""
        if level == 0:
            return RATIO
        cleaner = self.sigmas[level - 1]
        return float(np.sqrt(self.sigmas[level] * self.sigmas[level] - cleaner * cleaner) / self._delta[level])

    def forward_mean(self, n_prev: NDArray[np.int32], level: int) -> Ints:
        """Return the mean of n_level given n_{level - 1}."""
        return rounded(n_prev * (self._delta[level - 1] / self._delta[level] * _ONE))

    def push_pictures(self, stack: Stack, x0: NDArray[np.uint8], n_0: NDArray[np.int32], prices: Floats | None) -> None:
        """Push pictures x0 [B, 3, h, w] under p(x_0 | n_0); see :class:`~ddpm_codec.coding.bits_back.LatticeModel`."""
        if self._pixels is None:
            push_factorised(stack, x0, self._chain.pixel_law(n_0, self.unit(0)), prices)
            return
        coded = self._pixels.given(noisy_picture(self._transform, n_0, self.unit(0))).encode(x0)
        push_streams(stack, coded.streams, _longest_stream(x0.shape))
        if prices is not None:
            prices += coded.bits

    def pop_pictures(self, stack: Stack, shape: tuple[int, int, int, int], n_0: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Pop what :meth:`push_pictures` pushed, of ``shape`` [B, 3, h, w].

        Raises:
            FormatError: it was not pushed by that.
        """
        if self._pixels is None:
            return pop_factorised(stack, shape, self._chain.pixel_law(n_0, self.unit(0)))
        images, _, height, width = shape
        streams = pop_streams(stack, self._pixels.stream_count(images, height, width), _longest_stream(shape))
        picture = noisy_picture(self._transform, n_0, self.unit(0))
        return self._pixels.given(picture).decode((height, width), streams)

    def reverse(self, n_t: NDArray[np.int32], level: int) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(n_{level - 1} | n_level), [B, D, h, w]."""
        mean, index = self._chain.predict(n_t, float(self._delta[level]), level)
        kept = self._chain.kept(level)
        cleaner = self._delta[level - 1]
        from_noisy = n_t * (kept * self._delta[level] / cleaner * _ONE)
        weight = (1.0 - kept) * _ONE / (2**integer.MEAN_BITS * self._chain.norm * cleaner)
        from_mean = mean * weight
        return rounded(from_noisy + from_mean), self._reverse_scales[level][index]

    def prior(self, shape: tuple[int, ...]) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(n_K) for latents of ``shape`` [B, D, h, w]."""
        delta = self._delta[-1]
        scale = np.sqrt(self._chain.prior_variance + self.sigmas[-1] * self.sigmas[-1]) / delta
        per_class = (1, len(scale), 1, 1)
        mean = rounded(self._chain.prior_mean * (_ONE / delta)).reshape(per_class)
        index = LATTICE_GRID.index(scale).astype(np.int32).reshape(per_class)
        return np.broadcast_to(mean, shape), np.broadcast_to(index, shape)

    def _scales(self, level: int) -> Indices:
        """Return the table scale of p(z_{level - 1} | z_level) for each variance index."""
        kept, cleaner = self._chain.kept(level), self.sigmas[level - 1]
        learnt = (1.0 - kept) * (1.0 - kept) * self._chain.variance
        variance = cleaner * cleaner * (1.0 - kept) + learnt
        return LATTICE_GRID.index(np.sqrt(variance) / self._delta[level - 1]).astype(np.int32)
