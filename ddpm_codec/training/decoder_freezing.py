"""The exact pixel decoder of a checkpoint, made at export."""

import copy

import torch

from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.nn.exact.decoder_freeze import freeze_decoder
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.pixel_decoder import PixelDecoder, decoder_config
from ddpm_codec.training.calibration import measure_reach
from ddpm_codec.training.checkpoint import Checkpoint, load_weights
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.decoder_calibration import calibrate_decoder_on, decoder_bits


def frozen_decoder(
    saved: Checkpoint,
    source: str,
    crossings: tuple[float, ...],
    sampler: CropSampler,
    device: torch.device,
    pixels: int,
) -> ExactPixelDecoder:
    """Return the exact decoder of the averaged weights of a checkpoint, with one row of tables a crossing.

    The quantiser steps of a run with rounding are kept; for other runs they are calibrated here.

    Args:
        saved: checkpoint of a pixel decoder.
        source: its name in messages.
        crossings: noise in grey levels, those of the run.
        sampler: of training crops.
        device: where to calibrate.
        pixels: of training crops on which ranges are measured, at each crossing.

    Raises:
        ModelError: weights that do not fit, or cannot be held in integers without overflow.
    """
    # No first weights are drawn from the caller's generator.
    with torch.random.fork_rng(devices=[]):
        network = PixelDecoder(decoder_config(saved.config.size, saved.config.tail))
    load_weights(network, saved.ema, source)
    network.place(device).eval().requires_grad_(False)
    log_snr = torch.tensor([log_snr_at(grey_levels) for grey_levels in crossings], dtype=torch.float64)
    levels = log_snr.float()
    if not network.calibrated:
        calibrate_decoder_on(network, sampler, levels, sampler.crop, device)
    count = max(8, pixels // sampler.crop**2)
    crops = to_model_values(sampler.batch(1, count, slice(None)), device)
    reach = measure_reach(network, lambda: [decoder_bits(network, crops, level[None]) for level in levels])
    return freeze_decoder(copy.deepcopy(network).cpu(), log_snr.numpy(), reach)
