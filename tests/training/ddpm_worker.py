"""Run by ``torch.distributed.run``: save first gradients, weights and what importance sampling remembers."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.distributed import process_group
from ddpm_codec.training.trainer import Trainer

KINDS: dict[str, dict[str, Any]] = {
    "simple": {"objective": "simple", "variance": "beta"},
    "vlb": {"objective": "vlb", "variance": "learned-range"},
    "hybrid": {"objective": "hybrid", "variance": "learned-range"},
    "decoder": {"size": "decoder-tiny", "objective": "likelihood", "timesteps": 1000, "crossings": (3.2, 20.0)},
}
STEPS = 4


def observe(config: TrainConfig, rank: int, world: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the first gradient of a run, its weights after :data:`STEPS` steps, and what its task then remembers."""
    trainer = Trainer(config, torch.device("cpu"), rank, world)
    trainer.backward()
    gradient = {key: value.grad.clone() for key, value in trainer.denoiser.named_parameters() if value.grad is not None}
    # The draw above is remembered as well, in one process as in two.
    for _ in range(STEPS):
        trainer.advance()
    return {"gradient": gradient, "weights": dict(trainer.denoiser.state_dict()), "task": trainer.task.state()}


def main(config_file: Path, output: Path) -> None:
    """Save ``KIND-RANK.pt`` in ``output`` for each objective."""
    config = TrainConfig.from_sources(config_file, {})
    with process_group(torch.device("cpu")) as (rank, world):
        for kind, values in KINDS.items():
            torch.save(observe(replace(config, **values), rank, world), output / f"{kind}-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
