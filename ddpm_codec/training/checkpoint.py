"""Checkpoints: one file that resumes a run exactly, written atomically."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ddpm_codec.atomic import new_file
from ddpm_codec.errors import DdpmCodecError, ModelError, OutputError, one_line
from ddpm_codec.nn.codec_net import SIZES, CodecNet
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.pixel_decoder import PixelDecoder, completed
from ddpm_codec.training.config import TrainConfig

Network = TypeVar("Network", bound=nn.Module)

FORMAT = 2
LAST = "last.pt"

MUST_AGREE = (
    *("size", "transform", "optimizer", "quantize", "objective", "prediction", "variance", "schedule", "timesteps"),
    *("time_features", "conditioning", "tail", "crossings"),
)
"""Keys that must be the same in a resumed run and its checkpoint."""


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
        window: sums since the last log line, [5] (see :class:`ddpm_codec.training.trainer.Trainer`); None: zero.
        task: further state of the run (see :meth:`ddpm_codec.training.task.Task.state`).
    """

    config: TrainConfig
    step: int
    weights: dict[str, Tensor] | None
    ema: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    seconds: float
    window: Tensor | None = None
    task: dict[str, Tensor] = field(default_factory=dict)

    def facts(self) -> dict[str, int]:
        """Return what exported models say about their training."""
        return {"steps": self.step, "seconds": round(self.seconds), "batch": self.config.batch}


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``checkpoint`` to ``path`` through a temporary file.

    Raises:
        OutputError: the disk is full or the folder is not writable.
    """
    content = {
        "format": FORMAT,
        "config": asdict(checkpoint.config),
        "step": checkpoint.step,
        "weights": checkpoint.weights,
        "ema": checkpoint.ema,
        "optimizer": checkpoint.optimizer,
        "seconds": checkpoint.seconds,
        "window": checkpoint.window,
        "task": checkpoint.task,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, overwrite=True) as file:
            torch.save(content, file)
    except DdpmCodecError:
        raise
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise OutputError(f"{path}: cannot write the checkpoint ({one_line(error)})") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing code from it.

    Args:
        path: file, or folder of a run.

    Raises:
        ModelError: missing, damaged or foreign file.
    """
    if path.is_dir():
        path = path / LAST
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return _parse(content, path)
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such checkpoint") from error
    except Exception as error:  # damaged archives raise many kinds
        raise ModelError(f"{path}: not a readable checkpoint ({one_line(error)})") from error


def _parse(content: dict[str, Any], path: Path) -> Checkpoint:
    if content["format"] != FORMAT:
        raise ModelError(f"{path}: checkpoint format {content['format']}, expected {FORMAT}")
    for key in ("weights", "ema"):
        tensors = content[key]
        if (tensors is None and key == "weights") or all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            continue
        raise TypeError(f"{key} holds something other than weights")
    if not isinstance(content.get("task", {}), dict):
        raise TypeError("task is not a dictionary")
    return Checkpoint(
        TrainConfig.from_stored(content["config"]),
        int(content["step"]),
        content["weights"],
        content["ema"],
        content["optimizer"],
        float(content["seconds"]),
        content.get("window"),
        content.get("task", {}),
    )


def state_to_resume(
    checkpoint: Checkpoint, config: TrainConfig, source: Path
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return raw weights and optimiser state, from which a run continues exactly where ``checkpoint`` stopped.

    Raises:
        ModelError: another network or kind of run, averaged weights only, or weights that diverged.
    """
    _check_agreement(checkpoint, config, MUST_AGREE, str(source))
    if checkpoint.weights is None or checkpoint.optimizer is None:
        raise ModelError(f"{source}: holds averaged weights only; start from it with init_from")
    for weights in (checkpoint.weights, checkpoint.ema):
        broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            raise ModelError(f"{source}: weight {broken[0]!r} is not finite, the run had diverged")
    return checkpoint.weights, checkpoint.optimizer


def check_starts(checkpoint: Checkpoint, config: TrainConfig, source: str) -> None:
    """Check that a run can start from the averaged weights of ``checkpoint``.

    Raises:
        ModelError: the weights need rounding that the run does not have, or were trained for another process.
    """
    if config.is_ddpm and checkpoint.config.is_ddpm:
        _check_agreement(checkpoint, config, ("prediction", "schedule", "timesteps"), source)
    if checkpoint.config.quantize and not config.quantize:
        raise ModelError(f"{source}: was trained with rounding, which this run needs too: set quantize")


def _check_agreement(checkpoint: Checkpoint, config: TrainConfig, keys: Iterable[str], source: str) -> None:
    for key in keys:
        was, wanted = getattr(checkpoint.config, key), getattr(config, key)
        if was != wanted:
            raise ModelError(f"{source}: was trained with {key} = {was!r}, this run has {key} = {wanted!r}")


def seeded(config: TrainConfig, build: Callable[[], Network]) -> Network:
    """Return what ``build`` makes under the seed of the run; the caller's random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build()


def build_denoiser(config: TrainConfig) -> CodecDenoiser:
    """Return a freshly initialised denoiser of the configured size; the seed decides the weights."""
    return seeded(config, lambda: CodecDenoiser(CodecNet(SIZES[config.size])))


def load_weights(denoiser: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy ``weights`` (any float dtype) into ``denoiser``.

    Raises:
        ModelError: naming the first key or shape that does not fit.
    """
    if isinstance(denoiser, PixelDecoder):
        weights = completed(denoiser, weights)
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
    for key, value in weights.items():
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise ModelError(f"{source}: weight {key!r} holds values that are not finite numbers")
    denoiser.load_state_dict({key: value.float() for key, value in weights.items()})
