"""``ddpm-codec train``: a denoiser from a data set, alone or under ``torchrun -m ddpm_codec_cli train``."""

import os
from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_json, printable

# Written out, since asking TrainConfig for its fields would load torch for ``--help``; a test compares both.
CONFIG_OPTIONS: dict[str, tuple[type, str]] = {
    "validation": (str, "Images of the validation bound."),
    "holdout": (int, "Without --validation: images set aside from DATA for it."),
    "size": (str, "Size of the network."),
    "objective": (str, "bound (codec networks); simple, vlb or hybrid (U-Nets)."),
    "prediction": (str, "What a U-Net predicts: eps, x0, v or previous."),
    "variance": (str, "Of a U-Net's reverse steps: beta, beta-tilde or learned-range."),
    "schedule": (str, "Of a U-Net's timesteps: linear or cosine."),
    "timesteps": (int, "T of a U-Net."),
    "dropout": (float, "Of a U-Net."),
    "time_features": (str, "Of a U-Net: sinusoidal or fourier."),
    "conditioning": (str, "Of a U-Net on its timestep: add or scale-shift."),
    "transform": (str, "Transform W that the diffusion lives in."),
    "crop": (int, "Side of the random crops in pixels, a multiple of 8."),
    "batch": (int, "Images a step, over all processes."),
    "steps": (int, "Length of the run in optimiser steps."),
    "optimizer": (str, "muon, adamw or adam."),
    "lr": (float, "Peak learning rate."),
    "warmup": (int, "Steps of linear warm-up."),
    "decay": (float, "Last share of the run, over which the rate falls to zero."),
    "ema": (float, "Decay of the moving average of the weights."),
    "clip": (float, "Bound on the gradient norm."),
    "levels": (int, "Steps K of the chain that the objective prices."),
    "log_snr_min": (float, "Noisiest level."),
    "log_snr_max": (float, "Cleanest level, where L_0 takes over."),
    "clean_share": (float, "Share of a batch spent on L_0."),
    "clean_weight": (float, "Weight of L_0 beside the step KLs."),
    "flip": (bool, "Mirror half of the crops."),
    "seed": (int, "Seed of every random number."),
    "device": (str, "auto, cpu or cuda."),
    "dtype": (str, "bf16 or float32."),
    "checkpoint_every": (int, "Steps between checkpoints."),
    "validate_every": (int, "Steps between validation bounds."),
    "validation_images": (int, "Crops in the validation bound."),
    "log_every": (int, "Steps between log lines."),
    "init_from": (str, "Checkpoint whose averaged weights start the run."),
    "quantize": (bool, "Train with the rounded weights and activations of exact coding."),
    "compile": (bool, "Use torch.compile."),
}


def config_options(command: options.Command) -> options.Command:
    """Add an option for every key of the configuration; one that is not given stays None."""
    for key, (kind, text) in reversed(CONFIG_OPTIONS.items()):
        flag = "--" + key.replace("_", "-")
        words = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        command = click.option(words, key, type=kind, default=None, help=text)(command)
    return command


@click.command()
@click.argument("data", required=False)
@click.option("-o", "--output", default=None, metavar="DIR", help="Folder of checkpoints and logs.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=None,
    help="TOML file of the keys below; an option given beside it wins.",
)
@config_options
@options.threads_option
@options.json_option
def train(config_file: Path | None, threads: int | None, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - of any kind
    """Train a denoiser on DATA; a run that was stopped goes on where its folder left off.

    DATA is a folder or zip of pictures, a .npz or .npy of uint8 NHWC, a CIFAR-10 folder, or sheet:FILE:32x32.
    """
    from ddpm_codec.training import run
    from ddpm_codec.training.config import TrainConfig

    options.limit_threads(threads)
    config = TrainConfig.from_sources(config_file, overrides)
    if not config.data or not config.output:
        raise click.UsageError("name DATA and --output DIR, here or in the file of --config")
    checkpoint = run.train(config)
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json({"checkpoint": str(checkpoint)})
    else:
        click.echo(f"checkpoint  {printable(str(checkpoint))}")
