"""``ddpm-codec decode``: a .ddpm file to pictures."""

from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import echo, print_facts, print_json, printable, progress_bar
from ddpm_codec_cli.streams import output_of, source_of

LABELS = {
    "images": "images",
    "pixels": "pixels",
    "seconds": "seconds",
    "network_seconds": "  network",
    "coder_seconds": "  entropy coder",
    "model": "model",
    "device": "device",
    "used_bytes": "bytes used",
    "level": "level reached (-1: the picture itself)",
    "lossless": "lossless",
}


@click.command()
@options.file_argument("file", "FILE.ddpm", stream=True)
@options.output_option("Output picture, a folder for several, or - for standard output (with --format).", stream=True)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["png", "webp", "tiff", "ppm", "bmp"]),
    help="Format of pictures written to a folder; a picture named with -o must match it.  "
    "[default: png, or tiff for modes that png lacks]",
)
@options.coded_model_option
@options.device_option
@options.threads_option
@click.option("--bpp", "max_bpp", type=float, help="Progressive files: use this many bits per pixel.")
@click.option("--level", type=int, help="Progressive files: stop at this noise level; 0 is the crossing.")
@options.reconstruction_option
@options.switch("--keep-going", "Write what can be recovered from a damaged file.")
@options.max_pixels_option
@options.overwrite_option
@options.json_option
@click.pass_context
def decode(
    ctx: click.Context,
    /,
    file: "Path | options.Stream",
    output: "Path | options.Stream",
    threads: int | None,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - keywords of decode_file
) -> None:
    """Decode a .ddpm file into lossless picture files (png, webp, tiff, ppm, bmp, or npy for the bare samples).

    FILE.ddpm is a file, or - for standard input. Files coded in floating point set their own threads and arithmetic. A
    single picture goes into a folder with a dot in its name only if that exists.
    """
    from ddpm_codec.files import decode_file

    if isinstance(output, options.Stream) and values["output_format"] is None:
        raise click.UsageError("standard output needs --format")
    target = output_of(output, as_json=as_json)
    options.limit_threads(threads)
    with progress_bar("step") as progress:
        report = decode_file(source_of(file), target, progress=progress, **values)
    if as_json:
        print_json(report.to_json())
    elif target is output:
        print_facts(report.to_json(), LABELS)
    for line in report.notes:
        echo(f"ddpm-codec: note: {printable(line)}", err=True)
    for line in report.damaged:
        echo(f"ddpm-codec: damaged: {printable(line)}", err=True)
    ctx.exit(1 if report.damaged else 0)
