"""Options that several commands share, each defined once."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ddpm_codec.models.registry import DEFAULT

Command = TypeVar("Command", bound=Callable[..., Any])


def model_option(command: Command) -> Command:
    """Add ``--model``: a name that ``ddpm-codec models`` lists, a file, or the folder of a trained DDPM."""
    return click.option(
        "--model",
        metavar="NAME|FILE|FOLDER",
        default=DEFAULT,
        show_default=True,
        help="Name of a model (see `ddpm-codec models`), a model file, or the folder of a trained DDPM.",
    )(command)


def coded_model_option(command: Command) -> Command:
    """Add ``--model`` of commands that read coded files; None is whichever the file names."""
    return click.option(
        "--model",
        metavar="NAME|FILE|FOLDER",
        help="The model that the file was coded with, if it does not ship; any other is refused.",
    )(command)


def reconstruction_option(command: Command) -> Command:
    """Add ``--reconstruction``; None is ``mean``."""
    return click.option(
        "--reconstruction",
        type=click.Choice(["mean", "sample", "flow"]),
        help="How to show part of a progressive file: least error, most realistic, or the ODE.  [default: mean]",
    )(command)


def max_pixels_option(command: Command) -> Command:
    """Add ``--max-pixels``."""
    return click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=1 << 30,
        show_default=True,
        help="Refuse a file that declares more pixels than this.",
    )(command)


def levels_option(command: Command) -> Command:
    """Add ``--levels``; None is the model's own choice."""
    return click.option(
        "--levels",
        type=click.IntRange(min=1),
        default=None,
        help="Steps K of the chain; of a DDPM, so many of its timesteps.  [default: the model's own]",
    )(command)


def tile_option(command: Command) -> Command:
    """Add ``--tile``; None is the model's own choice."""
    return click.option(
        "--tile",
        type=click.IntRange(min=8),
        default=None,
        help="Side of the tiles that large pictures are cut into, a multiple of 8.  [default: the model's own]",
    )(command)


def schedule_option(command: Command) -> Command:
    """Add ``--schedule``; None is the model's own choice."""
    return click.option(
        "--schedule",
        type=click.Choice(["dp", "even"]),
        default=None,
        help="The chain of the lowest bound, or even steps in log-SNR (of a DDPM: in timesteps).  "
        "[default: dp; of a DDPM without calibration even]",
    )(command)


def variance_option(command: Command) -> Command:
    """Add ``--variance``; None is the model's own choice."""
    return click.option(
        "--variance",
        type=click.Choice(["predicted", "class", "level", "beta", "beta-tilde"]),
        default=None,
        help="Variance of the steps: the model's own; calibrated per coefficient class, or per level; or fixed.  "
        "[default: predicted; of a calibrated DDPM with few of its levels class, as in coding]",
    )(command)


def batch_option(command: Command) -> Command:
    """Add ``--batch``."""
    return click.option(
        "--batch",
        type=click.IntRange(min=1),
        default=64,
        show_default=True,
        help="32x32 pictures (or as many pixels) at a time.",
    )(command)


def seed_option(command: Command) -> Command:
    """Add ``--seed``."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all random numbers."
    )(command)


def device_option(command: Command) -> Command:
    """Add ``--device``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where the network runs.",
    )(command)


def threads_option(command: Command) -> Command:
    """Add ``--threads``; the command hands it to :func:`limit_threads`."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=None,
        help="CPU threads of the network.  [default: all]",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json`` as ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on standard output and nothing else."
    )(command)


def overwrite_option(command: Command) -> Command:
    """Add ``--overwrite``."""
    return click.option("--overwrite", is_flag=True, help="Replace an output that is there already.")(command)


def limit_threads(threads: int | None) -> None:
    """Bound the CPU threads of torch; None leaves torch's own choice."""
    if threads is None:
        return
    import torch

    torch.set_num_threads(threads)
