"""Toys: data whose ideal denoiser and exact likelihood are known in closed form."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from ddpm_codec.diffusion.gaussian import alpha_bar, sigma2
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.transform import BlockTransform, by_name
from ddpm_codec.units import GREY_PER_UNIT


@dataclass(frozen=True)
class GaussianToy:
    """Continuous pictures x_0 with W x_0 ~ N(0, variance), independent coefficients, and their ideal denoiser."""

    transform: BlockTransform
    variance: NDArray[np.float64]

    def sample(self, images: int, side: int = 16, seed: int = 0) -> Tensor:
        b = self.transform.block
        generator = torch.Generator().manual_seed(seed)
        shape = (images, self.transform.dims, side // b, side // b)
        return self.transform.inverse(
            self._spread.sqrt() * torch.randn(shape, generator=generator, dtype=torch.float64)
        )

    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        level = log_snr[:, None, None, None]
        signal, noise = alpha_bar(level), sigma2(level)
        total = signal * self._spread + noise
        y_mean = self._spread * signal.sqrt() / total * self.transform.forward(x_t)
        x0_mean = self.transform.inverse(y_mean)
        variance = (self._spread * noise / total).expand_as(y_mean)
        return Prediction(x0_mean, variance.log(), variance.mean(dim=1, keepdim=True).mean().log().expand_as(x0_mean))

    def mse(self, log_snr: NDArray[np.float64]) -> NDArray[np.float64]:
        """E (y_0 - E[y_0 | y_t])^2 of each class, [G, D]."""
        return self.variance / (1.0 + np.exp(log_snr)[:, None] * self.variance)

    def information_nats(self, log_snr: float) -> float:
        """I(x_0; x_t) per dimension: 1/2 E ln(1 + snr variance)."""
        return float(0.5 * np.log1p(math.exp(log_snr) * self.variance).mean())

    @property
    def _spread(self) -> Tensor:
        return torch.from_numpy(self.variance)[None, :, None, None]


class GreyToy:
    """Pictures of independent sub-pixels, a Gaussian rounded to grey levels, and the ideal denoiser for them."""

    def __init__(self, mean_grey: float, sd_grey: float) -> None:
        edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
        self.mass = np.diff(stats.norm.cdf(edges, mean_grey, sd_grey))
        self.mass /= self.mass.sum()
        self.values = torch.arange(256, dtype=torch.float64) / GREY_PER_UNIT - 1.0
        # What the denoiser has to weigh: other grey levels do not occur.
        occurring = np.flatnonzero(self.mass > 1e-20)
        self._values = self.values[torch.from_numpy(occurring)]
        self._log_mass = torch.from_numpy(np.log(self.mass[occurring]))
        # Moments about the middle of them, so that a difference of squares loses nothing.
        self._centre = self._values.mean()
        centred = self._values - self._centre
        self._moments = torch.stack([centred, centred.square()], dim=1)

    def sample(self, images: int, side: int = 8, seed: int = 0) -> Tensor:
        grey = np.random.default_rng(seed).choice(256, (images, 3, side, side), p=self.mass)
        return self.values[torch.from_numpy(grey)]

    def exact_bpd(self, x_0: Tensor) -> NDArray[np.float64]:
        """-log2 P(x_0) per dimension of each picture, [N]."""
        grey = ((x_0 + 1.0) * GREY_PER_UNIT).round().long().numpy()
        bits: NDArray[np.float64] = -np.log2(self.mass[grey]).mean(axis=(1, 2, 3))
        return bits

    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        level = log_snr[:, None, None, None, None]
        # -distance^2 / 2 sigma^2 but for a term that all grey levels have alike.
        signal = alpha_bar(level).sqrt() * self._values
        scores = (signal / sigma2(level)) * (x_t[..., None] - 0.5 * signal) + self._log_mass
        first, second = (torch.softmax(scores, dim=-1) @ self._moments).unbind(-1)
        # Where a single grey level is left the variance is zero; a likelihood needs some.
        log_variance = (second - first.square()).clamp(min=1e-8).log()
        return Prediction(first + self._centre, log_variance, log_variance)


@pytest.fixture(scope="session")
def gaussian_toy() -> GaussianToy:
    """Variances that fall with frequency, as those of photographs do."""
    frequency = np.add.outer(np.arange(8), np.arange(8)).reshape(-1)
    variance = np.concatenate([scale / (1.0 + frequency) ** 2 for scale in (2.0, 0.2, 0.05)])
    return GaussianToy(by_name("colour-8x8"), variance)


@pytest.fixture(scope="session")
def grey_toy() -> GreyToy:
    """About 4.6 bits per sub-pixel, away from both edges."""
    return GreyToy(100.0, 6.0)
