"""Rounding in training: what it rounds to, and the gradient that it lets through."""

import pytest
import torch
from torch import nn

from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.quantization import (
    BYTE,
    LOBE,
    WEIGHT_LIMIT,
    WIDE,
    Quantizer,
    quantized_conv,
    unit_offset,
    weight_steps,
)


def quantizer(channels: int, step: float, *, signed: bool = False, wide: bool = False) -> Quantizer:
    made = Quantizer(channels, signed=signed)
    made.step.fill_(step)
    made.wide.fill_(float(wide))
    return made


def test_an_activation_takes_bytes_from_the_bottom_of_its_lobe() -> None:
    made = quantizer(1, 0.02)
    y = torch.tensor([-LOBE, -0.019, 0.0, 0.031, 3.0, 99.0]).view(1, 1, 1, -1)
    zero = float(made.zero_point(made.step))
    assert zero == 19.0
    torch.testing.assert_close(made(y).flatten(), torch.tensor([-19.0, -1.0, 0.0, 2.0, 150.0, BYTE - zero]))
    assert quantizer(1, 0.02, wide=True)(y).max() == 4950.0
    assert quantizer(1, 1e-3, wide=True)(y).max() == WIDE - 375.0


def test_a_plain_reading_takes_signed_bytes() -> None:
    made = quantizer(1, 0.5, signed=True)
    y = torch.tensor([-1000.0, -0.75, 0.26, 1000.0]).view(1, 1, 1, -1)
    assert made(y).flatten().tolist() == [-128.0, -2.0, 1.0, 127.0]


def test_the_gradient_passes_inside_the_range_and_stops_outside() -> None:
    made = quantizer(1, 0.02)
    y = torch.tensor([-0.3, 0.1, 4.0, 50.0]).view(1, 1, 1, -1).requires_grad_()
    made(y).sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(y.grad.flatten(), torch.tensor([50.0, 50.0, 50.0, 0.0]))


@pytest.mark.parametrize("wide", [False, True])
def test_a_convolution_of_integers_is_near_the_one_of_numbers(wide: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(6, 4, 3, padding=1)
    y = torch.nn.functional.hardswish(torch.randn(2, 6, 8, 8, generator=generator))
    made = quantizer(6, 0.02 / (32 if wide else 1), wide=wide)
    with torch.no_grad():
        exact, rounded = conv(y), quantized_conv(conv, y, made, wide=wide)
    error = (rounded - exact).square().mean().sqrt() / exact.std()
    assert 0.0 < error < 0.02


def test_weights_are_rounded_with_the_steps_of_their_inputs_folded_in() -> None:
    """Inputs of one byte each, so that the layer computes nothing but integers times one step an output."""
    conv = nn.Conv2d(3, 2, 1)
    made = Quantizer(3)
    made.step.copy_(torch.tensor([0.01, 0.02, 0.4]))
    folded = conv.weight * made.step[:, None, None]
    steps = weight_steps(folded)
    integers = (folded / steps[:, None, None, None]).round()
    assert integers.abs().amax(dim=(1, 2, 3)).tolist() == [WEIGHT_LIMIT] * 2
    y = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.einsum("oihw,bihw->bohw", integers.expand(2, 3, 4, 4), made(y)) * steps[:, None, None]
    assert conv.bias is not None
    expected = expected + conv.bias[:, None, None]
    torch.testing.assert_close(quantized_conv(conv, y, made, wide=False), expected, rtol=1e-5, atol=1e-5)


def test_every_weight_learns_through_the_rounding() -> None:
    """Also the largest of a channel, which divided by its step may be a hair more than 127."""
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(3, 64, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
    made = quantizer(3, 0.01)
    steps = weight_steps(conv.weight * made.step[:, None, None])
    scaled = (conv.weight * made.step[:, None, None]).abs().amax(dim=(1, 2, 3)) / steps
    assert (scaled > WEIGHT_LIMIT).any()
    quantized_conv(conv, torch.rand(1, 3, 4, 4, generator=generator), made, wide=False).sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.abs().min() > 0.0


def test_the_offset_of_a_unit_is_even_and_bounded() -> None:
    offsets = unit_offset(torch.tensor([1e-9, 0.3, 100.3, 511.5, 1e9]))
    assert offsets.tolist() == [2.0, 2.0, 402.0, 2046.0, 2046.0]


def test_quantisation_is_switched_on_and_off(denoiser: CodecDenoiser) -> None:
    net, x, level = denoiser.net, torch.randn(1, 3, 16, 16), torch.zeros(1)
    for layer in net.layers().values():
        if layer.quantizer is not None:
            layer.quantizer.step.fill_(0.05)
    before = net(x, level)[0]
    net.quantize(True)
    assert not torch.equal(net(x, level)[0], before)
    net.quantize(False)
    assert torch.equal(net(x, level)[0], before)
    assert not net.calibrated
