"""From a training configuration to the process and the architecture of a DDPM."""

from dataclasses import replace
from typing import Any, cast

from ddpm_codec.diffusion.process import OutputKind, ReverseProcess, ReverseVariance
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.nn.ddpm_unet.config import UNETS, UNetConfig
from ddpm_codec.training.config import TrainConfig


def process_of(config: TrainConfig) -> ReverseProcess:
    """Return the process that ``config`` names."""
    make = {"linear": NoiseSchedule.linear_beta, "cosine": NoiseSchedule.cosine}[config.schedule]
    return ReverseProcess(
        make(config.timesteps), cast("OutputKind", config.prediction), cast("ReverseVariance", config.variance)
    )


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
