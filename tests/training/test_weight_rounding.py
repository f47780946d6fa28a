"""Rounding of weights with error feedback."""

import pytest
import torch
from torch import Tensor

from ddpm_codec.nn.masked_conv import MaskedConv
from ddpm_codec.nn.pixel_decoder import PixelDecoder
from ddpm_codec.nn.quantization import WEIGHT_LIMIT
from ddpm_codec.training.decoder_calibration import decoder_bits
from ddpm_codec.training.weight_rounding import feed_back, round_weights
from tests.toy_decoders import TINY


def output_error(weights: Tensor, q: Tensor, steps: Tensor, covariance: Tensor) -> float:
    """Return the mean squared error of the outputs."""
    error = weights - q * steps[:, None]
    return float(((error @ covariance) * error).sum(dim=1).mean())


def alike(count: int) -> Tensor:
    """Return the covariance of inputs of which neighbours are alike, as pixels are."""
    place = torch.arange(count, dtype=torch.float64)
    return 0.95 ** (place[:, None] - place).abs()


def rows(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(16, count, generator=generator, dtype=torch.float64)
    return weights, weights.abs().amax(dim=1) / WEIGHT_LIMIT


def test_errors_on_inputs_that_are_alike_fall_far_below_those_of_plain_rounding() -> None:
    weights, steps = rows(64)
    plain = (weights / steps[:, None]).round()
    fed = feed_back(weights, alike(64), steps)
    assert output_error(weights, fed, steps, alike(64)) < 0.2 * output_error(weights, plain, steps, alike(64))


def test_inputs_without_correlation_are_rounded_plainly() -> None:
    weights, steps = rows(32)
    assert torch.equal(
        feed_back(weights, torch.eye(32, dtype=torch.float64), steps), (weights / steps[:, None]).round()
    )


def test_two_inputs_that_are_one_share_their_error() -> None:
    """With x_0 = x_1 the sum of two weights is all that counts: 100 + 0.4 + 0.4 steps are 100 + 1 + 0 or 100 + 0 + 1."""
    weights = torch.tensor([[127.0, 0.4, 0.4]], dtype=torch.float64)
    covariance = torch.tensor([[1e-3, 0.0, 0.0], [0.0, 1.0, 0.999], [0.0, 0.999, 1.0]], dtype=torch.float64)
    fed = feed_back(weights, covariance, torch.ones(1, dtype=torch.float64))
    assert fed[0, 0] == 127
    assert sorted(fed[0, 1:].tolist()) == [0, 1]


@pytest.fixture
def network() -> PixelDecoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = PixelDecoder(TINY)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    for layer in built.layers().values():
        if layer.quantizer is not None:
            layer.quantizer.step.fill_(1.0 / 64.0)
    return built.eval().requires_grad_(False)


def test_rounded_weights_stay_as_they_are_when_rounded_plainly(network: PixelDecoder) -> None:
    x_0 = torch.linspace(-1.0, 1.0, 4 * 3 * 16 * 16, dtype=torch.float32).view(4, 3, 16, 16)
    before = {name: layer.conv.weight.clone() for name, layer in network.layers().items()}
    round_weights(network, lambda: decoder_bits(network, x_0, torch.tensor([3.0])))
    for name, layer in network.layers().items():
        unit = 1.0 if layer.quantizer is None else layer.quantizer.step[:, None, None]
        kernel = layer.conv.weight * unit
        q = kernel / (kernel.abs().amax(dim=(1, 2, 3), keepdim=True) / WEIGHT_LIMIT)
        torch.testing.assert_close(q, q.round(), atol=1e-3, rtol=0.0)
        # Half precision, in which weights are kept, does not move them to another integer.
        assert torch.equal(
            (
                layer.conv.weight.half().float() * unit / kernel.abs().amax(dim=(1, 2, 3), keepdim=True) * WEIGHT_LIMIT
            ).round(),
            q.round(),
        )
        assert not torch.equal(layer.conv.weight, before[name])
    masked = network.masked_stem.conv
    assert isinstance(masked, MaskedConv)
    assert not (masked.weight * (1.0 - masked.mask)).any()
