"""Chains: the few noise levels that a codec visits, and how to choose them.

The bound of a chain with levels 0 (cleanest) to K is

    L = reconstruction[level 0] + sum_k transition[level k-1, level k] + prior[level K],

a shortest path. One table over G candidate levels therefore prices every sub-chain, and dynamic programming finds the
best chain of exactly K steps in O(K G^2). Source: Watson et al. 2021, arXiv:2106.03802.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.diffusion.noise_level import log_snr_from_sigma
from ddpm_codec.errors import InputError

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chain:
    """Noise levels of a codec, cleanest first.

    Attributes:
        log_snr: K + 1 levels, strictly decreasing.

    Raises:
        InputError: for fewer than two levels, or levels that are not finite and strictly decreasing.
    """

    log_snr: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.log_snr) < 2:
            raise InputError(f"a chain needs at least two levels (one step); got {len(self.log_snr)}")
        levels = np.asarray(self.log_snr, dtype=np.float64)
        if not np.isfinite(levels).all() or (np.diff(levels) >= 0.0).any():
            raise InputError("the log-SNR of a chain must be finite and strictly decreasing (cleanest first)")

    @classmethod
    def from_sigmas(cls, sigmas: Sequence[float]) -> Self:
        """Return the chain of K + 1 standard deviations of the noise, model values, strictly increasing."""
        return cls(tuple(log_snr_from_sigma(sigmas).tolist()))

    @property
    def steps(self) -> int:
        """K, the number of reverse steps between the K + 1 levels."""
        return len(self.log_snr) - 1

    @property
    def snr_differences(self) -> tuple[float, ...]:
        """snr_s - snr_t of each step, cleanest step first, K values."""
        levels = np.asarray(self.log_snr, dtype=np.float64)
        return tuple((-np.exp(levels[:-1]) * np.expm1(np.diff(levels))).tolist())


def even_chain(log_snr_max: float, log_snr_min: float, steps: int) -> Chain:
    """Return the chain of ``steps`` equal steps in log-SNR from ``log_snr_max`` to ``log_snr_min``.

    Raises:
        InputError: for no step, or a range that does not decrease.
    """
    if steps < 1:
        raise InputError(f"a chain needs at least one step; got {steps}")
    return Chain(tuple(np.linspace(log_snr_max, log_snr_min, steps + 1).tolist()))


@dataclass(frozen=True, eq=False)
class LevelTable:
    """What every message would cost, in nats per dimension, over G candidate levels, cleanest first.

    Attributes:
        log_snr: candidate levels, [G], strictly decreasing.
        transition_nats: KL of the reverse step t -> s, [G, G] at [s, t]; infinite where s >= t or not measured.
        reconstruction_nats: L_0 decoded from each level, [G].
        prior_nats: L_T of a chain that ends at each level, [G].

    Raises:
        InputError: where shapes do not fit, levels do not decrease, or a cost is NaN.
    """

    log_snr: _Array
    transition_nats: _Array
    reconstruction_nats: _Array
    prior_nats: _Array

    def __post_init__(self) -> None:
        count = len(self.log_snr)
        shapes = (self.transition_nats.shape, self.reconstruction_nats.shape, self.prior_nats.shape)
        if shapes != ((count, count), (count,), (count,)):
            raise InputError(f"a level table of {count} levels cannot hold arrays of shapes {shapes}")
        if (np.diff(self.log_snr) >= 0.0).any():
            raise InputError("the candidate levels of a table must have decreasing log-SNR (cleanest first)")
        for name in ("transition_nats", "reconstruction_nats", "prior_nats"):
            if np.isnan(getattr(self, name)).any():
                raise InputError(f"level table: {name} holds NaN")

    def cost_nats(self, chain: Chain) -> float:
        """Return what a chain of candidate levels costs, in nats per dimension."""
        places = np.searchsorted(-self.log_snr, -np.array(chain.log_snr))
        steps = self.transition_nats[places[:-1], places[1:]].sum()
        return float(self.reconstruction_nats[places[0]] + steps + self.prior_nats[places[-1]])


def select_chain(table: LevelTable, steps: int) -> Chain:
    """Return the chain of exactly ``steps`` steps among the candidate levels that has the lowest bound.

    The cost of the chosen chain in a table measured on few pictures is too low, because its noise was chosen too: report
    :func:`~ddpm_codec.diffusion.bound.evaluate_bound` on other pictures instead.

    Args:
        table: costs over G candidate levels.
        steps: K, from 1 to G - 1.

    Raises:
        InputError: for a K out of range, or where no chain of K steps has a finite cost.
    """
    count = len(table.log_snr)
    if not 1 <= steps < count:
        raise InputError(f"cannot choose {steps} steps among {count} levels: from 1 to {count - 1} steps fit")
    above = np.triu(np.ones((count, count), dtype=bool), k=1)
    transition = np.where(above, table.transition_nats, np.inf)
    cost = table.reconstruction_nats
    came_from = np.empty((steps, count), dtype=np.int64)
    for step in range(steps):
        through = cost[:, None] + transition
        came_from[step] = through.argmin(axis=0)
        cost = through.min(axis=0)
    cost = cost + table.prior_nats
    path = [int(cost.argmin())]
    if not np.isfinite(cost[path[0]]):
        raise InputError(f"no chain of {steps} steps has a finite cost in this level table")
    for step in reversed(range(steps)):
        path.append(int(came_from[step, path[-1]]))
    return Chain(tuple(table.log_snr[path[::-1]].tolist()))


def transition_from_mse(log_snr: _Array, mse: _Array) -> _Array:
    """Return the step costs of one optimal variance per level, or per level and coefficient class.

        cost[s, t] = mean_c 1/2 ln(1 + (snr_s - snr_t) mse[t, c]).

    Args:
        log_snr: candidate levels, cleanest first, [G].
        mse: mean squared error of x0_mean in model values, [G], or of each coefficient class, [G, D].

    Returns:
        Nats per dimension, [G, G] at [s, t]; infinite where s >= t.

    Raises:
        InputError: where the shapes do not fit or an error is negative.

    Source: Bao et al. 2022 (Analytic-DPM), theorem 1 (the optimal variance); VDM's snr_s - snr_t for the weight.
    """
    levels = np.asarray(log_snr, dtype=np.float64)
    errors = np.asarray(mse, dtype=np.float64).reshape(len(mse), -1)
    if len(errors) != len(levels):
        raise InputError(f"expected mean squared errors of {len(levels)} levels, got {len(errors)}")
    if not (errors >= 0.0).all():
        raise InputError("mean squared errors must not be negative")
    costs = np.full((len(levels), len(levels)), np.inf)
    for t in range(1, len(levels)):
        difference = _snr_differences(levels, t)
        costs[:t, t] = 0.5 * np.log1p(difference[:, None] * errors[t]).mean(axis=1)
    return costs


def fixed_transition(log_snr: _Array, mse: _Array, kind: str) -> _Array:
    """Return the mean costs of steps with variance ``beta`` or ``beta-tilde``.

        cost[s, t] = 1/2 [ rho + e^-rho - 1 + d mse_t e^-rho ],   d = snr_s - snr_t,
        rho = ln( (1 - alpha_bar_t) / (1 - alpha_bar_s) ) or 0.

    Args:
        log_snr: levels, cleanest first, [G].
        mse: mean squared error of x0_mean at each, [G].
        kind: ``beta`` or ``beta-tilde``.

    Returns:
        Nats per dimension, [G, G] at [s, t]; infinite where s >= t.

    Source: Ho et al. 2020, eq. 5 with the variances of sec. 3.2; VDM's snr_s - snr_t for the weight.
    """
    # Imported here: it takes a few tenths of a second, and codec models need no fixed variances.
    from scipy.special import log_expit

    log_noise = log_expit(-np.asarray(log_snr, dtype=np.float64))
    costs = np.full((len(log_snr), len(log_snr)), np.inf)
    for t in range(1, len(log_snr)):
        difference = _snr_differences(log_snr, t)
        rho = log_noise[t] - log_noise[:t] if kind == "beta" else np.zeros(t)
        costs[:t, t] = 0.5 * (rho + np.expm1(-rho) + difference * mse[t] * np.exp(-rho))
    return costs


def _snr_differences(log_snr: _Array, t: int) -> _Array:
    """Return snr_s - snr_t = snr_t (snr_s / snr_t - 1) for every s < t, without cancellation for neighbouring levels."""
    differences: _Array = np.exp(log_snr[t]) * np.expm1(log_snr[:t] - log_snr[t])
    return differences
