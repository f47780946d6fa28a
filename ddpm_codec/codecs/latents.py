"""Latents of a frozen chain in grey levels, as every codec computes with them: integers and correctly rounded float64."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.exact_math import exact_exp
from ddpm_codec.coding.tables import MEAN_BITS, PIXEL_GRID
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import FormatError
from ddpm_codec.nn import integer
from ddpm_codec.nn.integer import IntegerDenoiser, IntegerPrediction
from ddpm_codec.stopwatch import Stopwatch
from ddpm_codec.units import GREY_MAX, GREY_PER_UNIT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Indices = NDArray[np.int32]

GREY2 = GREY_PER_UNIT * GREY_PER_UNIT
"""Variances in grey levels are so many times those in model values."""

_SHIFT = 20
"""Fractional bits while a picture is put together from coefficients."""

_FARTHEST = float(1 << 24)
"""Grey levels: only damaged data hold latents beyond, and arithmetic stays exact up to here."""


def grey_variances() -> Floats:
    """Return the variance that each index of a prediction stands for, in grey levels squared."""
    logs = integer.log_variances()
    variance = exact_exp(-np.abs(logs))
    return np.where(logs > 0, 1.0 / variance, variance) * GREY2


def norms(transform: BlockTransform) -> Floats:
    """Return the norm of each row of M, [1, D, 1, 1]."""
    return np.sqrt(transform.norms2.astype(np.float64))[None, :, None, None]


def noisy_picture(transform: BlockTransform, values: NDArray[np.int32], unit: float) -> Ints:
    """Return W^T z as the network reads it, (grey - 127.5) 2**PICTURE_BITS, [B, 3, H, W].

    Args:
        transform: W.
        values: z in units of ``unit`` grey levels, [B, D, h, w].
        unit: size of one.

    Raises:
        FormatError: a latent that no encoder draws.
    """
    # Python integers: the absolute value of the smallest int32 is not one.
    if max(int(values.max(initial=0)), -int(values.min(initial=0))) * unit > _FARTHEST:
        raise FormatError("its entropy-coded data is damaged")
    fixed = np.rint(values * (unit / norms(transform) * 2.0**_SHIFT)).astype(np.int64)
    # One factor 1/norm of M^T N^-1/2 is in `fixed`; M^T itself is exact.
    drop = _SHIFT - integer.PICTURE_BITS
    return (transform.inverse_exact(fixed) + (1 << (drop - 1))) >> drop


def rounded(values: NDArray[np.floating[Any]]) -> Ints:
    """Return the nearest integers, halves to even."""
    nearest: Ints = np.rint(values).astype(np.int64)
    return nearest


class GreyChain:
    """A denoiser, a transform and the levels of a chain.

    Args:
        denoiser: integers in, integers out.
        transform: W.
        sigmas: noise of each level in model values, cleanest first, [K + 1].
        prior_mean: mean of each coefficient of W x_0 in model values, [D].
        prior_variance: its variance, [D].

    Attributes:
        steps: K.
        transform: W.
        norm: of the rows of M, [1, D, 1, 1].
        sigmas: in grey levels, [K + 1].
        variance: that each index of a prediction stands for, in grey levels squared.
        prior_mean: in grey levels, [D].
        prior_variance: in grey levels squared, [D].
        network: time spent in the network so far.
    """

    def __init__(
        self,
        denoiser: IntegerDenoiser,
        transform: BlockTransform,
        sigmas: tuple[float, ...],
        prior_mean: Floats,
        prior_variance: Floats,
    ) -> None:
        self.steps = len(sigmas) - 1
        self.transform, self.norm = transform, norms(transform)
        self.sigmas: Floats = np.array(sigmas, dtype=np.float64) * GREY_PER_UNIT
        self.variance = grey_variances()
        self.prior_mean, self.prior_variance = prior_mean * GREY_PER_UNIT, prior_variance * GREY2
        self.network = Stopwatch()
        self._lock = threading.Lock()
        self._denoiser = denoiser
        self._pixel_scales = PIXEL_GRID.index(np.sqrt(self.variance)).astype(np.int32)

    def kept(self, level: int) -> float:
        """Return a of the step from ``level`` to the one below, the weight of z_t in the mean of z_s."""
        ratio = self.sigmas[level - 1] / self.sigmas[level]
        return float(ratio * ratio)

    def predict(self, z_t: NDArray[np.int32], unit: float, level: int) -> tuple[Ints, NDArray[np.integer]]:
        """Return M x0_mean and the index of its variance.

        Args:
            z_t: latents in units of ``unit`` grey levels, [B, D, h, w].
            unit: size of one.
            level: t, 1 to K.

        Returns:
            Coefficients in units of norm 2**-integer.MEAN_BITS grey levels, and indices, [B, D, h, w] each.

        Raises:
            FormatError: a latent that no encoder draws.
        """
        # Where W is the identity, a coefficient is a sub-pixel.
        predict = self._denoiser.pixels if self.transform.block == 1 else self._denoiser.coefficients
        prediction = self._timed(predict, noisy_picture(self.transform, z_t, unit), level)
        return self.transform.forward_exact(prediction.mean), prediction.log_var_index

    def pixel_law(self, z_0: NDArray[np.int32], unit: float) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(x_0 | z_0) as the entropy coder takes them, grey levels, [B, 3, H, W].

        Args:
            z_0: latents in units of ``unit`` grey levels, [B, D, h, w].
            unit: size of one.

        Raises:
            FormatError: a latent that no encoder draws.
        """
        prediction = self._timed(self._denoiser.pixels, noisy_picture(self.transform, z_0, unit), 0)
        half = (GREY_MAX << MEAN_BITS) >> 1
        mean = (prediction.mean << (MEAN_BITS - integer.MEAN_BITS)) + half
        return mean, self._pixel_scales[prediction.log_var_index]

    def _timed(self, predict: Callable[[Ints, int], IntegerPrediction], picture: Ints, level: int) -> IntegerPrediction:
        # The network works in buffers of its own, so one thread at a time.
        with self._lock, self.network:
            return predict(picture, level)
