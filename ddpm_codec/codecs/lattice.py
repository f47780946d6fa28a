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

from ddpm_codec.codecs.latents import GreyChain, rounded
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS
from ddpm_codec.nn import integer
from ddpm_codec.units import GREY_MAX

RATIO = 0.75
"""sigma_j / delta_j: the width of the lattice."""

_ONE = float(1 << MEAN_BITS)

Ints = NDArray[np.int64]
Indices = NDArray[np.int32]


class DiffusionLattice:
    """The :class:`~ddpm_codec.coding.bits_back.LatticeModel` of a denoiser and a chain.

    Args:
        chain: the denoiser and its levels.

    Attributes:
        steps: K.
        sigmas: in grey levels, [K + 1].
    """

    def __init__(self, chain: GreyChain) -> None:
        self._chain, self._transform = chain, chain.transform
        self.steps, self.sigmas = chain.steps, chain.sigmas
        self._delta = self.sigmas / RATIO
        self._reverse_scales = [np.zeros(0, np.int32)] + [self._scales(t) for t in range(1, self.steps + 1)]

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
        return rounded(self._transform.forward_exact(doubled) * (_ONE / (2.0 * self._chain.norm * self._delta[0])))

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
        return self._chain.pixel_law(n_0, float(self._delta[0]))

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
        """Return the table scale of p(z_{level - 1} | z_level) for every variance index."""
        kept, cleaner = self._chain.kept(level), self.sigmas[level - 1]
        learnt = (1.0 - kept) * (1.0 - kept) * self._chain.variance
        variance = cleaner * cleaner * (1.0 - kept) + learnt
        return LATTICE_GRID.index(np.sqrt(variance) / self._delta[level - 1]).astype(np.int32)
