"""Data whose ideal denoiser, and so every distribution on the way down, is known in closed form."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.chain import Chain, even_chain
from ddpm_codec.diffusion.gaussian import alpha_bar, sigma2
from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.diffusion.prediction import Denoiser, Prediction
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import BlockTransform, by_name
from ddpm_codec.sampling.sampler import Sampler
from ddpm_codec.sampling.steps import StepRule

SIDE = 16


def chain_of(steps: int) -> Chain:
    """Return a chain with x_0 nearly clean at one end and nearly noise at the other."""
    return even_chain(7.0, -5.0, steps)


@dataclass(frozen=True)
class GaussianToy:
    """Pictures with W x_0 ~ N(mean, variance), independent coefficients, one of each a class; and their ideal denoiser.

    Attributes:
        transform: W.
        mean: [D].
        variance: [D].
        chain: where given, a range of variances is said to be learned, in which f gives the ideal variance of each step of
            that chain; W is the identity then.
    """

    transform: BlockTransform
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    chain: Chain | None = None

    @property
    def prior(self) -> PriorModel:
        return PriorModel(self.mean, self.variance)

    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        level = log_snr.double()[:, None, None, None]
        mean, variance = classes(self.mean), classes(self.variance)
        total = alpha_bar(level) * variance + sigma2(level)
        y_t = self.transform.forward(x_t.double())
        y_mean = mean + variance * alpha_bar(level).sqrt() / total * (y_t - alpha_bar(level).sqrt() * mean)
        remaining = (variance * sigma2(level) / total).expand_as(y_mean)
        x0_mean = self.transform.inverse(y_mean)
        fraction = None if self.chain is None else self._fraction(remaining, float(log_snr[0]))
        pixel = remaining.mean(dim=(1, 2, 3), keepdim=True).log().expand_as(x0_mean)
        return Prediction(x0_mean, remaining.log(), pixel, fraction)

    def calibration(self, chain: Chain) -> Calibration:
        """Return the error of the ideal denoiser at each level."""
        levels = np.array(chain.log_snr)
        return Calibration(levels, self.variance / (1.0 + np.exp(levels)[:, None] * self.variance))

    def standardised(self, x_t: Tensor, log_snr: float) -> NDArray[np.float64]:
        """Return the coefficients of x_t so that they are independent N(0, 1) where x_t is a noised picture."""
        level = torch.tensor(log_snr, dtype=torch.float64)
        signal, noise = alpha_bar(level), sigma2(level)
        excess = self.transform.forward(x_t) - signal.sqrt() * classes(self.mean)
        scaled: NDArray[np.float64] = (excess / (signal * classes(self.variance) + noise).sqrt()).flatten().numpy()
        return scaled

    def standardised_mean(self, x0_mean: Tensor, log_snr: float) -> NDArray[np.float64]:
        """Return the same of E[x_0 | x_t], whose variance is w^2 / (w + 1 / snr)."""
        variance = classes(self.variance)
        scale = variance / (variance + np.exp(-log_snr)).sqrt()
        scaled: NDArray[np.float64] = ((self.transform.forward(x0_mean) - classes(self.mean)) / scale).flatten().numpy()
        return scaled

    def _fraction(self, remaining: Tensor, log_snr_t: float) -> Tensor | None:
        """Return f = ln(1 + (snr_s - snr_t) w) / ln( (1 - alpha_bar_t) / (1 - alpha_bar_s) ) of the step that begins here."""
        assert self.chain is not None
        for s, t in pairwise(torch.tensor(self.chain.log_snr, dtype=torch.float64)):
            if abs(float(t) - log_snr_t) < 1e-5:
                return torch.log1p((s.exp() - t.exp()) * remaining) / (sigma2(t).log() - sigma2(s).log())
        return None


def classes(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values)[None, :, None, None]


def photographic() -> GaussianToy:
    """Variances that fall with frequency and differ between colours, means that are not zero, as of photographs."""
    frequency = np.add.outer(np.arange(8), np.arange(8)).reshape(-1)
    variance = np.concatenate([scale / (1.0 + frequency) ** 2 for scale in (2.0, 0.2, 0.05)])
    return GaussianToy(by_name("colour-8x8"), np.linspace(-0.5, 0.5, 192), variance)


def equal(variance: float, name: str = "colour-8x8") -> GaussianToy:
    """One variance for all coefficients, and a mean for each class."""
    transform = by_name(name)
    return GaussianToy(transform, np.linspace(-0.5, 0.5, transform.dims), np.full(transform.dims, variance))


def by_channel(chain: Chain) -> GaussianToy:
    """Channels of different variance, and a learned range that knows it."""
    return GaussianToy(by_name("identity"), np.array([-0.2, 0.0, 0.4]), np.array([0.05, 0.3, 0.9]), chain)


def sampler(toy: GaussianToy, chain: Chain, rule: StepRule, denoiser: Denoiser | None = None) -> Sampler:
    return Sampler(denoiser or toy, chain, toy.transform, toy.prior, rule, torch.device("cpu"))


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + index) for index in range(count)]


def descend(drawn: Sampler, count: int, seed: int = 0) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Give log-SNR, x_t and x0_mean of each level, from x_T down."""
    given = generators(count, seed)
    for visit in drawn.walk(drawn.draw_prior(given, SIDE, SIDE), drawn.noisiest, given):
        yield drawn.chain.log_snr[visit.place], visit.x_t, visit.x0_mean
