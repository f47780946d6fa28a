"""Run by ``torch.distributed.run``: every process saves what it computed, of codec networks, U-Nets and a pixel decoder.

``NAME-RANK.pt`` holds, for each name of CODEC and KINDS, first gradients, later weights and what the task remembers;
``steps-RANK.pt`` the weights and steps that a process rounds with, ``refusal-RANK.txt`` how it refuses what the first
refuses. ``run`` is the folder of a run by the command line, ``output-RANK.txt`` what it printed.
"""

import contextlib
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ddpm_codec.errors import ModelError
from ddpm_codec.training import calibration, freezing
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.distributed import process_group, same_everywhere
from ddpm_codec.training.trainer import Trainer
from ddpm_codec_cli.main import main as command_line
from tests.training.unfit import make_unfit

CPU = torch.device("cpu")
# Three clean images of eight: two processes have two and one of them.
CODEC: dict[str, dict[str, Any]] = {
    name: {"clean_share": 0.375, "transform": name} for name in ("colour-8x8", "identity")
}
U_NET: dict[str, Any] = {"size": "ddpm-tiny", "timesteps": 2, "optimizer": "adamw", "lr": 1e-4}
KINDS: dict[str, dict[str, Any]] = {
    "simple": U_NET | {"objective": "simple", "variance": "beta"},
    "vlb": U_NET | {"objective": "vlb", "variance": "learned-range"},
    "hybrid": U_NET | {"objective": "hybrid", "variance": "learned-range"},
    "decoder": {"size": "decoder-tiny", "optimizer": "adamw", "lr": 1e-4, "crossings": (3.2, 20.0)},
}
RUN: dict[str, Any] = {"optimizer": "adamw", "log_every": 3}
STEPS = 4


def changed(config: TrainConfig, values: dict[str, Any]) -> TrainConfig:
    """Return ``config`` with ``values``, and the objective of the kind of network unless they name one."""
    return replace(config, **{"objective": "", **values})


def observe(config: TrainConfig, rank: int, world: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return the first gradient of a run, its weights after :data:`STEPS` steps, and what its task then remembers."""
    trainer = Trainer(config, CPU, rank, world)
    trainer.backward()
    gradient = {key: value.grad.clone() for key, value in trainer.denoiser.named_parameters() if value.grad is not None}
    # The draw above is remembered as well, in one process as in two.
    for _ in range(STEPS):
        trainer.advance()
    return {"gradient": gradient, "weights": dict(trainer.denoiser.state_dict()), "task": trainer.task.state()}


def round_in_each(config: TrainConfig, rank: int, world: int, output: Path) -> None:
    """Save weights and steps of this process, and its refusal of a network that the first process alone cannot export."""
    calibration.CROP_PIXELS, calibration.SAMPLES, freezing.TRIAL_PIXELS = 1 << 12, 400, 1 << 11
    trainer = Trainer(config, CPU, rank, world)
    with torch.no_grad():
        # As the rounding errors of another processor would, only more so.
        trainer.denoiser.get_parameter("net.stem.conv.weight").mul_(1.0 + 0.5 * rank)
    trainer.prepare()
    both = {"raw": trainer.denoiser, "average": trainer.average}
    steps = {name: denoiser.state_dict() for name, denoiser in both.items()}
    torch.save(steps, output / f"steps-{rank}.pt")
    broken = Trainer(config, CPU, rank, world)
    if rank == 0:
        with torch.no_grad():
            make_unfit(dict(broken.denoiser.named_parameters()))
    try:
        broken.prepare()
    except ModelError as error:
        (output / f"refusal-{rank}.txt").write_text(str(error))


def run_from_the_command_line(config: TrainConfig, rank: int, output: Path) -> None:
    """Train a whole run as both processes' command."""
    (output / f"run-{rank}.toml").write_text(replace(config, output=str(output / "run"), **RUN).to_toml())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = command_line(["train", "--config", str(output / f"run-{rank}.toml"), "--json"])
    (output / f"output-{rank}.txt").write_text(printed.getvalue())
    if code:
        raise SystemExit(code)


def main(config_file: Path, output: Path) -> None:
    """Save everything in ``output``."""
    config = TrainConfig.from_sources(config_file, {})
    with process_group(CPU) as (rank, world):
        for name, values in (CODEC | KINDS).items():
            torch.save(observe(changed(config, values), rank, world), output / f"{name}-{rank}.pt")
        run_from_the_command_line(config, rank, output)
        round_in_each(replace(config, quantize=True), rank, world, output)
        if not same_everywhere(5, CPU) or (world > 1 and same_everywhere(rank, CPU)):
            raise SystemExit("same_everywhere is wrong")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
