"""Run by ``torch.distributed.run``: save what every process rounds with, and how it refuses what the first refuses."""

import sys
from pathlib import Path

import torch

from ddpm_codec.errors import ModelError
from ddpm_codec.training import calibration, freezing
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.distributed import process_group
from ddpm_codec.training.trainer import Trainer


def main(config_file: Path, output: Path) -> None:
    """Save ``steps-RANK.pt`` and ``refusal-RANK.txt`` in ``output``."""
    calibration.CROP_PIXELS, freezing.TRIAL_PIXELS = 1 << 12, 1 << 11
    device = torch.device("cpu")
    config = TrainConfig.from_sources(config_file, {})
    with process_group(device) as (rank, world):
        trainer = Trainer(config, device, rank, world)
        with torch.no_grad():
            # As the rounding errors of another processor would, only more so.
            trainer.denoiser.get_parameter("net.stem.conv.weight").mul_(1.0 + 0.5 * rank)
        trainer.prepare()
        both = {"raw": trainer.denoiser, "average": trainer.average}
        steps = {name: dict(denoiser.named_buffers()) for name, denoiser in both.items()}
        torch.save(steps, output / f"steps-{rank}.pt")
        broken = Trainer(config, device, rank, world)
        if rank == 0:
            with torch.no_grad():
                broken.denoiser.get_parameter("net.middle.0.first.conv.weight")[3] = 0.0
        try:
            broken.prepare()
        except ModelError as error:
            (output / f"refusal-{rank}.txt").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
