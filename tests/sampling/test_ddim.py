"""DDIM on data where its map is known."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ddpm_codec.diffusion.gaussian import alpha_bar, sigma2
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.diffusion.variance import variances_of
from ddpm_codec.errors import InputError
from ddpm_codec.sampling.steps import Ancestral, Ddim
from tests.sampling.toys import SIDE, GaussianToy, chain_of, classes, descend, equal, generators, photographic, sampler


def no_noise() -> Tensor:
    raise AssertionError("eta = 0 draws nothing")


def signal_and_noise(log_snr: float) -> tuple[float, float]:
    level = torch.tensor(log_snr, dtype=torch.float64)
    return alpha_bar(level).item(), sigma2(level).item()


def coefficient_excess(toy: GaussianToy, x_t: Tensor, log_snr: float) -> Tensor:
    """Return W x_t - sqrt(alpha_bar_t) m."""
    return toy.transform.forward(x_t) - signal_and_noise(log_snr)[0] ** 0.5 * classes(toy.mean)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_of_one_point_the_noise_stays_what_it_was(steps: int) -> None:
    """x_s = sqrt(alpha_bar_s) m + sqrt(1 - alpha_bar_s) eps_hat with the eps_hat of x_T, whatever the chain."""
    toy, chain = equal(1e-12), chain_of(steps)
    visits = list(descend(sampler(toy, chain, Ddim()), 2))
    first_level, x_first, _ = visits[0]
    eps_hat = coefficient_excess(toy, x_first, first_level) / signal_and_noise(first_level)[1] ** 0.5
    for log_snr, x_t, _ in visits:
        noise = signal_and_noise(log_snr)[1] ** 0.5 * eps_hat
        torch.testing.assert_close(coefficient_excess(toy, x_t, log_snr), noise, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_of_gaussian_data_each_step_is_a_known_factor(steps: int) -> None:
    """Data N(m, w): with k = sqrt(alpha_bar), l = sqrt(1 - alpha_bar), the excess of x_t over k_t m is multiplied by

    g = (k_s k_t w + l_s l_t) / (k_t^2 w + l_t^2).
    """
    toy, chain = photographic(), chain_of(steps)
    visits = list(descend(sampler(toy, chain, Ddim()), 2))
    variance = classes(toy.variance)
    excess = coefficient_excess(toy, visits[0][1], visits[0][0])
    for (t, _, _), (s, x_s, _) in pairwise(visits):
        (signal_s, noise_s), (signal_t, noise_t) = signal_and_noise(s), signal_and_noise(t)
        gain = (signal_s * signal_t) ** 0.5 * variance + (noise_s * noise_t) ** 0.5
        excess = gain / (signal_t * variance + noise_t) * excess
        torch.testing.assert_close(coefficient_excess(toy, x_s, s), excess, rtol=0, atol=2e-5)


def test_many_steps_are_the_probability_flow() -> None:
    """The ODE keeps x_t at the same quantile, and the error of its Euler steps falls with their number."""
    toy = photographic()
    errors = []
    for steps in (25, 50, 100):
        visits = list(descend(sampler(toy, chain_of(steps), Ddim()), 2))
        quantiles = toy.standardised(visits[0][1], visits[0][0])
        errors.append(np.abs(toy.standardised(visits[-1][1], visits[-1][0]) - quantiles).max())
    assert errors[0] > 1.7 * errors[1] > 2.9 * errors[2] > 0.0


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("s", "t"), [(0, 1), (100, 120), (0, 999)])
def test_a_step_is_that_of_the_paper(eta: float, s: int, t: int) -> None:
    """Song et al. 2021, eq. 12 with sigma of eq. 16, written in alpha_bar."""
    schedule = NoiseSchedule.linear_beta(1000)
    process = ReverseProcess(schedule, "eps", clip=False)
    x_t, eps, noise = torch.randn((3, 2, 3, 8, 8), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    a_s, a_t = schedule.alpha_bar[[s, t]]
    sigma = eta * np.sqrt((1.0 - a_s) / (1.0 - a_t)) * np.sqrt(1.0 - a_t / a_s)
    x_0 = (x_t - np.sqrt(1.0 - a_t) * eps) / np.sqrt(a_t)
    expected = np.sqrt(a_s) * x_0 + np.sqrt(1.0 - a_s - sigma**2) * eps + sigma * noise
    level = torch.full((2,), schedule.log_snr[t], dtype=torch.float64)
    prediction = Prediction(process.x0_mean(eps, x_t, level), x_t, x_t)
    found = Ddim(eta)(x_t, prediction, schedule.log_snr[s], schedule.log_snr[t], partial(torch.clone, noise))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_eta_of_one_is_ancestral_with_beta_tilde(steps: int) -> None:
    toy, chain = photographic(), chain_of(steps)
    beta_tilde = variances_of("beta-tilde", toy.transform, None, chain.log_snr)
    ancestral = descend(sampler(toy, chain, Ancestral(toy.transform, beta_tilde)), 3)
    for ours, other in zip(descend(sampler(toy, chain, Ddim(1.0)), 3), ancestral, strict=True):
        # Where x_t is rounded to single precision for the denoiser, the last bit of float64 may decide.
        torch.testing.assert_close(ours[1], other[1], rtol=0, atol=1e-5)
        torch.testing.assert_close(ours[2], other[2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_of_one_point_every_eta_keeps_the_distribution_of_each_level(eta: float) -> None:
    """Song et al. 2021, lemma 1: the marginals do not depend on sigma."""
    toy = equal(1e-12)
    for log_snr, x_t, _ in descend(sampler(toy, chain_of(5), Ddim(eta)), 48):
        assert stats.kstest(toy.standardised(x_t, log_snr), "norm").pvalue > 0.01 / 18


def test_eta_of_zero_draws_nothing_and_others_do() -> None:
    toy = photographic()
    x_t = torch.zeros((1, 3, SIDE, SIDE), dtype=torch.float64)
    prediction = toy(x_t, torch.tensor([-1.0]))
    assert torch.equal(
        Ddim()(x_t, prediction, 1.0, -1.0, no_noise),
        Ddim(0.0)(x_t, prediction, 1.0, -1.0, lambda: torch.ones_like(x_t)),
    )
    with pytest.raises(AssertionError, match="draws nothing"):
        Ddim(0.1)(x_t, prediction, 1.0, -1.0, no_noise)


def test_the_start_decides_where_nothing_is_drawn() -> None:
    toy = photographic()
    drawn = sampler(toy, chain_of(5), Ddim())
    x_t = drawn.draw_prior(generators(2), SIDE, SIDE)
    ends = [drawn.finish(x_t, drawn.noisiest, generators(2, seed)) for seed in (1, 2)]
    assert torch.equal(*ends)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_another_eta_is_refused(eta: float) -> None:
    with pytest.raises(InputError, match="eta"):
        Ddim(eta)
