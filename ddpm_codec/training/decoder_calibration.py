"""Calibration of a pixel decoder on training crops at its crossings."""

import torch
from torch import Tensor

from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.nn.pixel_decoder import PixelDecoder
from ddpm_codec.training.calibration import calibrate_network
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.weight_rounding import round_weights
from ddpm_codec.units import nats_to_bits

CROP_PIXELS = 3 << 16
"""Pixels of all crops to sample, over all crossings."""

COST_PIXELS = 3 << 14
"""Pixels of those on which the cost of rounding is measured."""

BATCHES = 4
"""Number of batches a crossing: so often inputs of layers are sampled."""


def calibrate_decoder_on(
    network: PixelDecoder, sampler: CropSampler, log_snr: Tensor, crop: int, device: torch.device
) -> None:
    """Calibrate on random training crops (see :func:`calibrate_decoder`), and round the weights.

    Args:
        network: on ``device``.
        sampler: of crops.
        log_snr: of the crossings, [G].
        crop: side of a crop in pixels.
        device: where to compute.
    """
    count = max(BATCHES * len(log_snr), CROP_PIXELS // crop**2)
    x_0 = to_model_values(sampler.batch(0, count, slice(None)), device)
    x_0 = x_0.contiguous(memory_format=torch.channels_last)
    calibrate_decoder(network, x_0, log_snr, max(2 * len(log_snr), COST_PIXELS // crop**2))
    round_weights(network, lambda: decoder_bits(network, x_0, log_snr))


def calibrate_decoder(network: PixelDecoder, x_0: Tensor, log_snr: Tensor, costed: int) -> None:
    """Choose every step of a decoder; inputs whose rounding to one byte costs too much get two.

    Args:
        network: float weights, on the device of x_0; its quantisers are overwritten and stay switched off.
        x_0: training crops in model values, [B, 3, H, W].
        log_snr: of the crossings, [G]; crop k goes to crossing k mod G.
        costed: number of crops on which the cost of rounding is measured.
    """
    calibrate_network(
        network,
        lambda: decoder_bits(network, x_0, log_snr),
        lambda: decoder_bits(network, x_0[:costed], log_snr),
    )


@torch.no_grad()
def decoder_bits(network: PixelDecoder, x_0: Tensor, log_snr: Tensor) -> float:
    """Return -log2 p(x_0 | z_0) a sub-pixel, the mean over crops [B, 3, H, W], in bits/dim.

    Crop k is at crossing k mod G of ``log_snr`` [G], with the same noise every time; computed in float32, in a few batches
    a crossing.
    """
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(x_0.device)
    total = 0.0
    for index, level in enumerate(log_snr):
        crops, noises = x_0[index :: len(log_snr)], noise[index :: len(log_snr)]
        for part, eps in zip(crops.chunk(BATCHES), noises.chunk(BATCHES), strict=True):
            levels = level.to(part.device).expand(len(part))
            parameters, _ = network(part + torch.exp(-0.5 * level) * eps, levels, part)
            total -= parameters.log_likelihood(part).double().sum().item()
    return nats_to_bits(total / x_0.numel())
