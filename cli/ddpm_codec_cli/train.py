"""``ddpm-codec train``: train a network, in one process or under ``torchrun -m ddpm_codec_cli train``."""

import os
from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import echo, print_json, print_note, printable
from ddpm_codec_cli.process import Interrupted, Postponed

# Written out, because asking TrainConfig for its fields would load torch for ``--help``; a test compares both.
CONFIG_OPTIONS: dict[str, tuple[type, str]] = {
    "data_weights": (tuple, "Relative probability of an image of each DATA, as in 1,2.  [default: equal]"),
    "validation": (str, "Images for the validation bound."),
    "holdout": (int, "Without --validation: number of images (or photos) of each DATA to hold out for it."),
    "photo_separator": (str, "Images with the same name up to this are tiles of one photo, held out together."),
    "size": (
        str,
        "Network: tiny, small, base (codec networks); ddpm-tiny, ddpm-small, ddpm-cifar10, ddpm-256, iddpm-... (U-Nets); "
        "decoder-tiny, decoder-32, decoder-48, decoder-64 (pixel decoders).  [default: base]",
    ),
    "objective": (str, "bound (codec network); simple, vlb or hybrid (U-Net); likelihood (pixel decoder)."),
    "prediction": (str, "U-Net: what it predicts, eps, x0, v or previous."),
    "variance": (str, "U-Net: variance of the reverse steps, beta, beta-tilde or learned-range."),
    "schedule": (str, "U-Net: noise schedule, linear or cosine."),
    "timesteps": (int, "U-Net: number of timesteps T."),
    "dropout": (float, "U-Net: dropout."),
    "time_features": (str, "U-Net: sinusoidal or fourier."),
    "conditioning": (str, "U-Net: how the timestep enters, add or scale-shift."),
    "crossings": (tuple, "Pixel decoder: noise levels to decode from, in grey levels.  [default: 3.2,8.2,20]"),
    "mean_weight": (float, "Pixel decoder: weight of the squared error of m_0, the picture it shows."),
    "tail": (str, "Pixel decoder: two-scale or gaussian.  [default: two-scale]"),
    "transform": (str, "Codec network: transform W that the diffusion lives in."),
    "crop": (int, "Side of the random crops in pixels, a multiple of 8."),
    "batch": (int, "Images per training step, over all processes."),
    "train_steps": (int, "Length of the run in training steps; a fork counts from the beginning of its run."),
    "optimizer": (str, "muon, adamw or adam."),
    "lr": (float, "Peak learning rate."),
    "warmup": (int, "Training steps of linear warm-up."),
    "decay": (float, "Last share of the run, in which the learning rate falls to zero."),
    "ema": (float, "Decay of the moving average of the weights."),
    "clip": (float, "Maximum gradient norm."),
    "steps": (int, "Codec network: K, the steps of the chain whose bound is the objective."),
    "log_snr_min": (float, "Codec network: noisiest level."),
    "log_snr_max": (float, "Codec network: cleanest level, where L_0 takes over."),
    "clean_share": (float, "Codec network: share of the batch spent on L_0."),
    "clean_weight": (float, "Codec network: weight of L_0 relative to the step KLs."),
    "flip": (bool, "Mirror half of the crops."),
    "augment": (float, "Share of the crops that are augmented as a random camera would."),
    "augment_scale": (float, "Share of augmented crops that are rescaled."),
    "augment_tone": (float, "Share with another tone curve."),
    "augment_sharpen": (float, "Share that is sharpened."),
    "augment_noise": (float, "Share with added noise."),
    "augment_saturation": (float, "Share with weaker or stronger chroma."),
    "augment_chroma": (float, "Share with subsampled chroma."),
    "augment_channels": (float, "Share with permuted colour channels."),
    "augment_transpose": (float, "Share that is transposed."),
    "augment_vertical_flip": (float, "Share that is flipped vertically."),
    "skip_small": (
        bool,
        "Leave out images that are smaller than the crop or cannot be read, instead of refusing DATA.",
    ),
    "seed": (int, "Seed of all random numbers."),
    "device": (str, "auto, cpu or cuda."),
    "dtype": (str, "auto (bf16 where the device supports it natively), bf16 or float32."),
    "checkpoint_every": (int, "Training steps between checkpoints."),
    "validate_every": (int, "Training steps between validation bounds."),
    "validation_images": (int, "Number of crops in the validation bound."),
    "log_every": (int, "Training steps between log lines."),
    "init_from": (str, "Checkpoint whose averaged weights start the run."),
    "quantize": (bool, "Train with the rounded weights and activations of exact coding."),
    "compile": (bool, "Use torch.compile."),
}


