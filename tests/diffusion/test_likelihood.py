"""Discretised likelihoods against high-precision arithmetic, far into the tails."""

import itertools
import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor

from ddpm_codec.diffusion.likelihood import (
    gaussian_log_likelihood,
    logistic_log_likelihood,
    two_scale_log_likelihood,
)
from ddpm_codec.units import GREY_PER_UNIT

GREYS = torch.arange(256, dtype=torch.float64) / GREY_PER_UNIT - 1.0
MEANS = [-30.0, -1.5, -1.0, -0.99, -0.5, 0.001, 1 / 255, 0.3, 0.996, 1.0, 1.004, 7.0]
LOG_SCALES = [-12.0, -8.0, -6.0, -5.5, -4.0, -2.0, 0.0, 3.0, 8.0]

LogLikelihood = Callable[[Tensor, Tensor, Tensor], Tensor]


def gaussian(x_0: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    return gaussian_log_likelihood(x_0, mean, 2.0 * log_scale)


FAMILIES = {"gaussian": gaussian, "logistic": logistic_log_likelihood}


def exact(family: str, grey: int, mean: float, log_scale: float) -> float:
    """Integrate with 60 digits more than the tails need, on the side where they are small."""
    with mpmath.workdps(60):
        scale = mpmath.exp(mpmath.mpf(log_scale))
        # The library is given float64 pictures, so the bin is around the float64 value of the grey level.
        centred = mpmath.mpf(GREYS[grey].item()) - mpmath.mpf(mean)
        half = mpmath.mpf(1) / 255
        low = -mpmath.inf if grey == 0 else (centred - half) / scale
        high = mpmath.inf if grey == 255 else (centred + half) / scale
        if centred > 0:
            low, high = -high, -low

        def cdf(z: mpmath.mpf) -> mpmath.mpf:
            if family == "gaussian":
                return mpmath.erfc(-z / mpmath.sqrt(2)) / 2
            return 1 / (1 + mpmath.exp(-z)) if z != -mpmath.inf else mpmath.mpf(0)

        return float(mpmath.log(cdf(high) - cdf(low)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_masses_of_all_bins_sum_to_one(family: str, log_scale: float) -> None:
    mean = torch.tensor(MEANS, dtype=torch.float64)[:, None].expand(-1, 256)
    log_p = FAMILIES[family](GREYS.expand_as(mean), mean, torch.tensor(log_scale, dtype=torch.float64))
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(len(MEANS), dtype=torch.float64), atol=1e-10, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_tails_are_exact(family: str) -> None:
    # Up to 5,000 standard deviations out for the Gaussian, where its log mass is about -1e7.
    cases = list(itertools.product([0, 1, 100, 128, 200, 254, 255], [-1.1, -0.3, 0.2, 1.02], [-8.0, -5.0, -1.0, 3.0]))
    greys, means, log_scales = zip(*cases, strict=True)
    mean, log_scale = (torch.tensor(values, dtype=torch.float64) for values in (means, log_scales))
    ours = FAMILIES[family](GREYS[list(greys)], mean, log_scale)
    reference = torch.tensor([exact(family, *case) for case in cases], dtype=torch.float64)
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite(family: str, dtype: torch.dtype) -> None:
    cases = torch.cartesian_prod(
        torch.arange(0, 256, 5, dtype=torch.float64) / GREY_PER_UNIT - 1.0,
        torch.tensor([*MEANS, 128 / GREY_PER_UNIT - 1.0], dtype=torch.float64),
        torch.tensor([-12.0, -5.0, 0.0, 6.0, 16.0, 30.0], dtype=torch.float64),
    ).to(dtype)
    x_0, mean, log_scale = (column.clone() for column in cases.T)
    mean.requires_grad_(True)
    log_scale.requires_grad_(True)
    log_p = FAMILIES[family](x_0, mean, log_scale)
    log_p.sum().backward()
    for values in (log_p, mean.grad, log_scale.grad):
        assert values is not None
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_in_the_far_tail_pulls_with_the_distance(dtype: torch.dtype) -> None:
    # d/dm ln P is (x - m) / sd^2 there, up to a share of about one bin over the distance.
    mean = torch.tensor([-40.0, 40.0, -400.0, 400.0], dtype=dtype, requires_grad=True)
    x_0 = torch.full((4,), 100 / GREY_PER_UNIT - 1.0, dtype=dtype)
    gaussian(x_0, mean, torch.tensor(-4.5, dtype=dtype)).sum().backward()
    expected = (x_0 - mean).detach() * math.exp(9.0)
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_finite_differences(family: str) -> None:
    x_0 = GREYS[[0, 3, 90, 128, 250, 255]]
    mean = torch.tensor([-0.9, -0.2, -0.3, 0.01, 0.8, 0.7], dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor([-3.0, -1.0, -5.0, -4.0, 0.5, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: FAMILIES[family](x_0, m, s), (mean, log_scale))


@pytest.mark.parametrize("family", FAMILIES)
def test_mirror_images_have_the_same_mass(family: str) -> None:
    mean = torch.full_like(GREYS, 0.123)
    log_scale = torch.tensor(-3.3, dtype=torch.float64)
    there = FAMILIES[family](GREYS, mean, log_scale)
    back = FAMILIES[family](-GREYS.flip(0), -mean, log_scale).flip(0)
    torch.testing.assert_close(there, back, rtol=1e-12, atol=1e-12)


def test_wide_gaussian_is_density_times_bin() -> None:
    density = torch.distributions.Normal(0.1, math.exp(2.0)).log_prob(GREYS[1:-1])
    ours = gaussian(GREYS[1:-1], torch.full((254,), 0.1, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(ours, density + math.log(2.0 / 255.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("logit", [-12.0, -2.0, 0.0, 3.0])
@pytest.mark.parametrize("log_ratio", [0.0, 0.7, 2.0])
def test_two_scales_are_a_mixture(logit: float, log_ratio: float) -> None:
    mean = torch.tensor(MEANS, dtype=torch.float64)[:, None].expand(-1, 256)
    log_scale, weight = torch.tensor(-4.0, dtype=torch.float64), 1.0 / (1.0 + math.exp(-logit))
    greys = GREYS.expand_as(mean)
    found = two_scale_log_likelihood(
        greys, mean, 2.0 * log_scale, torch.full_like(mean, logit), torch.full_like(mean, log_ratio)
    )
    torch.testing.assert_close(found.logsumexp(1), torch.zeros(len(MEANS), dtype=torch.float64), atol=1e-10, rtol=0)
    narrow, wide = gaussian(greys, mean, log_scale).exp(), gaussian(greys, mean, log_scale + log_ratio).exp()
    torch.testing.assert_close(found.exp(), (1.0 - weight) * narrow + weight * wide, atol=1e-15, rtol=1e-9)


def test_gradients_of_two_scales_are_finite_in_the_tails() -> None:
    shape = (len(MEANS), 256)
    inputs = [
        torch.tensor(MEANS)[:, None].expand(shape).clone().requires_grad_(),
        torch.full(shape, -14.0, requires_grad=True),
        torch.full(shape, -20.0, requires_grad=True),
        torch.full(shape, 1.0, requires_grad=True),
    ]
    log_p = two_scale_log_likelihood(GREYS.float().expand(shape), *inputs)
    assert torch.isfinite(log_p).all()
    log_p.sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in inputs)
