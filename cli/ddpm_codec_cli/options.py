"""Arguments and options of the commands: those that several share, and short forms for those of one.

A shared option is a decorator (``@options.device_option``); a short form makes one (``@options.whole_number(...)``). In help
texts ``[default: ...]`` is written out only where the default is None and the library decides.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click

from ddpm_codec.models.registry import DEFAULT

Command = TypeVar("Command", bound=Callable[..., Any])

DATA_HELP = (
    "DATA is an image, a folder or zip of images, a .npz or .npy array of uint8 NHWC, a CIFAR-10 folder (python version), or "
    "sheet:FILE:WxH, a large image of equal cells."
)
"""Stands below the options of commands that read DATA."""


class Stream(Enum):
    """What a path may name instead of a file."""

    STANDARD = "-"


class FilePath(click.Path):
    """A path: never empty, which would mean the current folder, and never a file named ``-`` by that name alone.

    Args:
        stream: take ``-`` as standard input or output, :attr:`Stream.STANDARD`, instead of refusing it.
    """

    def __init__(self, *, stream: bool = False) -> None:
        # What cannot be read or written is found, and said, by who reads or writes it.
        super().__init__(path_type=Path, readable=False)
        self._stream = stream

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's own
        """Return a Path, or a Stream."""
        if value == "-" and self._stream:
            return Stream.STANDARD
        return super().convert(_checked_path(self, value, param, ctx), param, ctx)


class NotEmpty(click.ParamType[str]):
    """Text that is not empty; with ``data``, the name of DATA, which is not ``-`` either."""

    name = "text"

    def __init__(self, *, data: bool = False) -> None:
        self._data = data

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's own
        """Return the text."""
        if self._data:
            return str(_checked_path(self, value, param, ctx))
        if not value:
            self.fail("is empty", param, ctx)
        return str(value)


def _checked_path(
    kind: click.ParamType[Any],
    value: Any,  # noqa: ANN401 - click's own
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> Any:  # noqa: ANN401 - the value
    if value == "":
        kind.fail("the path is empty (the current folder is .)", param, ctx)
    if value == "-":
        kind.fail("standard input and output are not used here (a file of that name is ./-)", param, ctx)
    return value


def whole_number(
    flag: str, help: str, *, least: int = 1, most: int | None = None, default: int | None = None
) -> Callable[[Command], Command]:
    """Return an option that takes an integer from ``least`` to ``most``."""
    kind = click.IntRange(least, most)
    return click.option(flag, metavar="N", type=kind, default=default, show_default=default is not None, help=help)


def noise(flag: str, help: str) -> Callable[[Command], Command]:
    """Return an option that takes noise in grey levels, None by default."""
    kind = click.FloatRange(min=0, min_open=True)
    return click.option(flag, metavar="GREY", type=kind, default=None, help=help)


def choice(flag: str, values: Sequence[str], help: str, *, default: str | None = None) -> Callable[[Command], Command]:
    """Return an option that takes one of ``values``."""
    kind = click.Choice(values)
    return click.option(flag, type=kind, default=default, show_default=default is not None, help=help)


def path(flag: str, help: str, *, metavar: str | None = None) -> Callable[[Command], Command]:
    """Return an option that takes a path, None by default."""
    return click.option(flag, metavar=metavar, type=FilePath(), default=None, help=help)


def text(
    flag: str, help: str, *, metavar: str | None = None, default: str | None = None, data: bool = False
) -> Callable[[Command], Command]:
    """Return an option that takes text, which may be empty only if that is the default; with ``data``, a path as text."""
    kind = click.STRING if default == "" else NotEmpty(data=data)
    return click.option(flag, metavar=metavar, type=kind, default=default, show_default=bool(default), help=help)


def names(flag: str, help: str, *, default: str) -> Callable[[Command], Command]:
    """Return an option that takes ``a,b,c``, a tuple to the command; ``none`` is no name at all."""
    return click.option(flag, default=default, show_default=True, callback=_split_names, help=help)


def switch(flag: str, help: str) -> Callable[[Command], Command]:
    """Return an option that is on or off."""
    return click.option(flag, is_flag=True, help=help)


def output_option(help: str, *, stream: bool = False) -> Callable[[Command], Command]:
    """Return ``-o``, ``--output``, a path that must be given; with ``stream``, ``-`` is standard output."""
    return click.option("-o", "--output", required=True, type=FilePath(stream=stream), help=help)


def data_argument(command: Command) -> Command:
    """Add the argument DATA."""
    return click.argument("data", type=NotEmpty(data=True))(command)


def file_argument(
    name: str, metavar: str, *, several: bool = False, stream: bool = False
) -> Callable[[Command], Command]:
    """Return an argument that takes a path, or ``several``; with ``stream``, ``-`` is standard input."""
    kind = FilePath(stream=stream)
    return click.argument(name, metavar=metavar, type=kind, nargs=-1 if several else 1, required=True)


def _split_names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in value.split(",") if name.strip())
    return () if found == ("none",) else found


MODEL_METAVAR = "NAME|FILE|FOLDER"

model_option = text(
    "--model",
    "Name of a model (see `ddpm-codec models`), a model file, or the folder of a trained DDPM; "
    "`encode` takes none, for the fallback alone.",
    metavar=MODEL_METAVAR,
    default=DEFAULT,
    data=True,
)
coded_model_option = path(
    "--model", "Model that the file was coded with, if it does not ship; any other is refused.", metavar=MODEL_METAVAR
)
reconstruction_option = choice(
    "--reconstruction",
    ("mean", "sample", "flow"),
    "How to show part of a progressive file: least error, most realistic, or the ODE. At the crossing, sample draws from the "
    "pixel decoder; mean and flow show its mean.  [default: mean]",
)
max_pixels_option = whole_number("--max-pixels", "Refuse files that declare more pixels than this.", default=1 << 30)
steps_option = whole_number(
    "--steps", "Number of steps K; for a DDPM, the number of timesteps used.  [default: the model's own]"
)
tile_option = whole_number(
    "--tile",
    "Side of the tiles that large images are cut into, a multiple of 8.  [default: the model's own]",
    least=8,
)
schedule_option = choice(
    "--schedule",
    ("dp", "even"),
    "Chain of the lowest bound, or even steps in log-SNR (for a DDPM, in timesteps).  "
    "[default: dp; even for a DDPM without calibration]",
)
variance_option = choice(
    "--variance",
    ("predicted", "class", "level", "beta", "beta-tilde"),
    "Variance of the steps: the model's own; calibrated per coefficient class or per level; or fixed.  "
    "[default: predicted; class, as in coding, for a calibrated DDPM that leaves timesteps out]",
)
batch_option = whole_number("--batch", "Images of 32x32 (or as many pixels) at a time.", default=64)
first_frame_option = switch(
    "--first-frame", "Take the first frame of files that have several, instead of refusing them."
)
skip_small_option = switch(
    "--skip-small", "Leave out images that are smaller than the crop or cannot be read, instead of refusing DATA."
)
limit_option = whole_number("--limit", "Use the first N images only.")
seed_option = whole_number("--seed", "Seed of all random numbers.", least=0, default=0)
device_option = choice("--device", ("auto", "cpu", "cuda"), "Where the network runs.", default="auto")
threads_option = whole_number(
    "--threads",
    "CPU threads: tiles that an exact model evaluates at once, each in one thread; any other model, threads inside an "
    "operation.  [default: all cores that the process may use]",
)
overwrite_option = switch("--overwrite", "Replace an existing output.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output and nothing else."
)


def bound_options(command: Command) -> Command:
    """Add the settings of a bound that `bpd` and `bulk bpd` share."""
    crossing = noise(
        "--crossing",
        "Crossing of the pixel decoder, in grey levels of noise.  [default: the model's own; with --decoder its lowest]",
    )
    chain = (crossing, steps_option, schedule_option, variance_option, tile_option)
    for decorate in reversed((*chain, limit_option, first_frame_option, batch_option, seed_option)):
        command = decorate(command)
    return command


def limit_threads(threads: int | None) -> None:
    """Bound the CPU threads of a command until it ends; None leaves the choice to the library and torch."""
    if threads is None:
        return
    import torch

    from ddpm_codec.isolation import isolated

    torch.set_num_threads(threads)
    click.get_current_context().with_resource(isolated(threads))
