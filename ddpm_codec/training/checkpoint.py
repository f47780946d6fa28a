"""Checkpoints: one file that resumes a run exactly, written whole or not at all."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_codec.errors import ModelError, OutputError
from ddpm_codec.nn.codec_net import SIZES, CodecNet
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.training.config import TrainConfig

FORMAT = 1
LAST = "last.pt"


@dataclass
class Checkpoint:
    """State of a run after ``step`` steps.

    Attributes:
        config: as saved.
        step: optimiser steps taken.
        weights: raw weights; None in a checkpoint reduced to its average.
        ema: averaged weights.
        optimizer: state of the optimiser; None in a reduced checkpoint.
        seconds: training time so far.
    """

    config: TrainConfig
    step: int
    weights: dict[str, Tensor] | None
    ema: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    seconds: float


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``checkpoint`` to ``path`` through a temporary file.

    Raises:
        OutputError: the disk is full or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    content = {
        "format": FORMAT,
        "config": asdict(checkpoint.config),
        "step": checkpoint.step,
        "weights": checkpoint.weights,
        "ema": checkpoint.ema,
        "optimizer": checkpoint.optimizer,
        "seconds": checkpoint.seconds,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot write the checkpoint ({error})") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint (never executing code from it).

    Raises:
        ModelError: missing, damaged or foreign file.
    """
    if path.is_dir():
        path = path / LAST
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ModelError(f"{path}: checkpoint format {content['format']}, expected {FORMAT}")
        config = TrainConfig.from_dict(content["config"])
        return Checkpoint(
            config,
            content["step"],
            content["weights"],
            content["ema"],
            content["optimizer"],
            content["seconds"],
        )
    except ModelError:
        raise
    except Exception as error:  # damaged archives raise many kinds
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not a readable checkpoint ({cause})") from error


def build_denoiser(config: TrainConfig) -> CodecDenoiser:
    """Return a freshly initialised denoiser of the configured size; the seed decides the weights."""
    torch.manual_seed(config.seed)
    return CodecDenoiser(CodecNet(SIZES[config.size]))


def load_weights(denoiser: CodecDenoiser, weights: dict[str, Tensor], source: str) -> None:
    """Copy ``weights`` (any float dtype) into ``denoiser``.

    Raises:
        ModelError: naming the first key or shape that does not fit.
    """
    own = denoiser.state_dict()
    for key, value in own.items():
        if key not in weights:
            raise ModelError(f"{source}: weight {key!r} is missing")
        if weights[key].shape != value.shape:
            raise ModelError(
                f"{source}: weight {key!r} has shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
            )
    extra = sorted(set(weights) - set(own))
    if extra:
        raise ModelError(f"{source}: unexpected weight {extra[0]!r}")
    denoiser.load_state_dict({key: value.float() for key, value in weights.items()})
