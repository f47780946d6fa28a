"""``ddpm-codec train``: a denoiser from a data set, alone or under ``torchrun -m ddpm_codec_cli train``."""

import os
from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_json, printable

# Written out, since asking TrainConfig for its fields would load torch for ``--help``; a test compares both.
CONFIG_OPTIONS: dict[str, tuple[type, str]] = {
    "data_weights": (tuple, "Relative chance of an image of each DATA, as in 1,2.  [default: all alike]"),
    "validation": (str, "Images of the validation bound."),
    "holdout": (int, "Without --validation: images, or photos, set aside from each DATA for it."),
    "photo_separator": (str, "Images named alike up to this are tiles of one photo, held out together."),
    "size": (
        str,
        "Network: tiny, small, base (codec networks); ddpm-tiny, ddpm-small, ddpm-cifar10, ddpm-256, iddpm-... (U-Nets); "
        "decoder-tiny, decoder-32, decoder-48, decoder-64 (pixel decoders).  [default: base]",
    ),
    "objective": (str, "bound (codec networks); simple, vlb or hybrid (U-Nets); likelihood (pixel decoders)."),
    "prediction": (str, "What a U-Net predicts: eps, x0, v or previous."),
    "variance": (str, "Of a U-Net's reverse steps: beta, beta-tilde or learned-range."),
    "schedule": (str, "Of a U-Net's timesteps: linear or cosine."),
    "timesteps": (int, "T of a U-Net."),
    "dropout": (float, "Of a U-Net."),
    "time_features": (str, "Of a U-Net: sinusoidal or fourier."),
    "conditioning": (str, "Of a U-Net on its timestep: add or scale-shift."),
    "crossings": (tuple, "Of a pixel decoder: noise that it decodes from, in grey levels.  [default: 3.2,8.2,20]"),
    "mean_weight": (float, "Of a pixel decoder: weight of the squared error of m_0, the picture that it shows."),
    "tail": (str, "Of a pixel decoder: two-scale or gaussian.  [default: two-scale]"),
    "transform": (str, "Transform W that the diffusion lives in."),
    "crop": (int, "Side of the random crops in pixels, a multiple of 8."),
    "batch": (int, "Images a step, over all processes."),
    "steps": (int, "Length of the run in optimiser steps, counted from its beginning, also with --fork."),
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
    "augment": (float, "Share of the crops that are changed as cameras change pictures."),
    "augment_scale": (float, "Of those: the share at another scale."),
    "augment_tone": (float, "Of those: with another tone curve."),
    "augment_sharpen": (float, "Of those: sharpened."),
    "augment_noise": (float, "Of those: with noise added."),
    "augment_chroma": (float, "Of those: with subsampled chroma."),
    "augment_channels": (float, "Of those: with the channels in another order."),
    "augment_transpose": (float, "Of those: transposed."),
    "augment_vertical_flip": (float, "Of those: upside down."),
    "seed": (int, "Seed of every random number."),
    "device": (str, "auto, cpu or cuda."),
    "dtype": (str, "auto (bf16 where the device computes in it), bf16 or float32."),
    "checkpoint_every": (int, "Steps between checkpoints."),
    "validate_every": (int, "Steps between validation bounds."),
    "validation_images": (int, "Crops in the validation bound."),
    "log_every": (int, "Steps between log lines."),
    "init_from": (str, "Checkpoint whose averaged weights start the run."),
    "quantize": (bool, "Train with the rounded weights and activations of exact coding."),
    "compile": (bool, "Use torch.compile."),
}


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers between commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:  # noqa: ANN401 - click's own
        """Return the numbers, or refuse the word."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, as in 1,2", param, ctx)


def config_options(command: options.Command) -> options.Command:
    """Add an option for every key of the configuration; one that is not given stays None."""
    for key, (kind, text) in reversed(CONFIG_OPTIONS.items()):
        flag = "--" + key.replace("_", "-")
        words = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        option_type = Numbers() if kind is tuple else kind
        command = click.option(words, key, type=option_type, default=None, help=text)(command)
    return command


@click.command()
@click.argument("data", nargs=-1)
@click.option("-o", "--output", default=None, metavar="DIR", help="Folder of checkpoints and logs.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=None,
    help="TOML file of the keys below; an option given beside it wins.",
)
@click.option(
    "--fork",
    "fork",
    type=click.Path(path_type=Path),
    default=None,
    metavar="RUN",
    help="Go on from the last checkpoint of RUN, optimiser and all, in another folder; every key that is not given is RUN's.",
)
@config_options
@options.threads_option
@options.json_option
def train(
    data: tuple[str, ...],
    config_file: Path | None,
    fork: Path | None,
    threads: int | None,
    as_json: bool,
    **overrides: Any,  # noqa: ANN401 - of any kind
) -> None:
    """Train a network on DATA, one or several; a run that was stopped goes on where its folder left off.

    DATA is a folder or zip of pictures, a .npz or .npy of uint8 NHWC, a CIFAR-10 folder, or sheet:FILE:32x32.

    To see what a run would reach, fork it with a falling learning rate: `train --fork runs/a -o runs/a-decayed --steps 6900
    --decay 0.13` takes its last steps while the run itself goes on.
    """
    from ddpm_codec.training import run
    from ddpm_codec.training.config import TrainConfig

    options.limit_threads(threads)
    values = overrides | {"data": data or None}
    if fork is None:
        config = TrainConfig.from_sources(config_file, values)
    elif config_file is None:
        config = run.forked_config(fork, values)
    else:
        raise click.UsageError("--fork takes its configuration from the run, not from --config")
    if not config.data or not config.output:
        raise click.UsageError("name DATA and --output DIR, here or in the file of --config")
    macs: dict[str, float] = {}

    def announce(found: dict[str, float], note: str) -> None:
        macs.update(found)
        if note:
            click.echo(printable(note), err=True)
        work = ", ".join(f"{part} {count:,.0f}" for part, count in found.items())
        click.echo(f"multiply-adds a pixel: {work}", err=True)

    checkpoint = run.train(config, announce=announce)
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json({"checkpoint": str(checkpoint), "macs_per_pixel": macs})
    else:
        click.echo(f"checkpoint  {printable(str(checkpoint))}")
