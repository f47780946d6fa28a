"""``ddpm-codec info``: describes a file without decoding it or loading torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import echo, print_facts, print_json, print_table
from ddpm_codec_cli.streams import source_of

ROWS_SHOWN = 20


@click.command()
@options.file_argument("file", "FILE.ddpm", stream=True)
@options.json_option
def info(file: "Path | options.Stream", as_json: bool) -> None:
    """Show the codec, model, sizes and pictures of a .ddpm file, or of one on standard input (-)."""
    from ddpm_codec.files import describe_file

    description = describe_file(source_of(file)).to_json()
    if as_json:
        print_json(description)
        return
    tables = {key: value for key, value in description.items() if _is_table(value)}
    print_facts(description, {key: key.replace("_", " ") for key in description if key not in tables})
    for title, rows in tables.items():
        echo(f"\n{title.replace('_', ' ')}")
        _print_rows(rows)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _print_rows(rows: list[Mapping[str, Any]]) -> None:
    """Print the first rows of a table, and a line about the rest."""
    headers = list(rows[0])
    print_table(headers, [[row.get(header) for header in headers] for row in rows[:ROWS_SHOWN]])
    if len(rows) > ROWS_SHOWN:
        echo(f"... and {len(rows) - ROWS_SHOWN:,} more (use --json to see all)")
