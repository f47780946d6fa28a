"""The forward and reverse Gaussians against Monte Carlo, Bayes' rule and torch.distributions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Normal, kl_divergence

from ddpm_codec.diffusion.gaussian import alpha_bar, posterior, q_sample, sigma2, step_kl_nats
from ddpm_codec.errors import InputError

PAIRS = [(10.0, 9.5), (8.0, 2.0), (3.0, 0.0), (0.5, -2.0), (-1.0, -6.0)]
# Chance of a false alarm of each statistical test over all its cases (Bonferroni); seeds are fixed all the same.
FALSE_ALARM = 1e-3

levels = st.floats(-10.0, 12.0)
gaps = st.floats(1e-3, 15.0)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(levels)
def test_variances_preserve_each_other(log_snr: float) -> None:
    level = scalar(log_snr)
    assert (alpha_bar(level) + sigma2(level)).item() == pytest.approx(1.0, rel=1e-15)
    assert (alpha_bar(level) / sigma2(level)).item() == pytest.approx(math.exp(log_snr), rel=1e-12)


def test_one_level_an_image() -> None:
    x_0, noise = torch.full((2, 3, 4, 4), 0.5), torch.ones(2, 3, 4, 4)
    x_t = q_sample(x_0, torch.tensor([2.0, -1.0]), noise)
    for index, level in enumerate([2.0, -1.0]):
        expected = q_sample(x_0[0], torch.tensor(level), noise[0])
        torch.testing.assert_close(x_t[index], expected)


@pytest.mark.parametrize(("log_snr_s", "log_snr_t"), PAIRS)
def test_posterior_is_what_is_left_of_x_s_after_x_t(log_snr_s: float, log_snr_t: float) -> None:
    """Sample the forward chain x_0 -> x_s -> x_t: x_s - a x_t - c x_0 is N(0, v) and uncorrelated with x_t."""
    generator = torch.Generator().manual_seed(1)
    s, t, x_0, count = scalar(log_snr_s), scalar(log_snr_t), 0.3, 50_000
    noise = torch.randn(2, count, generator=generator, dtype=torch.float64)
    x_s = q_sample(torch.full((count,), x_0, dtype=torch.float64), s, noise[0])
    kept = alpha_bar(t) / alpha_bar(s)
    x_t = kept.sqrt() * x_s + (1.0 - kept).sqrt() * noise[1]
    a, c, v = posterior(s, t)
    left = (x_s - a * x_t - c * x_0) / v.sqrt()
    assert stats.kstest(left.numpy(), "norm").pvalue > FALSE_ALARM / len(PAIRS)
    assert stats.pearsonr(left.numpy(), x_t.numpy()).pvalue > FALSE_ALARM / len(PAIRS)
    marginal = (x_t - alpha_bar(t).sqrt() * x_0) / sigma2(t).sqrt()
    assert stats.kstest(marginal.numpy(), "norm").pvalue > FALSE_ALARM / len(PAIRS)


@given(levels, gaps)
def test_posterior_is_bayes_rule(log_snr_s: float, gap: float) -> None:
    """q(x_s | x_t, x_0) is the product of q(x_s | x_0) and q(x_t | x_s), seen as Gaussians in x_s."""
    s, t = scalar(log_snr_s), scalar(log_snr_s - gap)
    kept = alpha_bar(t) / alpha_bar(s)
    # 1 - alpha_bar_t / alpha_bar_s without cancellation.
    lost = -torch.expm1(torch.nn.functional.logsigmoid(t) - torch.nn.functional.logsigmoid(s))
    precision = 1.0 / sigma2(s) + kept / lost
    a, c, v = posterior(s, t)
    assert v.item() == pytest.approx((1.0 / precision).item(), rel=1e-9)
    assert a.item() == pytest.approx((kept.sqrt() / lost / precision).item(), rel=1e-9)
    assert c.item() == pytest.approx((alpha_bar(s).sqrt() / sigma2(s) / precision).item(), rel=1e-9)


@given(levels, gaps)
def test_signal_of_a_step_is_the_difference_of_snr(log_snr_s: float, gap: float) -> None:
    _, c, v = posterior(scalar(log_snr_s), scalar(log_snr_s - gap))
    difference = math.exp(log_snr_s) * -math.expm1(-gap)
    assert (c.square() / v).item() == pytest.approx(difference, rel=1e-12)


def test_posterior_refuses_a_cleaner_t() -> None:
    with pytest.raises(InputError, match="s < t"):
        posterior(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.5]))


@given(levels, gaps, st.floats(-2, 2), st.floats(-2, 2), st.floats(-15.0, 3.0))
def test_step_kl_is_the_kl_of_posterior_and_reverse(
    log_snr_s: float, gap: float, x_0: float, mean: float, log_variance: float
) -> None:
    s, t = scalar(log_snr_s), scalar(log_snr_s - gap)
    a, c, v = posterior(s, t)
    x_t = 0.37
    reverse_variance = v + c.square() * math.exp(log_variance)
    long_way = kl_divergence(Normal(a * x_t + c * x_0, v.sqrt()), Normal(a * x_t + c * mean, reverse_variance.sqrt()))
    short_way = step_kl_nats(scalar(x_0 - mean), scalar(log_variance), t.exp() * torch.expm1(s - t))
    assert short_way.item() == pytest.approx(long_way.item(), rel=1e-6, abs=1e-9)


def test_step_kl_with_the_optimal_variance_is_half_a_log() -> None:
    generator = torch.Generator().manual_seed(3)
    error = 0.1 * torch.randn(1, 3, 8, 8, generator=generator, dtype=torch.float64)
    mse = error.square().mean()
    for difference in (0.5, 30.0, 4e4):
        cost = step_kl_nats(error, mse.log(), scalar(difference)).mean().item()
        assert cost == pytest.approx(0.5 * math.log1p(difference * mse.item()), rel=1e-12)
        for wrong in (0.8, 1.25):
            assert step_kl_nats(error, (wrong * mse).log(), scalar(difference)).mean().item() > cost


def test_step_kl_of_a_perfect_certain_prediction_is_zero() -> None:
    assert step_kl_nats(scalar(0.0), scalar(-math.inf), scalar(100.0)).item() == 0.0
