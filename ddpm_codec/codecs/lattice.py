"""A frozen chain as the lattice model that bits-back coding sees: integers and correctly rounded float64 only.

Latents live in the transform domain, in variance-exploding coordinates and grey levels: z_j = y_0 + sigma_j eps with
y_0 = W (x_0 - 127.5), on the lattice z_j = delta_j n_j, delta_j = sigma_j / RATIO. With the discrete Gaussians of
:mod:`ddpm_codec.coding.tables` so coarse a lattice costs nothing. For s < t, with a = sigma_s^2 / sigma_t^2,

    q(z_t | z_s) = N(z_s, sigma_t^2 - sigma_s^2),
    p(z_s | z_t) = N(a z_t + (1 - a) W x0_mean, sigma_s^2 (1 - a) + (1 - a)^2 w),

which is the step of :mod:`ddpm_codec.diffusion.gaussian` divided by sqrt(alpha_bar_s).
"""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.arithmetic import GREY2, PixelLaw, grey_variances, noisy_picture, norms, rounded
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.nn import integer
from ddpm_codec.nn.integer import IntegerDenoiser
from ddpm_codec.units import GREY_MAX

RATIO = 0.75
"""sigma_j / delta_j: the width of the lattice."""

_ONE = float(1 << MEAN_BITS)

Ints = NDArray[np.int64]
Indices = NDArray[np.int32]


class DiffusionLattice:
    """The :class:`~ddpm_codec.coding.bits_back.LatticeModel` of a denoiser and a chain.

    Args:
        denoiser: integers in, integers out.
        transform: W.
        sigmas: noise of each level in model values, cleanest first, [K + 1].
        prior_mean: mean of each coefficient of W x_0 in model values, [D].
        prior_variance: its variance, [D].

    Attributes:
        steps: K.
        sigmas: in grey levels, [K + 1].
    """

    def __init__(
        self,
        denoiser: IntegerDenoiser,
        transform: BlockTransform,
        sigmas: tuple[float, ...],
        prior_mean: NDArray[np.float64],
        prior_variance: NDArray[np.float64],
    ) -> None:
        self.steps = len(sigmas) - 1
        self._denoiser, self._transform = denoiser, transform
        self.sigmas = np.array(sigmas, dtype=np.float64) * 127.5
        self._delta = self.sigmas / RATIO
        self._norm = norms(transform)
        self._variance = grey_variances()
        self._prior_mean, self._prior_variance = prior_mean * 127.5, prior_variance * GREY2
        self._reverse_scales = [np.zeros(0, np.int32)] + [self._scales(t) for t in range(1, self.steps + 1)]
        self._pixel_law = PixelLaw()

    def unit(self, level: int) -> float:
        """Return delta, the distance of lattice points at a level, in grey levels."""
        return float(self._delta[level])

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return [B, D, H / block, W / block] for padded pictures [B, 3, H, W]."""
        images, _, height, width = shape
        side = self._transform.block
        return images, self._transform.dims, height // side, width // side

    def encode_mean(self, x0: NDArray[np.uint8]) -> Ints:
        """Return the mean of n_0 given grey levels x0 [B, 3, H, W], [B, D, h, w]."""
        doubled = 2 * x0.astype(np.int64) - GREY_MAX
        return rounded(self._transform.forward_exact(doubled) * (_ONE / (2.0 * self._norm * self._delta[0])))

    def forward_scale(self, level: int) -> float:
        """Return the standard deviation of q(z_level | z_{level - 1}), or of q(z_0 | y_0), in units of delta_level."""
        if level == 0:
            return RATIO
        cleaner = self.sigmas[level - 1]
        return float(np.sqrt(self.sigmas[level] * self.sigmas[level] - cleaner * cleaner) / self._delta[level])

    def forward_mean(self, n_prev: NDArray[np.int32], level: int) -> Ints:
        """Return the mean of n_level given n_{level - 1}."""
        return rounded(n_prev * (self._delta[level - 1] / self._delta[level] * _ONE))

    def likelihood(self, n_0: NDArray[np.int32]) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(x_0 | z_0), grey levels, [B, 3, H, W]."""
        return self._pixel_law(self._denoiser.pixels(self._picture(n_0, 0), 0))

    def reverse(self, n_t: NDArray[np.int32], level: int) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(n_{level - 1} | n_level), [B, D, h, w]."""
        # Where W is the identity, a coefficient is a sub-pixel.
        predict = self._denoiser.pixels if self._transform.block == 1 else self._denoiser.coefficients
        prediction = predict(self._picture(n_t, level), level)
        kept = self._kept(level)
        cleaner = self._delta[level - 1]
        from_noisy = n_t * (kept * self._delta[level] / cleaner * _ONE)
        weight = (1.0 - kept) * _ONE / (2**integer.MEAN_BITS * self._norm * cleaner)
        from_mean = self._transform.forward_exact(prediction.mean) * weight
        return rounded(from_noisy + from_mean), self._reverse_scales[level][prediction.log_var_index]

    def prior(self, shape: tuple[int, ...]) -> tuple[Ints, Indices]:
        """Return mean and scale index of p(n_K) for latents of ``shape`` [B, D, h, w]."""
        delta = self._delta[-1]
        scale = np.sqrt(self._prior_variance + self.sigmas[-1] * self.sigmas[-1]) / delta
        per_class = (1, len(scale), 1, 1)
        mean = rounded(self._prior_mean * (_ONE / delta)).reshape(per_class)
        index = LATTICE_GRID.index(scale).astype(np.int32).reshape(per_class)
        return np.broadcast_to(mean, shape), np.broadcast_to(index, shape)

    def _kept(self, level: int) -> float:
        ratio = self.sigmas[level - 1] / self.sigmas[level]
        return float(ratio * ratio)

    def _scales(self, level: int) -> Indices:
        """Return the table scale of p(z_{level - 1} | z_level) for every variance index."""
        kept, cleaner = self._kept(level), self.sigmas[level - 1]
        learnt = (1.0 - kept) * (1.0 - kept) * self._variance
        variance = cleaner * cleaner * (1.0 - kept) + learnt
        return LATTICE_GRID.index(np.sqrt(variance) / self._delta[level - 1]).astype(np.int32)

    def _picture(self, n: NDArray[np.int32], level: int) -> Ints:
        return noisy_picture(self._transform, n, float(self._delta[level]))
