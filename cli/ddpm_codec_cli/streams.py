"""Standard input and output as files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

import click

from ddpm_codec_cli.options import Stream

if TYPE_CHECKING:
    from ddpm_codec.container import ByteSource


def output_of(output: Path | Stream, *, as_json: bool) -> Path | BinaryIO:
    """Return the path to write to, or standard output, which then holds nothing else.

    Raises:
        UsageError: standard output is closed, a terminal, or wanted for JSON.
    """
    if isinstance(output, Path):
        return output
    if as_json:
        raise click.UsageError("standard output takes the file or --json, not both; name a file with -o")
    return _binary(sys.stdout, "standard output", "redirect it, or name a file with -o")


def source_of(file: Path | Stream) -> "Path | ByteSource":
    """Return the .ddpm file to read, all of which is in memory where it is standard input.

    Raises:
        InputError: standard input is empty or too long.
        UsageError: it is closed, or a terminal.
    """
    from ddpm_codec.container import ByteSource
    from ddpm_codec.files.streams import STANDARD_INPUT, read_stream

    if isinstance(file, Path):
        return file
    return ByteSource(read_stream(input_stream()), STANDARD_INPUT)


def input_stream() -> BinaryIO:
    """Return standard input.

    Raises:
        UsageError: it is closed, or a terminal.
    """
    return _binary(sys.stdin, "standard input", "redirect it, or name a file")


def _binary(text: TextIO | None, label: str, hint: str) -> BinaryIO:
    """Return the bytes below one of Python's standard streams, which is None where the process began with it closed."""
    if text is None or text.closed:
        raise click.UsageError(f"{label} is closed; name a file")
    if text.isatty():
        raise click.UsageError(f"{label} is a terminal; {hint}")
    return text.buffer
