"""What the commands print: one JSON object or short tables on standard output, notes and a progress bar on standard error."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ddpm_codec.json_text import json_text

Progress = Callable[[int, int], None]
"""``progress(done, total)``: how the library says how far it is."""


def printable(text: str) -> str:
    r"""Escape what must not reach a terminal or break a line (``\n``, ``\x1b``, lone surrogates).

    Names come out of files that others made, so they are not to be trusted with a terminal.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def echo(line: str, *, err: bool = False) -> None:
    """Print a line on standard output or standard error; characters that the stream cannot encode are escaped."""
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None)
    if encoding is not None:
        line = line.encode(encoding, "backslashreplace").decode(encoding)
    # Named, because click writes UTF-8 to its own choice of a stream that only takes ASCII.
    click.echo(line, file=stream)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of standard output, in ASCII; see :func:`ddpm_codec.json_text.json_text`."""
    echo(json_text(values))


def print_facts(values: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Print ``label  value`` lines in the order of ``labels``; keys that are absent or None are left out."""
    shown = {label: values[key] for key, label in labels.items() if values.get(key) is not None}
    width = max((len(label) for label in shown), default=0)
    for label, value in shown.items():
        echo(f"{label:<{width}}  {format_value(value)}")


def print_report(values: Mapping[str, Any], labels: Mapping[str, str], *, as_json: bool) -> None:
    """Print one JSON object, or the facts that ``labels`` names."""
    if as_json:
        print_json(values)
    else:
        print_facts(values, labels)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print aligned columns under their headers: numbers to the right, text to the left."""
    cells = [[format_value(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    to_the_right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    for line in [list(headers), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_the_right, strict=True)
        ]
        echo("  ".join(padded).rstrip())


def format_value(value: Any) -> str:  # noqa: ANN401 - any fact
    """Return a value as a person reads it: thousands separated, four decimals, lists as words."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4f}"
    if isinstance(value, (list, tuple)):
        return " ".join(format_value(item) for item in value)
    return printable(str(value))


def print_note(line: str) -> None:
    """Print a note on standard error."""
    echo(f"ddpm-codec: note: {printable(line)}", err=True)


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """Give a ``progress(done, total)`` that draws a bar on standard error, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(unit=unit, unit_scale=True, leave=False, file=sys.stderr, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
