"""The exact network of a calibrated denoiser: made at export, and as a trial before a run with rounding."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact.freeze import freeze
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.training.calibration import measure_reach, run_at_levels
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.objective import CLEAN_JITTER

GRID = 80
"""Number of candidate levels of chains, about 0.19 apart in log-SNR."""

REACH_PIXELS = 1 << 17
"""Pixels of the training crops on which the ranges of an exact network are measured."""

TRIAL_PIXELS = 1 << 14
"""The same for a trial, whose network is discarded."""


def candidate_levels(config: TrainConfig) -> NDArray[np.float64]:
    """Return the levels that a model has tables for, cleanest first, [GRID]."""
    # Training covers clean levels up to the jitter beyond log_snr_max, so a chain may begin there.
    return np.linspace(config.log_snr_max + CLEAN_JITTER, config.log_snr_min, GRID)


def freeze_on(
    denoiser: CodecDenoiser, sampler: CropSampler, config: TrainConfig, device: torch.device, pixels: int
) -> ExactParameters:
    """Return the exact network of a calibrated denoiser, its ranges measured on so many pixels of training crops.

    Raises:
        ModelError: it cannot be held in integers without overflow.
    """
    levels = candidate_levels(config)
    crops = to_model_values(sampler.batch(1, max(8, pixels // config.crop**2), slice(None)), device)
    looked_at = torch.from_numpy(levels[::4]).float()
    reach = measure_reach(denoiser.net, lambda: run_at_levels(denoiser, crops, looked_at))
    return freeze(copy.deepcopy(denoiser).cpu(), levels, reach)


def check_freezes(denoiser: CodecDenoiser, sampler: CropSampler, config: TrainConfig, device: torch.device) -> None:
    """Check that a calibrated denoiser could be exported as it is.

    Raises:
        ModelError: it could not be.
    """
    try:
        freeze_on(denoiser, sampler, config, device, TRIAL_PIXELS)
    except ModelError as error:
        raise ModelError(f"cannot train with rounding, the network does not fit into integers: {error}") from error
