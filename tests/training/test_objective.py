"""The objective: levels of low discrepancy, an unbiased bound, finite gradients."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.transform import TRANSFORMS, BlockTransform, by_name
from ddpm_codec.nn.codec_net import CodecNet, CodecNetConfig
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.objective import CLEAN_JITTER, Draw, bound_loss, draw_levels

transforms = pytest.mark.parametrize("transform", [by_name(name) for name in TRANSFORMS], ids=list(TRANSFORMS))
CONFIG = TrainConfig(steps=6, log_snr_min=-3.0, log_snr_max=9.0, clean_share=0.25, clean_weight=0.7, dtype="float32")
SHRINK, VARIANCE_FACTOR = 0.3, 1.4


def linear_denoiser(transform: BlockTransform) -> Callable[[Tensor, Tensor], Prediction]:
    """Predict x_0 by shrinking z = x_t / sqrt(alpha_bar); variances in a fixed ratio to the noise's."""

    def predict(x_t: Tensor, log_snr: Tensor) -> Prediction:
        level = log_snr[:, None, None, None]
        noise_variance = torch.exp(-level)
        mean = x_t * torch.sqrt(1.0 + noise_variance) / (1.0 + SHRINK * noise_variance)
        log_variance = np.log(VARIANCE_FACTOR) - level - torch.log1p(noise_variance)
        side = x_t.shape[-1] // transform.block
        return Prediction(mean, log_variance.expand(-1, transform.dims, side, side), log_variance.expand_as(x_t))

    return predict


def expected_steps_nats(x_0: Tensor) -> float:
    """Integrate the mean KL over levels in float64: with the linear denoiser E error^2 has a closed form.

    W keeps lengths, and the variance is the same for all coefficients, so the mean square is that of sub-pixels.
    """
    power = x_0.double().square().mean().item()
    step = (CONFIG.log_snr_max - CONFIG.log_snr_min) / CONFIG.steps

    def kl(level: float) -> float:
        sigma2 = np.exp(-level)
        keep = 1.0 / (1.0 + SHRINK * sigma2)
        mse = (1.0 - keep) ** 2 * power + keep**2 * sigma2
        d = np.exp(level + step) - np.exp(level)
        w = VARIANCE_FACTOR * sigma2 / (1.0 + sigma2)
        # KL( N(., v) || N(., v + c^2 w) ) with c^2 = d v, in units of v.
        return float(0.5 * (np.log(1.0 + d * w) + (1.0 + d * mse) / (1.0 + d * w) - 1.0))

    area = integrate.quad(kl, CONFIG.log_snr_min, CONFIG.log_snr_max - step, epsabs=1e-10)[0]
    return CONFIG.steps * float(area) / (CONFIG.log_snr_max - step - CONFIG.log_snr_min)


