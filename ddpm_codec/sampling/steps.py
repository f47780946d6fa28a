r"""One step t -> s of sampling, s < t: ancestral, or of DDIM.

Everything is computed in float64, whatever the denoiser uses: with a thousand steps, rounding errors add up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import Posterior, alpha_bar, posterior, sigma2
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.diffusion.variance import Variances
from ddpm_codec.errors import InputError

Draw = Callable[[], Tensor]
"""Returns standard normal noise of the shape of the pictures, float64."""


class StepRule(Protocol):
    """How x_s comes from x_t."""

    def __call__(self, x_t: Tensor, prediction: Prediction, log_snr_s: float, log_snr_t: float, draw: Draw) -> Tensor:
        """Return x_s, float64 [B, 3, H, W].

        Args:
            x_t: float64, [B, 3, H, W].
            prediction: the denoiser's prediction from it.
            log_snr_s: level s.
            log_snr_t: level t, noisier.
            draw: called at most once, if the step needs noise.
        """
        ...


@dataclass(frozen=True)
class Ancestral:
    r"""A draw from p(x_s | x_t).

        x_s = a x_t + c x0_mean + sqrt(v e^rho) n,   n ~ N(0, I),

    with a, c, v of :func:`~ddpm_codec.diffusion.gaussian.posterior`. Where rho belongs to coefficients of W x, W n is
    scaled (also standard normal, since W is orthonormal); where it belongs to sub-pixels, n itself.

    Attributes:
        transform: W.
        variances: rho.

    Source: Ho et al. 2020, algorithm 2.
    """

    transform: BlockTransform
    variances: Variances

    def __call__(self, x_t: Tensor, prediction: Prediction, log_snr_s: float, log_snr_t: float, draw: Draw) -> Tensor:
        """See :class:`StepRule`."""
        a, c, v = coefficients(log_snr_s, log_snr_t)
        rho = self.variances.log_ratio(prediction, log_snr_s, log_snr_t)
        mean = a * x_t + c * prediction.x0_mean.double()
        return mean + self._scaled(draw(), (v * rho.to(x_t.device).exp()).sqrt())

    def _scaled(self, noise: Tensor, deviation: Tensor) -> Tensor:
        if self.transform.block == 1 or deviation.shape[1] != self.transform.dims:
            return deviation * noise
        return self.transform.inverse(deviation * self.transform.forward(noise))


@dataclass(frozen=True)
class Ddim:
    r"""A step of DDIM.

        x_s = sqrt(alpha_bar_s) x0_mean + sqrt(1 - alpha_bar_s - eta^2 v) eps_hat + eta sqrt(v) n,
        eps_hat = (x_t - sqrt(alpha_bar_t) x0_mean) / sqrt(1 - alpha_bar_t).

    eta = 0 draws nothing; eta = 1 is the ancestral step with beta-tilde. Where a model clips x0_mean to the range of the
    data, eps_hat is computed from the clipped x0_mean, so that both still add up to x_t.

    Attributes:
        eta: share of noise, 0 to 1.

    Raises:
        InputError: eta is outside that range.

    Source: Song et al. 2021 (DDIM), eq. 12 and 16; their sigma^2 of eta = 1 is v for any s < t.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise InputError(f"eta = {self.eta:g}: must be from 0 to 1")

    def __call__(self, x_t: Tensor, prediction: Prediction, log_snr_s: float, log_snr_t: float, draw: Draw) -> Tensor:
        """See :class:`StepRule`."""
        s, t = _scalar(log_snr_s), _scalar(log_snr_t)
        x0_mean = prediction.x0_mean.double()
        eps_hat = (x_t - alpha_bar(t).sqrt().item() * x0_mean) / sigma2(t).sqrt().item()
        v = coefficients(log_snr_s, log_snr_t).v
        remaining = (sigma2(s) - self.eta**2 * v).sqrt().item()
        x_s = alpha_bar(s).sqrt().item() * x0_mean + remaining * eps_hat
        return x_s + self.eta * v**0.5 * draw() if self.eta else x_s


class Coefficients(NamedTuple):
    """a, c, v of q(x_s | x_t, x_0) = N(a x_t + c x_0, v) as numbers."""

    a: float
    c: float
    v: float


def coefficients(log_snr_s: float, log_snr_t: float) -> Coefficients:
    """Return a, c, v of :func:`~ddpm_codec.diffusion.gaussian.posterior` in double precision.

    Raises:
        InputError: t is cleaner than s.
    """
    values: Posterior = posterior(_scalar(log_snr_s), _scalar(log_snr_t))
    return Coefficients(*(value.item() for value in values))


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
