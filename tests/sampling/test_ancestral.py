"""Ancestral samples of data with a known distribution have that distribution, at every level."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.gaussian import posterior
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.diffusion.variance import NetworkVariances, ProcessVariances, Variances, variances_of
from ddpm_codec.errors import InputError
from ddpm_codec.sampling.steps import Ancestral, coefficients
from tests.sampling.toys import SIDE, GaussianToy, by_channel, chain_of, descend, equal, photographic, sampler

PICTURES = 48
Case = Callable[[Chain], tuple[GaussianToy, Variances]]


def predicted(chain: Chain) -> tuple[GaussianToy, Variances]:
    toy = photographic()
    return toy, variances_of("predicted", toy.transform, None, chain.log_snr)


def of_classes(chain: Chain) -> tuple[GaussianToy, Variances]:
    toy = photographic()
    return toy, variances_of("class", toy.transform, toy.calibration(chain), chain.log_snr)


def of_levels(chain: Chain) -> tuple[GaussianToy, Variances]:
    toy = equal(0.2)
    return toy, variances_of("level", toy.transform, toy.calibration(chain), chain.log_snr)


def beta(chain: Chain) -> tuple[GaussianToy, Variances]:
    toy = equal(1.0)
    return toy, variances_of("beta", toy.transform, None, chain.log_snr)


def beta_of_subpixels(chain: Chain) -> tuple[GaussianToy, Variances]:
    toy = equal(1.0, "identity")
    return toy, variances_of("beta", toy.transform, None, chain.log_snr)


def beta_tilde(chain: Chain) -> tuple[GaussianToy, Variances]:
    toy = equal(1e-9)
    return toy, variances_of("beta-tilde", toy.transform, None, chain.log_snr)


def learned_range(chain: Chain) -> tuple[GaussianToy, Variances]:
    levels = NoiseSchedule(-np.logaddexp(0.0, -np.array(chain.log_snr)))
    return by_channel(chain), ProcessVariances(ReverseProcess(levels, variance="learned-range"))


CASES = (predicted, of_classes, of_levels, beta, beta_of_subpixels, beta_tilde, learned_range)
STEPS = (1, 5, 50)
TESTS = len(CASES) * sum(steps + 2 for steps in STEPS)
"""Distributions that are compared in all; the significance of each is 1% over so many (Bonferroni)."""


def p_value(values: NDArray[np.float64]) -> float:
    """Return the lesser of two, of N(0, 1): by Kolmogorov and Smirnov, and by the sum of squares; times two."""
    smirnov = float(stats.kstest(values, "norm").pvalue)
    tail = float(stats.chi2.cdf(np.square(values).sum(), len(values)))
    return 2.0 * min(smirnov, 2.0 * min(tail, 1.0 - tail))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("case", CASES)
def test_every_level_has_the_distribution_of_noised_data(case: Case, steps: int) -> None:
    chain = chain_of(steps)
    toy, variances = case(chain)
    visits = list(descend(sampler(toy, chain, Ancestral(toy.transform, variances)), PICTURES))
    assert tuple(log_snr for log_snr, _, _ in visits) == chain.log_snr[::-1]
    for log_snr, x_t, _ in visits:
        assert p_value(toy.standardised(x_t, log_snr)) > 0.01 / TESTS, f"log-SNR {log_snr}"
    assert p_value(toy.standardised_mean(visits[-1][2], chain.log_snr[0])) > 0.01 / TESTS


@pytest.mark.parametrize(("kind", "toy"), [("beta-tilde", equal(1.0)), ("beta", equal(0.2)), ("level", photographic())])
def test_a_variance_that_is_not_that_of_the_data_shows(kind: str, toy: GaussianToy) -> None:
    """The test above can fail."""
    chain = chain_of(5)
    variances = variances_of(kind, toy.transform, toy.calibration(chain), chain.log_snr)  # type: ignore[arg-type]
    *_, (log_snr, x_t, _) = descend(sampler(toy, chain, Ancestral(toy.transform, variances)), PICTURES)
    assert p_value(toy.standardised(x_t, log_snr)) < 1e-12


def test_pictures_are_independent() -> None:
    chain, toy = chain_of(5), photographic()
    *_, (log_snr, x_t, _) = descend(sampler(toy, chain, Ancestral(toy.transform, NetworkVariances(toy.transform))), 32)
    rows = toy.standardised(x_t, log_snr).reshape(32, -1)
    correlation = np.corrcoef(rows) - np.eye(32)
    assert np.abs(correlation).max() < 6.0 / np.sqrt(rows.shape[1])


@pytest.mark.parametrize("name", ["identity", "colour-8x8"])
def test_a_step_is_the_posterior_mean_and_scaled_noise(name: str) -> None:
    """Variances of coefficients scale W n, those of sub-pixels n."""
    transform = by_name(name)
    rng = torch.Generator().manual_seed(1)
    x_t, x0_mean, noise = torch.randn((3, 2, 3, SIDE, SIDE), generator=rng, dtype=torch.float64)
    fraction = torch.rand(x_t.shape, generator=rng, dtype=torch.float64)
    log_variance = torch.randn(transform.forward(x_t).shape, generator=rng, dtype=torch.float64)
    prediction = Prediction(x0_mean, log_variance, torch.zeros_like(x_t), fraction)
    s, t = 2.0, -1.0
    a, c, v = coefficients(s, t)
    of_coefficients = NetworkVariances(transform)
    noisy = Ancestral(transform, of_coefficients)(x_t, prediction, s, t, lambda: noise)
    expected = (v * of_coefficients.log_ratio(prediction, s, t).exp()).sqrt() * transform.forward(noise)
    torch.testing.assert_close(transform.forward(noisy - a * x_t - c * x0_mean), expected, rtol=1e-9, atol=1e-12)
    schedule = NoiseSchedule(-np.logaddexp(0.0, -np.array([s, t])))
    of_subpixels = ProcessVariances(ReverseProcess(schedule, variance="learned-range"))
    noisy = Ancestral(transform, of_subpixels)(x_t, prediction, s, t, lambda: noise)
    expected = (v * of_subpixels.log_ratio(prediction, s, t).exp()).sqrt() * noise
    torch.testing.assert_close(noisy - a * x_t - c * x0_mean, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["beta", "beta-tilde"])
def test_a_step_between_neighbours_is_that_of_the_paper(kind: str) -> None:
    """Ho et al. 2020, algorithm 2: x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t) + sigma_t z."""
    schedule = NoiseSchedule.linear_beta(1000)
    process = ReverseProcess(schedule, "eps", kind, clip=False)  # type: ignore[arg-type]
    rng = torch.Generator().manual_seed(2)
    for t in (1, 10, 500, 999):
        x_t, eps, noise = torch.randn((3, 2, 3, 8, 8), generator=rng, dtype=torch.float64)
        beta_t, level = schedule.betas[t], torch.full((2,), schedule.log_snr[t], dtype=torch.float64)
        prediction = Prediction(process.x0_mean(eps, x_t, level), x_t, x_t)
        rule = Ancestral(by_name("identity"), ProcessVariances(process))
        found = rule(x_t, prediction, schedule.log_snr[t - 1], schedule.log_snr[t], partial(torch.clone, noise))
        mean = (x_t - beta_t / np.sqrt(1.0 - schedule.alpha_bar[t]) * eps) / np.sqrt(1.0 - beta_t)
        shrink = (1.0 - schedule.alpha_bar[t - 1]) / (1.0 - schedule.alpha_bar[t]) if kind == "beta-tilde" else 1.0
        torch.testing.assert_close(found, mean + np.sqrt(beta_t * shrink) * noise, rtol=0, atol=1e-8)


def test_coefficients_are_those_of_the_posterior() -> None:
    exact = posterior(torch.tensor(3.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64))
    assert coefficients(3.0, -2.0) == tuple(value.item() for value in exact)
    with pytest.raises(InputError):
        coefficients(-2.0, 3.0)
