r"""Bits-back coding below a level that both sides know: the lossless end of the hybrid.

With z_m known, the forward chain below it is a Gaussian bridge. In tau = sigma^2 and for s < t < m,

    q(z_t | z_s, z_m) = N( z_s + (tau_t - tau_s) / (tau_m - tau_s) (z_m - z_s),
                           (tau_t - tau_s) (tau_m - tau_t) / (tau_m - tau_s) ),

with z = y_0, tau = 0 in the place of the first z_s; p is the model's as ever, and p(z_{m-1} | z_m) takes the prior's place.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.arithmetic import rounded
from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.progressive.steps import UNIT, Latents, StepLaw
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS

Ints = NDArray[np.int64]
Indices = NDArray[np.int32]

_ONE = float(1 << MEAN_BITS)


class BridgedLattice:
    """The :class:`~ddpm_codec.coding.bits_back.LatticeModel` of levels 0 to m - 1 of a chain, given z_m.

    Args:
        lattice: of the whole chain.
        level: m, at least 1.
        z_m: latents, [B, D, h, w].
        mean: of p(z_{m-1} | z_m) in units of latents, [B, D, h, w].
        spread: its standard deviation, by index.
        index: into ``spread``, [B, D, h, w].
    """

    def __init__(
        self,
        lattice: DiffusionLattice,
        level: int,
        z_m: Latents,
        mean: Ints,
        spread: NDArray[np.float64],
        index: NDArray[np.integer],
    ) -> None:
        self.steps = level - 1
        self._lattice = lattice
        self._tau = lattice.sigmas * lattice.sigmas
        self._end = float(self._tau[level])
        self._z_m = z_m * UNIT
        delta = lattice.unit(self.steps)
        self._mean = rounded(mean * (UNIT / delta * _ONE))
        self._scale = LATTICE_GRID.index(spread * (UNIT / delta)).astype(np.int32)[index]

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See :class:`~ddpm_codec.coding.bits_back.LatticeModel`."""
        return self._lattice.latent_shape(shape)

    def encode_mean(self, x0: NDArray[np.uint8]) -> Ints:
        """Return the mean of n_0 given padded pictures [B, 3, H, W]."""
        delta = self._lattice.unit(0)
        y_0 = self._lattice.encode_mean(x0) * (delta / _ONE)
        return self._bridged(y_0, 0.0, 0)

    def forward_scale(self, level: int) -> float:
        """Return the scale of q(n_level | n_{level-1}, z_m); at level 0, of q(n_0 | x_0, z_m)."""
        start = float(self._tau[level - 1]) if level else 0.0
        here = float(self._tau[level])
        variance = (here - start) * (self._end - here) / (self._end - start)
        return float(np.sqrt(variance) / self._lattice.unit(level))

    def forward_mean(self, n_prev: Latents, level: int) -> Ints:
        """Return the mean of n_level given n_{level-1}."""
        return self._bridged(n_prev * self._lattice.unit(level - 1), float(self._tau[level - 1]), level)

    def likelihood(self, n_0: Latents) -> tuple[Ints, Indices]:
        """Return means and scale indices of p(x_0 | n_0)."""
        return self._lattice.likelihood(n_0)

    def reverse(self, n_t: Latents, level: int) -> tuple[Ints, Indices]:
        """Return means and scale indices of p(n_{level-1} | n_level)."""
        return self._lattice.reverse(n_t, level)

    def prior(self, _shape: tuple[int, ...]) -> tuple[Ints, Indices]:
        """Return means and scale indices of p(n_{m-1} | z_m)."""
        return self._mean, self._scale

    def _bridged(self, z_s: NDArray[np.floating[Any]], start: float, level: int) -> Ints:
        share = (float(self._tau[level]) - start) / (self._end - start)
        z_t = z_s + share * (self._z_m - z_s)
        return rounded(z_t * (_ONE / self._lattice.unit(level)))


def bridge_for(
    lattice: DiffusionLattice, level: int, z_m: Latents, law: StepLaw, places: list[tuple[slice, slice]]
) -> BridgedLattice:
    """Return the lattice model of equal tiles of a picture.

    Args:
        lattice: of the whole chain.
        level: m.
        z_m: latents of the picture, [D, h, w].
        law: p(z_{m-1} | z_m) of the same.
        places: rows and columns of blocks of each tile.
    """
    cut = [np.stack([values[:, rows, columns] for rows, columns in places]) for values in (z_m, law.mean, law.index)]
    return BridgedLattice(lattice, level, cut[0], cut[1], law.spread, cut[2])
