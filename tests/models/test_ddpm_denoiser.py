"""A U-Net as a denoiser: padding, clipping, timesteps, variances."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import q_sample
from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError
from ddpm_codec.models.ddpm_denoiser import DdpmDenoiser
from ddpm_codec.nn.ddpm_unet import UNet, UNetConfig

OUTPUTS = ("eps", "x0", "v", "previous")
CONFIG = UNetConfig(widths=(8, 8, 8), blocks=1, groups=4, time_channels=8)


class Scripted(UNet):
    """A U-Net that says what it is told to, and keeps what it was asked."""

    def __init__(self, says: Callable[[Tensor, Tensor], Tensor], config: UNetConfig = CONFIG) -> None:
        super().__init__(config)
        self.says = says
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return what the script says."""
        self.asked.append((x_t, t))
        return self.says(x_t, t)


def process(**values: Any) -> ReverseProcess:  # noqa: ANN401
    return ReverseProcess(NoiseSchedule.linear_beta(1000), **values)


def level(index: int, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full((count,), float(NoiseSchedule.linear_beta(1000).log_snr[index]), dtype=dtype)


def pictures(height: int = 8, width: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x_0 = torch.randint(0, 256, (2, 3, height, width), generator=generator) / 127.5 - 1.0
    return x_0, torch.randn(x_0.shape, generator=generator)


def lively(config: UNetConfig) -> UNet:
    network = UNet(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("index", [0, 1, 30])
def test_true_noise_gives_the_picture(index: int) -> None:
    x_0, noise = pictures()
    x_t = q_sample(x_0, level(index, 2), noise)
    prediction = DdpmDenoiser(Scripted(lambda x, t: noise), process())(x_t, level(index, 2))
    torch.testing.assert_close(prediction.x0_mean, x_0, rtol=0, atol=2e-6)


@pytest.mark.parametrize("index", [0, 1, 500, 998, 999])
@pytest.mark.parametrize("output", OUTPUTS)
def test_true_targets_give_the_picture(output: str, index: int) -> None:
    """At every noise, to what single precision leaves where x_0 is amplified by 1 / sqrt(alpha_bar) or 1 / c."""
    x_0, noise = pictures()
    meaning = process(output=output, clip=False)
    x_t = q_sample(x_0, level(index, 2), noise)
    target = meaning.target(x_0, noise, x_t, level(index, 2))
    found = DdpmDenoiser(Scripted(lambda x, t: target), meaning)(x_t, level(index, 2)).x0_mean
    kept = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
    before = kept[index - 1] if index else 1.0
    c = np.sqrt(before) * (1.0 - kept[index] / before) / (1.0 - kept[index])
    amplified = {"eps": 1.0 / np.sqrt(kept[index]), "previous": 1.0 / c}.get(output, 1.0)
    torch.testing.assert_close(found, x_0, rtol=0, atol=2e-6 * amplified)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_sees_timesteps(dtype: torch.dtype) -> None:
    network = Scripted(lambda x, t: torch.zeros_like(x))
    denoiser = DdpmDenoiser(network, process())
    x_t = torch.zeros(3, 3, 8, 8, dtype=dtype)
    levels = torch.cat([level(index, 1, dtype) for index in (999, 0, 431)])
    prediction = denoiser(x_t, levels)
    assert network.asked[-1][1].tolist() == [999.0, 0.0, 431.0]
    assert network.asked[-1][0].dtype == torch.float32
    assert prediction.x0_mean.dtype == dtype
    between = 0.75 * level(10, 1, dtype) + 0.25 * level(11, 1, dtype)
    denoiser(x_t[:1], between)
    assert network.asked[-1][1].item() == pytest.approx(10.25, abs=1e-3)


@pytest.mark.parametrize(("height", "width"), [(13, 18), (8, 9), (11, 8), (1, 1), (3, 12)])
def test_sides_that_do_not_fit(height: int, width: int) -> None:
    """The picture goes on with its last row and column; what is said about those is cut off."""
    network = Scripted(lambda x, t: torch.arange(x.numel(), dtype=torch.float32).reshape(x.shape))
    x_t = pictures(height, width)[1]
    output, fraction = DdpmDenoiser(network, process()).output(x_t, level(100, 2))
    assert fraction is None
    seen = network.asked[0][0]
    rows, columns = -(-height // 4) * 4, -(-width // 4) * 4
    missing = ((0, 0), (0, 0), (0, rows - height), (0, columns - width))
    np.testing.assert_array_equal(seen.numpy(), np.pad(x_t.numpy(), missing, mode="edge"))
    whole = torch.arange(2 * 3 * rows * columns, dtype=torch.float32).reshape(2, 3, rows, columns)
    assert torch.equal(output, whole[:, :, :height, :width])


def test_sides_that_fit_are_left_alone() -> None:
    network = lively(CONFIG)
    x_t = pictures(8, 12)[1]
    output, _ = DdpmDenoiser(network, process()).output(x_t, level(100, 2))
    with torch.no_grad():
        expected = network(x_t, torch.tensor([100.0, 100.0]))
    assert torch.equal(output, expected)
    assert not output.requires_grad


@pytest.mark.parametrize("clip", [True, False])
def test_clipping(clip: bool) -> None:
    said = 3.0 * pictures()[1]
    prediction = DdpmDenoiser(Scripted(lambda x, t: said), process(output="x0", clip=clip))(said, level(5, 2))
    assert torch.equal(prediction.x0_mean, said.clamp(-1.0, 1.0) if clip else said)
    assert said.abs().max() > 1.0


def test_a_learned_range() -> None:
    x_t, said = pictures()[1], torch.randn(2, 6, 8, 8)
    config = UNetConfig(**{**vars(CONFIG), "learned_range": True})
    meaning = process(output="x0", variance="learned-range", clip=False)
    prediction = DdpmDenoiser(Scripted(lambda x, t: said, config), meaning)(x_t, level(5, 2))
    assert torch.equal(prediction.x0_mean, said[:, :3])
    assert prediction.range_fraction is not None
    torch.testing.assert_close(prediction.range_fraction, (said[:, 3:] + 1.0) / 2.0)
    assert DdpmDenoiser(Scripted(lambda x, t: x), process())(x_t, level(5, 2)).range_fraction is None


@pytest.mark.parametrize(("block", "dims"), [(8, 192), (1, 3)])
def test_variances_without_calibration(block: int, dims: int) -> None:
    """1 - alpha_bar of each image: the reverse variance is then beta."""
    levels = torch.cat([level(3, 1), level(700, 1)])
    denoiser = DdpmDenoiser(Scripted(lambda x, t: torch.zeros_like(x)), process(), block=block)
    prediction = denoiser(torch.zeros(2, 3, 16, 24), levels)
    assert prediction.coef_log_var.shape == (2, dims, 16 // block, 24 // block)
    assert prediction.pixel_log_var.shape == (2, 3, 16, 24)
    betas = np.linspace(1e-4, 0.02, 1000)
    for index, timestep in enumerate((3, 700)):
        expected = math.log(1.0 - np.prod(1.0 - betas[: timestep + 1]))
        for values in (prediction.coef_log_var[index], prediction.pixel_log_var[index]):
            np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("block", "dims"), [(8, 192), (1, 3)])
def test_variances_with_calibration(block: int, dims: int) -> None:
    """Those of the classes at the level; a sub-pixel has their mean, since W keeps lengths."""
    grid = NoiseSchedule.linear_beta(1000).log_snr[[0, 300, 999]]
    # By rounding to single precision, the ends of the schedule may lie outside by a little.
    grid += np.array([-3e-6, 0.0, 3e-6])
    mse = np.random.default_rng(4).uniform(0.01, 0.5, (3, dims))
    network = Scripted(lambda x, t: torch.zeros_like(x))
    denoiser = DdpmDenoiser(network, process(), Calibration(grid, mse), block=block)
    middle = torch.tensor([0.5 * (grid[0] + grid[1])])
    levels = torch.cat([level(0, 1), level(999, 1), middle.float()])
    prediction = denoiser(torch.zeros(3, 3, 16, 24), levels)
    assert prediction.coef_log_var.shape == (3, dims, 16 // block, 24 // block)
    for index, expected in enumerate((mse[0], mse[2], np.sqrt(mse[0] * mse[1]))):
        found = prediction.coef_log_var[index].exp().numpy()
        np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], found.shape), rtol=1e-4)
        np.testing.assert_allclose(prediction.pixel_log_var[index].exp().numpy(), expected.mean(), rtol=1e-4)
    for off in (0.01, -0.01):
        end = level(0 if off > 0 else 999, 1) + off
        with pytest.raises(InputError, match=r"\Athe calibration covers log-SNR[^\n]*\Z"):
            denoiser(torch.zeros(1, 3, 16, 24), end)


def test_scaled_pictures() -> None:
    """z = x_t / sqrt(alpha_bar) gives the same prediction."""
    denoiser = DdpmDenoiser(lively(CONFIG), process())
    x_t, levels = pictures(8, 12)[1], torch.cat([level(3, 1), level(700, 1)])
    scale = torch.sqrt(1.0 + torch.exp(-levels))[:, None, None, None]
    one, other = denoiser(x_t, levels), denoiser.predict_scaled(x_t * scale, levels)
    torch.testing.assert_close(other.x0_mean, one.x0_mean, rtol=1e-4, atol=1e-4)
    assert torch.equal(other.coef_log_var, one.coef_log_var)


def test_brain_floats_are_close() -> None:
    network, x_t = lively(CONFIG), pictures(8, 12)[1]
    exact, rough = (
        DdpmDenoiser(network, process(output="x0"), dtype=dtype)(x_t, level(50, 2)).x0_mean
        for dtype in ("float32", "bf16")
    )
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)
