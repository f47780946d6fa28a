"""What a run trains: the interface between the training loop and a kind of network."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_codec.training.checkpoint import check_starts, load_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler


@dataclass(frozen=True)
class Batch:
    """One process's part of the images of a step.

    Attributes:
        x_0: model values, [B, 3, H, W]: images rank, rank + world, ... of the whole batch.
        noise: standard normal, the same shape.
        generator: for draws about the whole batch, in the same state in every process.
        rank: of this process.
        world: number of processes.
    """

    x_0: Tensor
    noise: Tensor
    generator: torch.Generator
    rank: int
    world: int


@dataclass(frozen=True)
class Loss:
    """The loss to minimise and its parts, detached float64 scalars.

    Attributes:
        total: for this process; the mean over processes is the whole batch's.
        parts: two figures for the log (:meth:`Task.figures`).
    """

    total: Tensor
    parts: tuple[Tensor, Tensor]


class Task(ABC):
    """A kind of network, its objective and its validation.

    Args:
        config: of the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.note = ""
        """A note for the user about the initial weights; usually empty."""

    @abstractmethod
    def build(self, device: torch.device) -> nn.Module:
        """Return a freshly initialised network on ``device``; the seed decides its weights."""

    @abstractmethod
    def loss(self, forward: Callable[..., Any], batch: Batch) -> Loss:
        """Return the loss of a batch; ``forward`` is the network, possibly wrapped for several processes."""

    @abstractmethod
    def validation_bpd(self, network: nn.Module, x_0: Tensor) -> float:
        """Return a bound on pictures [B, 3, H, W], without L_T, the same for the same pictures."""

    def validation_figures(self, network: nn.Module, x_0: Tensor) -> dict[str, float]:
        """Return the log figures of validation pictures, ``validation_bpd`` among them; all are means over pictures."""
        return {"validation_bpd": self.validation_bpd(network, x_0)}

    @abstractmethod
    def macs_per_pixel(self) -> dict[str, float]:
        """Return the multiply-adds per pixel of one evaluation, by part of the network."""

    @abstractmethod
    def figures(self, parts: tuple[float, float]) -> dict[str, float]:
        """Return log figures from the means of the two parts of the loss."""

    def first_weights(self, source: Path) -> dict[str, Tensor]:
        """Return the averaged weights of ``source`` as initial weights.

        Raises:
            ModelError: ``source`` cannot be read, or does not fit this run.
        """
        checkpoint = load_checkpoint(source)
        check_starts(checkpoint, self.config, str(source))
        return checkpoint.ema

    def prepare(
        self, network: nn.Module, average: nn.Module, sampler: CropSampler, step: int, device: torch.device
    ) -> None:
        """Prepare the networks after their weights are loaded, before the first step of this process."""
        del network, average, sampler, step, device

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs besides weights and optimiser."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned.

        Raises:
            ModelError: it does not fit.
        """
        del state
