"""Run by ``torch.distributed.run``: save the first gradient of every process, and its weights after three steps."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.distributed import process_group, same_everywhere
from ddpm_codec.training.trainer import Trainer


def main(config_file: Path, output: Path) -> None:
    """Save ``gradient-TRANSFORM-RANK.pt`` and ``weights-TRANSFORM-RANK.pt`` in ``output``."""
    device = torch.device("cpu")
    config = TrainConfig.from_sources(config_file, {})
    with process_group(device) as (rank, world):
        for transform in ("colour-8x8", "identity"):
            trainer = Trainer(replace(config, transform=transform), device, rank, world)
            trainer.backward()
            gradient = {key: value.grad for key, value in trainer.denoiser.named_parameters()}
            torch.save(gradient, output / f"gradient-{transform}-{rank}.pt")
            for _ in range(3):
                trainer.advance()
            torch.save(trainer.denoiser.state_dict(), output / f"weights-{transform}-{rank}.pt")
        if not same_everywhere(5, device) or (world > 1 and same_everywhere(rank, device)):
            raise SystemExit("same_everywhere is wrong")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
