"""The command group, whose commands are imported when they run, and the one place where errors become exit codes."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click

from ddpm_codec import __version__
from ddpm_codec.compilation import when_compiling
from ddpm_codec.errors import DdpmCodecError
from ddpm_codec_cli.output import echo, printable

PROGRAM = "ddpm-codec"


class LazyCommand(NamedTuple):
    """Where a command lives, and what ``--help`` of its group says about it.

    Attributes:
        target: ``module:attribute`` of a :class:`click.Command`.
        summary: one line of help, written here so that listing imports nothing.
    """

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group over a table of commands; each is imported at its first use.

    Importing a command may load numpy or torch (seconds), so ``--help`` and the other commands must not.

    Args:
        lazy: commands by name, in the order in which ``--help`` lists them.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None where there is none of that name."""
        entry = self._lazy.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._lazy.items()])


COMMANDS = {
    "encode": LazyCommand("ddpm_codec_cli.encode:encode", "Encode pictures into one .ddpm file, without loss."),
    "decode": LazyCommand("ddpm_codec_cli.decode:decode", "Decode a .ddpm file into pictures."),
    "progressive": LazyCommand(
        "ddpm_codec_cli.progressive:progressive", "Draw the picture of a progressive file as it arrives."
    ),
    "info": LazyCommand("ddpm_codec_cli.info:info", "Show what a .ddpm file holds, without decoding it."),
    "bpd": LazyCommand("ddpm_codec_cli.bpd:bpd", "Bound the bits/dim of a model on a data set, term by term."),
    "rd": LazyCommand("ddpm_codec_cli.rd:rd", "Measure rate-distortion curves beside other codecs."),
    "train": LazyCommand("ddpm_codec_cli.train:train", "Train a network on a data set."),
    "export": LazyCommand("ddpm_codec_cli.export:export", "Freeze a checkpoint into one model file."),
    "calibrate": LazyCommand("ddpm_codec_cli.calibrate:calibrate", "Measure the variances of a trained DDPM."),
    "sample": LazyCommand("ddpm_codec_cli.sample:sample", "Draw samples from a model."),
    "bulk": LazyCommand("ddpm_codec_cli.bulk:bulk", "Code sets larger than one machine, on a cluster or on all cores."),
    "models": LazyCommand("ddpm_codec_cli.models:models", "List the models that ship."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Diffusion models as image codecs: train one, bound it, and turn pictures into files."""


def _say_compiling(kept: bool) -> None:
    """Tell somebody who waits at a terminal why, and whether the next run will take as long.

    Args:
        kept: whether it will find what this one compiles.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        how_often = (
            "once" if kept else "as every run does where none of the folders that would keep them can be written"
        )
        echo(f"{PROGRAM}: compiling the codec's loops for this processor, {how_often}; about 10 s", err=True)


def run(arguments: Sequence[str] | None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: words after the program's name; None: those of the process.
    """
    when_compiling(_say_compiling)
    try:
        result = cli.main(args=None if arguments is None else list(arguments), prog_name=PROGRAM, standalone_mode=False)
        # Flushed here and not at exit, where the interpreter would report a closed pipe by itself.
        if sys.stdout is not None:
            sys.stdout.flush()
    except DdpmCodecError as error:
        return _fail(str(error), 1)
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except MemoryError:
        return _fail("there is not enough memory for this", 1)
    except RuntimeError as error:
        if not _is_of_memory(error):
            raise
        return _fail("there is not enough memory for this (smaller --batch or --tile may help)", 1)
    except BrokenPipeError:
        _forget_output()
        return 1
    except OSError as error:
        # Files have errors of our own around them; standard output has no name.
        if error.filename is not None:
            return _fail(f"{error.filename}: {error.strerror}", 1)
        _forget_output()
        return _fail(f"standard output cannot be written ({error.strerror or error})", 1)
    return result if isinstance(result, int) else 0


def _is_of_memory(error: RuntimeError) -> bool:
    """Return whether torch could not get memory, on a device or here."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in words)


def _forget_output() -> None:
    """Let nothing be written at exit, when the interpreter would report the failure by itself."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    """Write one line to standard error, whatever a file's name may hold, and pass the exit code on."""
    echo(f"{PROGRAM}: error: {printable(message)}", err=True)
    return code
