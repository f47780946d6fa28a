r"""The discrete process of a DDPM: T timesteps, what its network's output means, which variances its steps have.

Timesteps count from 0, the cleanest, to T - 1; ``schedule`` has their levels. One reverse step from x_t to x_s is

    p(x_s | x_t) = N( a x_t + c x0_mean, v e^rho ),     q(x_s | x_t, x_0) = N( a x_t + c x_0, v ),

with a, c, v of :func:`~ddpm_codec.diffusion.gaussian.posterior` for any s < t, neighbours or not, so a chain of few of the
T levels is the "respaced" process of Nichol & Dhariwal. The log-ratio rho of the reverse variance to the posterior's is

    beta:           ln( (1 - alpha_bar_t) / (1 - alpha_bar_s) ),  since beta_t / v = that ratio
    beta-tilde:     0
    learned-range:  f times that of beta, f = (output + 1) / 2 per sub-pixel.

The last message, L_0, is decoded from level s itself. Its variance is that of a step to the data, where v = 0: the papers
take the v of the step above instead for the smaller, and beta of the level for the larger.
Sources: Ho et al. 2020, eq. 6, 7, 13; Nichol & Dhariwal 2021, eq. 15.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import alpha_bar, posterior, sigma2
from ddpm_codec.diffusion.noise_level import sigma_from_log_snr
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError

OutputKind = Literal["eps", "x0", "v", "previous"]
"""What a network predicts: the noise, the data, v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0, or x_{t-1}."""

ReverseVariance = Literal["beta", "beta-tilde", "learned-range"]
"""Variance of the reverse steps, as in the module's docstring."""


LEAST_LOG_SNR = -80.0


@dataclass(frozen=True, eq=False)
class ReverseProcess:
    """What turns a network's output into p(x_s | x_t).

    Attributes:
        schedule: levels of the T timesteps.
        output: what the network predicts.
        variance: of the steps.
        clip: bound x0_mean to the range of data, [-1, 1], as the published codes do.

    Raises:
        InputError: an unknown output or variance, or a schedule that ends too far out.
    """

    schedule: NoiseSchedule
    output: OutputKind = "eps"
    variance: ReverseVariance = "beta"
    clip: bool = True

    def __post_init__(self) -> None:
        for key, kind in (("output", OutputKind), ("variance", ReverseVariance)):
            if getattr(self, key) not in get_args(kind):
                raise InputError(f"{key} = {getattr(self, key)!r}: use one of {', '.join(get_args(kind))}")

        if self.schedule.log_snr[-1] < LEAST_LOG_SNR:
            raise InputError(
                f"the schedule ends at a log-SNR of {self.schedule.log_snr[-1]:.4g}; below {LEAST_LOG_SNR:g} nothing is left "
                "of x_0 in single precision"
            )

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.schedule.log_alpha_bar)

    def timestep(self, log_snr: Tensor) -> Tensor:
        """Return the timestep of each level, [B] float32; between two of them by their log-SNR.

        Within 1e-3 of a timestep it is that timestep, so that a level in single precision finds it.
        """
        levels = self.schedule.log_snr
        # np.interp wants increasing positions.
        places = np.interp(-log_snr.detach().double().cpu().numpy(), -levels, np.arange(len(levels), dtype=np.float64))
        whole = np.round(places)
        found = np.where(np.abs(places - whole) < 1e-3, whole, places)
        return torch.from_numpy(found).float().to(log_snr.device)

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the channels of the mean and, of a learned range, f = (raw + 1) / 2 from the others."""
        if self.variance != "learned-range":
            return output, None
        mean, raw = output.chunk(2, dim=1)
        return mean, 0.5 * (raw + 1.0)

    def x0_mean(self, output: Tensor, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return E[x_0 | x_t] as the network says it, not clipped.

            eps:       x_t / sqrt(alpha_bar) - eps / sqrt(snr)
            v:         sqrt(alpha_bar) x_t - sqrt(1 - alpha_bar) v
            previous:  (x_{t-1} - a x_t) / c

        Args:
            output: of the network, [B, C, H, W].
            x_t: what it saw, the same shape.
            log_snr: its levels, [B]; for ``previous`` levels of the schedule.
        """
        level = _spread(log_snr)
        if self.output == "x0":
            return output
        if self.output == "eps":
            return x_t / alpha_bar(level).sqrt() - output * sigma_from_log_snr(level)
        if self.output == "v":
            return alpha_bar(level).sqrt() * x_t - sigma2(level).sqrt() * output
        a, c, _ = self._previous(log_snr)
        return (output - _spread(a) * x_t) / _spread(c)

    def target(self, x_0: Tensor, noise: Tensor, x_t: Tensor, log_snr: Tensor) -> Tensor:
        """Return what the network's output should be: the other direction of :meth:`x0_mean`.

        For ``previous`` it is the mean a x_t + c x_0 of x_{t-1}, not a draw: a draw would only add noise of mean zero to the
        gradient, and variance v to the loss.
        """
        level = _spread(log_snr)
        if self.output == "eps":
            return noise
        if self.output == "x0":
            return x_0
        if self.output == "v":
            return alpha_bar(level).sqrt() * noise - sigma2(level).sqrt() * x_0
        a, c, _ = self._previous(log_snr)
        return _spread(a) * x_t + _spread(c) * x_0

    def log_ratio(self, log_snr_s: Tensor, log_snr_t: Tensor, fraction: Tensor | None = None) -> Tensor:
        """Return rho of the step t -> s, broadcastable to pictures.

        Args:
            log_snr_s: [B].
            log_snr_t: [B].
            fraction: f, [B, C, H, W]; needed for a learned range.

        Raises:
            InputError: a learned range without f.
        """
        if self.variance == "beta-tilde":
            return torch.zeros_like(_spread(log_snr_t))
        largest = _spread(sigma2(log_snr_t).log() - sigma2(log_snr_s).log())
        return largest if self.variance == "beta" else _needed(fraction) * largest

    def decoder_log_variance(self, first: Tensor, second: Tensor, fraction: Tensor | None = None) -> Tensor:
        """Return ln variance of p(x_0 | x_first), broadcastable to pictures.

        ln v of the step second -> first for ``beta`` and ``beta-tilde`` (Ho et al. take beta's first entry so too, "for a
        better log-likelihood of the decoder"), and f of the way from there to ln(1 - alpha_bar_first) for a learned range.

        Args:
            first: log-SNR of the cleanest level, [B].
            second: of the next one, [B].
            fraction: f, [B, C, H, W]; needed for a learned range.

        Raises:
            InputError: a learned range without f.
        """
        smallest = _spread(posterior(first, second).v.log())
        if self.variance != "learned-range":
            return smallest
        return smallest + _needed(fraction) * (_spread(sigma2(first).log()) - smallest)

    def _previous(self, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a, c, v of the step to the timestep before; from the cleanest to the data, 0, 1, 0."""
        t = self.timestep(log_snr).round().long()
        levels = torch.from_numpy(self.schedule.log_snr).to(log_snr)
        a, c, v = posterior(levels[(t - 1).clamp(min=0)], levels[t])
        clean = t == 0
        return torch.where(clean, 0.0, a), torch.where(clean, 1.0, c), torch.where(clean, 0.0, v)


def _spread(level: Tensor) -> Tensor:
    return level.reshape(-1, 1, 1, 1)


def _needed(fraction: Tensor | None) -> Tensor:
    if fraction is None:
        raise InputError("a learned range of variances needs a network that predicts one")
    return fraction
