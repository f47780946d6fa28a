"""The diffusion process and the U-Net architecture of a training configuration."""

from dataclasses import replace
from typing import Any

import numpy as np

from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.nn.ddpm_unet.config import UNETS, UNetConfig
from ddpm_codec.training.config import TrainConfig


def process_of(config: TrainConfig) -> ReverseProcess:
    """Return the process that ``config`` names.

    The linear schedule goes from 0.1 / T to 20 / T, the 1e-4 to 0.02 of Ho et al. at T = 1000, so that any T ends at the same
    noise (Nichol & Dhariwal's code does the same).
    """
    timesteps = config.timesteps
    if config.schedule == "linear":
        schedule = NoiseSchedule.linear_beta(timesteps, 0.1 / timesteps, min(20.0 / timesteps, 0.999))
    else:
        schedule = NoiseSchedule.cosine(timesteps)
    return ReverseProcess(schedule, config.prediction, config.variance)


def even_timesteps(schedule: NoiseSchedule, count: int) -> list[int]:
    """Return at most ``count`` timesteps, as even in log-SNR as the schedule allows, both ends included, cleanest first."""
    levels = schedule.log_snr
    wanted = np.linspace(levels[0], levels[-1], count)
    return sorted({int(np.abs(levels - level).argmin()) for level in wanted})


def unet_of(config: TrainConfig) -> UNetConfig:
    """Return the architecture that ``config`` names, with its changes.

    Raises:
        ModelError: the changes do not fit it.
    """
    changes: dict[str, Any] = {
        "dropout": config.dropout,
        "time_scale": 1000.0 / config.timesteps,
        "learned_range": config.variance == "learned-range",
    }
    if config.time_features:
        changes["time_features"] = config.time_features
    if config.conditioning:
        changes["conditioning"] = config.conditioning
    return replace(UNETS[config.size], **changes)
