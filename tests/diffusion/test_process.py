"""The discrete process against the papers' formulas, computed anew from the betas alone."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.gaussian import posterior, q_sample
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError

OUTPUTS = ("eps", "x0", "v", "previous")
NAMES = ("linear", "cosine")
PLACES = [(0, 1), (1, 2), (6, 7), (8, 9), (0, 9), (2, 6), (4, 9)]
Array = NDArray[np.float64]


def betas_of(name: str, steps: int) -> Array:
    """Ho et al. 2020, sec. 4, and Nichol & Dhariwal 2021, eq. 17."""
    if name == "linear":
        return 1e-4 + (0.02 - 1e-4) * np.arange(steps) / (steps - 1)
    angles = (np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2.0
    kept = np.cos(angles) ** 2
    return np.minimum(1.0 - kept[1:] / kept[:-1], 0.999)


def alpha_bars(name: str, steps: int) -> Array:
    return np.cumprod(1.0 - betas_of(name, steps), dtype=np.float64)


def process_of(name: str, steps: int, **values: Any) -> ReverseProcess:  # noqa: ANN401
    make = {"linear": NoiseSchedule.linear_beta, "cosine": NoiseSchedule.cosine}[name]
    return ReverseProcess(make(steps), **values)


def levels_of(process: ReverseProcess) -> Tensor:
    return torch.from_numpy(process.schedule.log_snr)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def our_step(process: ReverseProcess, s: int, t: int, output: Tensor, x_t: Tensor, fraction: Tensor) -> list[Array]:
    """Return mean and variance of the reverse step t -> s."""
    levels = levels_of(process)
    a, c, v = posterior(levels[s : s + 1], levels[t : t + 1])
    mean = a * x_t + c * process.x0_mean(output, x_t, levels[t : t + 1])
    rho = process.log_ratio(levels[s : s + 1], levels[t : t + 1], fraction)
    return [mean.numpy(), (v * rho.exp()).expand_as(x_t).numpy()]


@pytest.mark.parametrize("steps", [10, 1000])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tenths", PLACES)
def test_one_ancestral_step(tenths: tuple[int, int], name: str, steps: int) -> None:
    """Neighbours at T = 10; there and at T = 1000 steps over several levels, as of the respaced process."""
    s, t = (steps // 10 * tenth + steps // 10 - 1 for tenth in tenths)
    kept = alpha_bars(name, steps)
    alpha, ab_s, ab_t = kept[t] / kept[s], kept[s], kept[t]
    beta = 1.0 - alpha
    smallest = (1.0 - ab_s) / (1.0 - ab_t) * beta
    x_t, output, fraction = (normal(1, 3, 2, 5, seed=seed) for seed in range(3))
    x, eps, f = (values.numpy() for values in (x_t, output, fraction))
    # Ho et al., eq. 11 in terms of eps; eq. 7 in terms of x_0; Salimans & Ho 2022 for v.
    from_eps = (x - beta / np.sqrt(1.0 - ab_t) * eps) / np.sqrt(alpha)

    def from_x0(x_0: Array) -> Array:
        c, a = np.sqrt(ab_s) * beta / (1.0 - ab_t), np.sqrt(alpha) * (1.0 - ab_s) / (1.0 - ab_t)
        return np.asarray(c * x_0 + a * x)

    means = {
        "eps": from_eps,
        "x0": from_x0(eps),
        "v": from_x0(np.sqrt(ab_t) * x - np.sqrt(1.0 - ab_t) * eps),
    }
    variances = {
        "beta": np.full_like(x, beta),
        "beta-tilde": np.full_like(x, smallest),
        "learned-range": np.exp(f * np.log(beta) + (1.0 - f) * np.log(smallest)),
    }
    for kind, mean in means.items():
        for variance, expected in variances.items():
            process = process_of(name, steps, output=kind, variance=variance)
            found = our_step(process, s, t, output, x_t, fraction)
            np.testing.assert_allclose(found[0], mean, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(found[1], expected, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_every_neighbouring_step_of_a_thousand(name: str) -> None:
    betas, kept = betas_of(name, 1000), alpha_bars(name, 1000)
    smallest = betas[1:] * (1.0 - kept[:-1]) / (1.0 - kept[1:])
    levels = levels_of(process_of(name, 1000))
    v = posterior(levels[:-1], levels[1:]).v
    np.testing.assert_allclose(v.numpy(), smallest, rtol=1e-9)
    rho = process_of(name, 1000, variance="beta").log_ratio(levels[:-1], levels[1:])
    np.testing.assert_allclose((v * rho.flatten().exp()).numpy(), betas[1:], rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_says_x_before_gives_its_mean(name: str) -> None:
    process = process_of(name, 10, output="previous", variance="beta-tilde")
    x_t, output = normal(1, 3, 2, 5), normal(1, 3, 2, 5, seed=1)
    for t in range(1, 10):
        found = our_step(process, t - 1, t, output, x_t, x_t)[0]
        np.testing.assert_allclose(found, output.numpy(), rtol=1e-10, atol=1e-10)
    assert torch.equal(process.x0_mean(output, x_t, levels_of(process)[:1]), output)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_variance_of_the_decoder(steps: int, name: str) -> None:
    """The papers' codes: beta-tilde of the second step for the smaller, beta of the first for the larger."""
    betas, kept = betas_of(name, steps), alpha_bars(name, steps)
    smallest = np.log(betas[1] * (1.0 - kept[0]) / (1.0 - kept[1]))
    largest = np.log(betas[0])
    fraction = torch.linspace(-0.5, 1.5, 24, dtype=torch.float64).reshape(2, 3, 2, 2)
    for variance in ("beta", "beta-tilde", "learned-range"):
        process = process_of(name, steps, variance=variance)
        first, second = (level.expand(2) for level in levels_of(process)[:2])
        found = process.decoder_log_variance(first, second, fraction).expand_as(fraction).numpy()
        f = fraction.numpy() if variance == "learned-range" else 0.0 * fraction.numpy()
        np.testing.assert_allclose(found, f * largest + (1.0 - f) * smallest, rtol=1e-10)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_mean_and_target_are_inverse(steps: int, name: str, output: str) -> None:
    """Both ways, at every timestep at once, 0 and T - 1 among them."""
    process = process_of(name, steps, output=output)
    levels = levels_of(process)
    kept = torch.from_numpy(alpha_bars(name, steps)).reshape(-1, 1, 1, 1)
    x_0, noise, says = (normal(steps, 3, 1, 2, seed=seed) for seed in range(3))
    x_t = kept.sqrt() * x_0 + (1.0 - kept).sqrt() * noise
    found = process.x0_mean(process.target(x_0, noise, x_t, levels), x_t, levels)
    torch.testing.assert_close(found, x_0, rtol=1e-9, atol=1e-9)
    implied = process.x0_mean(says, x_t, levels)
    left = (x_t - kept.sqrt() * implied) / (1.0 - kept).sqrt()
    torch.testing.assert_close(process.target(implied, left, x_t, levels), says, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_what_they_are_called(name: str) -> None:
    """The noise, the data, v as a rotation of both by atan(sigma / alpha), and the mean of x_{t-1} over noise."""
    kept = alpha_bars(name, 10)[7]
    x_0, noise = normal(1, 3, 4, 4), normal(1, 3, 4, 4, seed=1)
    level = levels_of(process_of(name, 10))[7:8]
    x_t = q_sample(x_0, level, noise)
    target = {kind: process_of(name, 10, output=kind).target(x_0, noise, x_t, level) for kind in OUTPUTS}
    assert torch.equal(target["eps"], noise)
    assert torch.equal(target["x0"], x_0)
    angle = np.arctan2(np.sqrt(1.0 - kept), np.sqrt(kept))
    torch.testing.assert_close(target["v"], np.cos(angle) * noise - np.sin(angle) * x_0, rtol=1e-9, atol=1e-9)
    beta, before = betas_of(name, 10)[7], alpha_bars(name, 10)[6]
    mean = np.sqrt(before) * beta * x_0 + np.sqrt(1.0 - beta) * (1.0 - before) * x_t
    torch.testing.assert_close(target["previous"], mean / (1.0 - kept), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [10, 1000, 4000])
def test_every_timestep_is_found_from_single_precision(steps: int, name: str) -> None:
    process = process_of(name, steps)
    for dtype in (torch.float32, torch.float64):
        found = process.timestep(levels_of(process).to(dtype))
        assert found.dtype == torch.float32
        assert torch.equal(found, torch.arange(steps, dtype=torch.float32))


@given(st.sampled_from(NAMES), st.sampled_from([10, 1000, 4000]), st.floats(0.0, 1.0), st.floats(0.01, 0.99))
def test_levels_between_timesteps(name: str, steps: int, where: float, share: float) -> None:
    process = process_of(name, steps)
    levels = levels_of(process)
    below = min(int(where * (steps - 1)), steps - 2)
    level = (1.0 - share) * levels[below] + share * levels[below + 1]
    assert process.timestep(level[None]).item() == pytest.approx(below + share, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_number_of_timesteps(name: str) -> None:
    assert process_of(name, 17).timesteps == 17


def test_refusals() -> None:
    schedule = NoiseSchedule.linear_beta(4)
    with pytest.raises(InputError, match=r"\Aoutput = 'noise': use one of eps, x0, v, previous\Z"):
        ReverseProcess(schedule, output="noise")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\Avariance = 'small': use one of beta, beta-tilde, learned-range\Z"):
        ReverseProcess(schedule, variance="small")  # type: ignore[arg-type]
    learned = ReverseProcess(schedule, variance="learned-range")
    levels = levels_of(learned)
    for refuse in (learned.log_ratio, learned.decoder_log_variance):
        with pytest.raises(InputError, match=r"\A[^\n]*learned range[^\n]*\Z"):
            refuse(levels[:1], levels[1:2])