PATHS = {"validation", "init_from"}
METAVARS = {"validation": "DATA", "init_from": "FILE", "device": "auto|cpu|cuda", "dtype": "auto|bf16|float32"}


class Numbers(click.ParamType[tuple[float, ...]]):
    """Comma-separated numbers."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:  # noqa: ANN401 - click's own
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a comma-separated list of numbers such as 1,2", param, ctx)


def config_options(command: options.Command) -> options.Command:
    """Add an option for every key of the configuration; None if not given."""
    for key, (kind, text) in reversed(CONFIG_OPTIONS.items()):
        flag = "--" + key.replace("_", "-")
        words = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        option_type = Numbers() if kind is tuple else options.NotEmpty(data=True) if key in PATHS else kind
        metavar = METAVARS.get(key, {int: "N", float: "X"}.get(kind))
        command = click.option(words, key, type=option_type, metavar=metavar, default=None, help=text)(command)
    return command


@click.command()
@click.argument("data", nargs=-1, type=options.NotEmpty(data=True))
@click.option(
    "-o",
    "--output",
    type=options.NotEmpty(data=True),
    default=None,
    metavar="DIR",
    help="Folder for checkpoints and logs; required here or in --config.",
)
@click.option(
    "--config",
    "config_file",
    type=options.FilePath(),
    default=None,
    help="TOML file with the options below as keys (train_steps, ...); options on the command line win.",
)
@click.option(
    "--fork",
    "fork",
    type=options.FilePath(),
    default=None,
    metavar="RUN",
    help="Continue from the last checkpoint of RUN, optimiser included, in another folder; other options are those of RUN.",
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
    """Train a network on one or more DATA; the same command resumes a run that was stopped.

    DATA is a folder or zip of pictures, a .npz or .npy of uint8 NHWC, a CIFAR-10 folder, or sheet:FILE:32x32. The headers of
    all pictures are read before the first step. One that turns out damaged later is replaced by another and noted in
    log.jsonl; more than one in twenty end the run, which keeps its last checkpoint.

    To see what a run has reached, fork it with a falling learning rate: `train --fork runs/a -o runs/a-decayed --train-steps
    6900 --decay 0.13`. The run itself can continue.
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
        raise click.UsageError("--fork takes its configuration from the run; drop --config")
    if not config.data or not config.output:
        raise click.UsageError("name DATA and --output DIR, here or in the --config file")
    macs: dict[str, float] = {}
    notes: list[str] = []

    def announce(found: dict[str, float], note: str) -> None:
        macs.update(found)
        if note:
            echo(printable(note), err=True)
        work = ", ".join(f"{part} {count:,.0f}" for part, count in found.items())
        echo(f"multiply-adds per pixel: {work}", err=True)

    def note(line: str) -> None:
        notes.append(line)
        print_note(line)

    with Postponed() as stop:
        checkpoint = run.train(config, announce=announce, note=note, stop=stop)
    if stop.number is not None:
        kept = checkpoint.exists()
        raise Interrupted(stop.number, f"{checkpoint} is up to date; the same command continues" if kept else "")
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print_json({"checkpoint": str(checkpoint), "macs_per_pixel": macs, "notes": notes})
    else:
        echo(f"checkpoint  {printable(str(checkpoint))}")
