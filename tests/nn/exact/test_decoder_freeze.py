"""Freezing a pixel decoder keeps what the rounded network computes."""

import copy
import dataclasses
import math
from functools import cache

import pytest
import torch
from torch import Tensor

from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.pixel_likelihood import PixelParameters
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.exact.decoder_bound import ExactPixelLikelihood
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_freeze import freeze_decoder
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.exact.decoder_storage import decoder_shapes
from ddpm_codec.nn.pixel_decoder import PixelDecoder
from ddpm_codec.training.calibration import measure_reach
from ddpm_codec.training.decoder_calibration import calibrate_decoder, decoder_bits
from tests.nn.exact.conftest import crops
from tests.toy_decoders import CROSSINGS, TINY

LOG_SNR = torch.tensor([log_snr_at(grey_levels) for grey_levels in CROSSINGS])


def greys() -> Tensor:
    """Return crops rounded to grey levels, in model values, [8, 3, 16, 24]."""
    return (torch.round(crops() * 127.5 + 127.5).clamp(0, 255) - 127.5) / 127.5


@cache
def calibrated_once(shapes: int) -> PixelDecoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = PixelDecoder(dataclasses.replace(TINY, shapes=shapes)).eval().requires_grad_(False)
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    calibrate_decoder(network, greys(), LOG_SNR, 6)
    return network


def calibrated_decoder(shapes: int, wide: str | None) -> PixelDecoder:
    network = copy.deepcopy(calibrated_once(shapes))
    if wide is not None:
        quantizer = network.layers()[wide].quantizer
        assert quantizer is not None
        if not quantizer.wide.item():
            quantizer.wide.fill_(1.0)
            quantizer.step.div_(32.0)
    return network


def frozen(network: PixelDecoder) -> ExactPixelDecoder:
    reach = measure_reach(network, lambda: decoder_bits(network, greys(), LOG_SNR))
    return freeze_decoder(copy.deepcopy(network), LOG_SNR.double().numpy(), reach)


def noisy(level: int) -> tuple[Tensor, Tensor]:
    x_0 = greys()
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(level))
    return x_0 + torch.exp(-0.5 * LOG_SNR[level]) * noise, LOG_SNR[level].expand(len(x_0))


def bits(parameters: PixelParameters) -> float:
    return -float(parameters.log_likelihood(greys(), torch.float64).mean()) / math.log(2.0)


@pytest.mark.parametrize(
    ("shapes", "wide"), [(3, None), (0, "parameter_head"), (3, "blocks.1.mix"), (3, "blocks.1.masked")]
)
def test_integers_follow_the_rounded_network(shapes: int, wide: str | None) -> None:
    network = calibrated_decoder(shapes, wide)
    decoder = frozen(network)
    assert list(decoder.layers) == list(decoder_shapes(network.config))
    if wide is not None:
        assert decoder.layers[wide].reading.wide
    exact = ExactPixelLikelihood(PixelDecoderExecutor(decoder, torch.device("cpu")), tuple(LOG_SNR.tolist()))
    for level in range(len(CROSSINGS)):
        z_0, levels = noisy(level)
        unrounded, _ = network.parameters_given(z_0, levels, greys())
        network.quantize(True)
        rounded, maps = network.parameters_given(z_0, levels, greys())
        network.quantize(False)
        found, found_maps = exact.parameters_given(z_0, levels, greys())
        assert abs(bits(found) - bits(rounded)) < 0.003
        scale = float(maps.scale[0])
        for one, other in ((found_maps.mean, maps.mean), (found.mean, rounded.mean)):
            assert float((one - other).abs().mean()) < 0.02 * scale
        assert float((found.log_variance - rounded.log_variance).abs().mean()) < 0.03
        # What is compared is not the same number anyway.
        assert float((rounded.mean - unrounded.mean).abs().mean()) > 1e-4 * scale
        assert float(rounded.mean.std()) > 10 * scale * 0.02


def test_a_decoder_that_was_not_calibrated_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\Athe pixel decoder is not calibrated\Z"):
        freeze_decoder(PixelDecoder(TINY), LOG_SNR.double().numpy(), {})
