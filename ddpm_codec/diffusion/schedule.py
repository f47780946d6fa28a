"""Noise schedules, in float64 and without torch.

A schedule is a list of levels, cleanest first, each with ``alpha_bar``. It is kept as ln alpha_bar, from which every
other quantity follows without cancellation: at the clean end 1 - alpha_bar is as small as 1e-5, at the noisy end
alpha_bar is.

    snr = alpha_bar / (1 - alpha_bar),   log_snr = ln alpha_bar - ln(-expm1(ln alpha_bar)).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddpm_codec.errors import InputError


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Levels of the variance-preserving process, cleanest first.

    Attributes:
        log_alpha_bar: ln alpha_bar of each level, [T] float64, negative and strictly decreasing.

    Raises:
        InputError: where the levels are not such a list.
    """

    log_alpha_bar: NDArray[np.float64]

    def __post_init__(self) -> None:
        levels = self.log_alpha_bar
        if levels.ndim != 1 or levels.size == 0 or not np.isfinite(levels).all():
            raise InputError(f"a schedule needs finite levels [T], T >= 1; got shape {levels.shape}")
        if levels[0] >= 0.0 or (np.diff(levels) >= 0.0).any():
            raise InputError("a schedule needs alpha_bar below 1 and strictly decreasing (cleanest level first)")

    @classmethod
    def from_betas(cls, betas: NDArray[np.float64]) -> Self:
        """Return the schedule with ln alpha_bar_t = sum_{i <= t} ln(1 - beta_i).

        Args:
            betas: variances of the single steps, [T], each in (0, 1).

        Raises:
            InputError: for a beta outside (0, 1).

        Source: Ho et al. 2020, eq. 2 and 4.
        """
        steps = np.asarray(betas, dtype=np.float64)
        if not ((steps > 0.0) & (steps < 1.0)).all():
            raise InputError("every beta of a schedule must lie in (0, 1)")
        return cls(np.cumsum(np.log1p(-steps)))

    @classmethod
    def linear_beta(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Self:
        """Return the schedule whose betas go evenly from ``first`` to ``last`` in ``steps`` levels.

        Raises:
            InputError: for fewer than one level or a beta outside (0, 1).

        Source: Ho et al. 2020, sec. 4.
        """
        return cls.from_betas(np.linspace(first, last, _positive(steps)))

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Self:
        """Return the schedule alpha_bar_t = f(t) / f(0), f(t) = cos^2( (t/T + offset) / (1 + offset) pi/2 ).

        Each beta_t = 1 - alpha_bar_t / alpha_bar_{t-1} is held under ``max_beta``.

        Raises:
            InputError: for fewer than one level or a beta outside (0, 1).

        Source: Nichol & Dhariwal 2021, eq. 17.
        """
        times = np.arange(_positive(steps) + 1) / steps
        shape = np.cos((times + offset) / (1.0 + offset) * (0.5 * np.pi)) ** 2
        return cls.from_betas(np.minimum(1.0 - shape[1:] / shape[:-1], max_beta))

    @classmethod
    def from_log_snr(cls, log_snr: ArrayLike) -> Self:
        """Return the schedule with these levels: ln alpha_bar = ln sigmoid(log_snr) = -ln(1 + 1/snr), exact in both tails.

        Args:
            log_snr: [T], strictly decreasing.

        Raises:
            InputError: where the levels are not finite and strictly decreasing, or there are none.
        """
        # Imported here: it takes a few tenths of a second, and codec models need no schedule.
        from scipy.special import log_expit

        return cls(log_expit(np.asarray(log_snr, dtype=np.float64)))

    @property
    def alpha_bar(self) -> NDArray[np.float64]:
        """alpha_bar of each level, [T]."""
        return np.exp(self.log_alpha_bar)

    @property
    def log_snr(self) -> NDArray[np.float64]:
        """Natural logarithm of alpha_bar / (1 - alpha_bar), [T]."""
        return self.log_alpha_bar - np.log(-np.expm1(self.log_alpha_bar))

    @property
    def betas(self) -> NDArray[np.float64]:
        """beta_t = 1 - alpha_bar_t / alpha_bar_{t-1} with alpha_bar_{-1} = 1, [T]."""
        return -np.expm1(np.diff(self.log_alpha_bar, prepend=0.0))


def _positive(count: int) -> int:
    if count < 1:
        raise InputError(f"a schedule needs at least one level; got {count}")
    return count