def expected_reconstruction_nats(x_0: Tensor) -> float:
    """Integrate -ln P over the noise (Gauss-Hermite) and the clean levels (Gauss-Legendre) with scipy's normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    offsets, shares = np.polynomial.legendre.leggauss(8)
    x = x_0.double().numpy().ravel()[:, None]
    total = 0.0
    for offset, share in zip(offsets, shares, strict=True):
        sigma2 = np.exp(-(CONFIG.log_snr_max + CLEAN_JITTER * offset))
        mean = (x + np.sqrt(sigma2) * nodes) / (1.0 + SHRINK * sigma2)
        deviation = np.sqrt(VARIANCE_FACTOR * sigma2 / (1.0 + sigma2))
        # Mirrored to the left of the mean, where differences of the distribution function do not cancel.
        far, near = -np.abs(x - mean) - 1.0 / 255.0, -np.abs(x - mean) + 1.0 / 255.0
        inner = stats.norm.logcdf(near / deviation) + np.log1p(
            -np.exp(stats.norm.logcdf(far / deviation) - stats.norm.logcdf(near / deviation))
        )
        top = stats.norm.logsf((x - 1.0 / 255.0 - mean) / deviation)
        bottom = stats.norm.logcdf((x + 1.0 / 255.0 - mean) / deviation)
        log_p = np.where(x > 0.999, top, np.where(x < -0.999, bottom, inner))
        total -= 0.5 * share * float((log_p @ weights).mean() / weights.sum())
    return total


def grey(generator: torch.Generator) -> Tensor:
    """Return one picture of all kinds of grey levels, black and white among them, [1, 3, 16, 16]."""
    levels = torch.randint(0, 256, (1, 3, 16, 16), generator=generator)
    levels[..., :2] = 0
    levels[..., -2:] = 255
    return levels.float() / 127.5 - 1.0


@transforms
def test_the_loss_is_an_unbiased_estimate_of_the_bound(transform: BlockTransform) -> None:
    generator = torch.Generator().manual_seed(0)
    x_0 = grey(generator)
    batch = x_0.expand(8, -1, -1, -1)
    draws = []
    for _ in range(400):
        draw = draw_levels(CONFIG, 8, generator)
        noise = torch.randn(batch.shape, generator=generator)
        loss = bound_loss(linear_denoiser(transform), transform, batch, noise, draw, CONFIG)
        draws.append([*(part.item() for part in loss.parts), loss.total.item()])
    means, errors = np.mean(draws, axis=0), np.std(draws, axis=0, ddof=1) / 20.0
    steps, reconstruction = expected_steps_nats(x_0), expected_reconstruction_nats(x_0)
    expected = np.array([steps, reconstruction, steps + CONFIG.clean_weight * reconstruction])
    assert (errors < 0.01 * expected).all()
    assert (np.abs(means - expected) < 4.0 * errors).all(), (means, expected, errors)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.99])
@pytest.mark.parametrize("count", [2, 7, 64])
def test_levels_are_spread_evenly_over_the_range(count: int, share: float) -> None:
    config = TrainConfig(steps=6, log_snr_min=-3.0, log_snr_max=9.0, clean_share=share)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        draw = draw_levels(config, count, generator)
        clean, steps = draw.log_snr[: draw.clean], draw.log_snr[draw.clean :].sort().values
        assert len(draw.log_snr) == count
        assert draw.clean == (0 if share == 0 else min(max(1, round(share * count)), count - 1))
        assert ((clean - 9.0).abs() <= CLEAN_JITTER).all()
        assert steps.min() >= -3.0
        assert steps.max() <= 7.0
        torch.testing.assert_close(steps.diff(), torch.full((len(steps) - 1,), 10.0 / len(steps)), rtol=0, atol=1e-5)


def test_levels_are_uniform_over_draws() -> None:
    generator = torch.Generator().manual_seed(2)
    draws = [draw_levels(CONFIG, 4, generator) for _ in range(500)]
    first = np.array([draw.log_snr[draw.clean].item() for draw in draws])
    assert stats.kstest((first + 3.0) / 10.0, "uniform").pvalue > 1e-3
    clean = np.array([draw.log_snr[0].item() for draw in draws])
    assert stats.kstest((clean - 9.0 + CLEAN_JITTER) / (2 * CLEAN_JITTER), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_the_mean_over_parts_is_the_whole(world: int) -> None:
    transform = by_name("colour-8x8")
    generator = torch.Generator().manual_seed(3)
    x_0 = torch.cat([grey(generator) for _ in range(12)])
    noise = torch.randn(x_0.shape, generator=generator)
    whole = draw_levels(CONFIG, 12, generator)
    parts = [whole.part(rank, world) for rank in range(world)]
    assert sum(part.clean for part in parts) == whole.clean == 3
    assert max(part.clean for part in parts) - min(part.clean for part in parts) <= 1

    def loss(draw: Draw, rank: int, stride: int) -> list[float]:
        denoiser = linear_denoiser(transform)
        found = bound_loss(denoiser, transform, x_0[rank::stride], noise[rank::stride], draw, CONFIG)
        return [found.total.item(), *(part.item() for part in found.parts)]

    mean = np.mean([loss(part, rank, world) for rank, part in enumerate(parts)], axis=0)
    np.testing.assert_allclose(mean, loss(whole, 0, 1), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("spread", [0.0, 0.05, 20.0])
@pytest.mark.parametrize("picture", ["black", "white", "checks"])
def test_gradients_are_finite_at_the_extremes(picture: str, spread: float, dtype: Literal["float32", "bf16"]) -> None:
    """Also where the heads are off by far: the discretised tails and the clamps must not give NaN."""
    config = TrainConfig(steps=4, log_snr_min=-12.0, log_snr_max=14.0, clean_share=0.5, dtype=dtype)
    generator = torch.Generator().manual_seed(4)
    torch.manual_seed(0)
    denoiser = CodecDenoiser(CodecNet(CodecNetConfig(8, 16, 1, 1, 16)))
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if "head" in name or "variance" in name or "second" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=spread)
    x_0 = torch.ones(8, 3, 16, 16)
    if picture == "black":
        x_0 = -x_0
    elif picture == "checks":
        x_0[..., ::2] = -1.0
    noise = torch.randn(x_0.shape, generator=generator)
    loss = bound_loss(denoiser, by_name("colour-8x8"), x_0, noise, draw_levels(config, 8, generator), config)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
