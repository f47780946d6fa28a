"""Exact networks of calibrated ones: made at export, and as a trial before a run with rounding."""

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact.decoder_freeze import freeze_decoder
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.exact.freeze import freeze
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.nn.pixel_decoder import PixelDecoder, decoder_config
from ddpm_codec.training.calibration import measure_reach, run_at_levels
from ddpm_codec.training.checkpoint import Checkpoint, load_weights
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.decoder_calibration import calibrate_decoder_on, decoder_bits
from ddpm_codec.training.objective import CLEAN_JITTER

GRID = 80
"""Number of candidate levels of chains, about 0.19 apart in log-SNR."""

REACH_PIXELS = 1 << 17
"""Pixels of the training crops on which the ranges of an exact network are measured."""

TRIAL_PIXELS = 1 << 14
"""The same for a trial, whose network is discarded."""


def candidate_levels(config: TrainConfig, crossing_log_snr: float = math.inf) -> NDArray[np.float64]:
    """Return the levels that a model has tables for, cleanest first, [GRID].

    Args:
        config: of the run.
        crossing_log_snr: of the lowest crossing, where a pixel decoder takes over: the levels are noisier than that.

    Raises:
        InputError: the run trained no such levels.
    """
    # Training covers clean levels up to the jitter beyond log_snr_max, so a chain may begin there.
    cleanest = config.log_snr_max + (CLEAN_JITTER if config.clean_share > 0 else 0.0)
    if cleanest < crossing_log_snr:
        return np.linspace(cleanest, config.log_snr_min, GRID)
    if crossing_log_snr <= config.log_snr_min:
        raise InputError(
            f"the denoiser was trained down to log-SNR {config.log_snr_min:g}, and the lowest crossing lies at "
            f"{crossing_log_snr:.2f}: no level is noisier"
        )
    return np.linspace(crossing_log_snr, config.log_snr_min, GRID + 1)[1:]


def freeze_on(
    denoiser: CodecDenoiser,
    sampler: CropSampler,
    config: TrainConfig,
    device: torch.device,
    pixels: int,
    levels: NDArray[np.float64] | None = None,
) -> ExactParameters:
    """Return the exact network of a calibrated denoiser, its ranges measured on so many pixels of training crops.

    Args:
        denoiser: on ``device``.
        sampler: of training crops.
        config: of the run.
        device: where to measure.
        pixels: how many.
        levels: that it gets tables for; None: all :func:`candidate_levels`.

    Raises:
        ModelError: it cannot be held in integers without overflow.
    """
    levels = candidate_levels(config) if levels is None else levels
    crops = to_model_values(sampler.batch(1, max(8, pixels // config.crop**2), slice(None)), device)
    looked_at = torch.from_numpy(levels[::4]).float()
    reach = measure_reach(denoiser.net, lambda: run_at_levels(denoiser, crops, looked_at))
    return freeze(copy.deepcopy(denoiser).cpu(), levels, reach)


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


def check_freezes(denoiser: CodecDenoiser, sampler: CropSampler, config: TrainConfig, device: torch.device) -> None:
    """Check that a calibrated denoiser could be exported as it is.

    Raises:
        ModelError: it could not be.
    """
    try:
        freeze_on(denoiser, sampler, config, device, TRIAL_PIXELS)
    except ModelError as error:
        raise ModelError(f"cannot train with rounding, the network does not fit into integers: {error}") from error
