"""The codec network: shapes, translation, preconditioning, cost."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm_codec.nn.codec_net import SIZES, STRIDE, CodecNet, macs_per_pixel
from ddpm_codec.nn.denoiser import DATA_VARIANCE, CodecDenoiser, MixedPrecision


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 8, 8), (2, 16, 24), (3, 40, 8)])
def test_shapes(batch: int, height: int, width: int, denoiser: CodecDenoiser) -> None:
    prediction = denoiser(torch.randn(batch, 3, height, width), torch.zeros(batch))
    assert prediction.x0_mean.shape == (batch, 3, height, width)
    assert prediction.pixel_log_var.shape == (batch, 3, height, width)
    assert prediction.coef_log_var.shape == (batch, 192, height // STRIDE, width // STRIDE)


@pytest.mark.parametrize("size", SIZES)
def test_heads_start_at_zero_and_leave_the_preconditioned_skip(size: str) -> None:
    denoiser = CodecDenoiser(CodecNet(SIZES[size]))
    log_snr = torch.linspace(-12.0, 14.0, 9)
    z = torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prediction = denoiser.predict_scaled(z, log_snr)
    sigma2 = torch.exp(-log_snr.double())
    keep = DATA_VARIANCE / (DATA_VARIANCE + sigma2)
    torch.testing.assert_close(prediction.x0_mean.double(), keep[:, None, None, None] * z, rtol=1e-5, atol=1e-7)
    expected = torch.log(keep * sigma2)[:, None, None, None]
    for log_var in (prediction.pixel_log_var, prediction.coef_log_var):
        torch.testing.assert_close(log_var.double(), expected.expand(log_var.shape), rtol=1e-5, atol=1e-5)


def test_both_forms_agree(denoiser: CodecDenoiser) -> None:
    log_snr = torch.tensor([-3.0, 2.0, 9.0])
    x_t = torch.randn(3, 3, 16, 16)
    direct = denoiser(x_t, log_snr)
    scaled = denoiser.predict_scaled(x_t / torch.sigmoid(log_snr).sqrt()[:, None, None, None], log_snr)
    torch.testing.assert_close(direct.x0_mean, scaled.x0_mean)
    torch.testing.assert_close(direct.coef_log_var, scaled.coef_log_var)


def test_input_and_heads_are_of_order_one_at_every_level() -> None:
    """With x_0 of variance 1/4 the network reads unit variance, and the best answer of its head has variance one."""
    generator = torch.Generator().manual_seed(1)
    seen: list[Tensor] = []
    denoiser = CodecDenoiser(CodecNet(SIZES["small"]))
    denoiser.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for level in (-8.0, -1.0, 4.0, 12.0):
        log_snr = torch.full((4,), level)
        x_0 = 0.5 * torch.randn(4, 3, 32, 32, generator=generator)
        z = x_0 + torch.exp(-0.5 * log_snr)[:, None, None, None] * torch.randn(x_0.shape, generator=generator)
        with torch.no_grad():
            prediction = denoiser.predict_scaled(z, log_snr)
        wanted = (x_0 - prediction.x0_mean) / torch.exp(0.5 * prediction.pixel_log_var)
        assert seen[-1].std().item() == pytest.approx(1.0, abs=0.05)
        assert wanted.std().item() == pytest.approx(1.0, abs=0.05)


def test_translation_by_a_stride_moves_the_prediction(denoiser: CodecDenoiser) -> None:
    """Away from the borders; the receptive field of this network reaches under 32 pixels."""
    wide = denoiser.double()
    picture = torch.randn(1, 3, 96, 104, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    level = torch.zeros(1, dtype=torch.float64)
    first, second = wide(picture[..., :96], level), wide(picture[..., STRIDE:], level)
    for name, margin, shift in (("x0_mean", 32, STRIDE), ("pixel_log_var", 32, STRIDE), ("coef_log_var", 4, 1)):
        left, right = getattr(first, name), getattr(second, name)
        inner = slice(margin, -margin)
        moved = left[..., inner, margin + shift : left.shape[-1] - margin + shift]
        torch.testing.assert_close(right[..., inner, inner], moved, rtol=0, atol=1e-6)
        assert not torch.allclose(right[..., inner, inner], left[..., inner, inner], rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_cost_is_what_the_convolutions_do(size: str) -> None:
    net = CodecNet(SIZES[size])
    done = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:  # noqa: ANN401
        nonlocal done
        done += output.numel() * module.weight[0].numel()  # type: ignore[index]

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, 3, 32, 24), torch.zeros(1))
    assert done / (32 * 24) == macs_per_pixel(SIZES[size])


def test_mixed_precision_stays_close_and_comes_back_in_float32(denoiser: CodecDenoiser) -> None:
    x_t, log_snr = torch.randn(2, 3, 16, 16, dtype=torch.float64), torch.tensor([1.0, 5.0], dtype=torch.float64)
    exact, rough = MixedPrecision(denoiser, "float32")(x_t, log_snr), MixedPrecision(denoiser, "bf16")(x_t, log_snr)
    assert exact.x0_mean.dtype == rough.x0_mean.dtype == torch.float32
    torch.testing.assert_close(rough.x0_mean, exact.x0_mean, rtol=0, atol=0.05)


def test_a_frozen_variance_head_has_no_gradient() -> None:
    net = CodecNet(SIZES["small"])
    net.freeze_variance_head()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in net.named_parameters() if name.startswith("variance")}
