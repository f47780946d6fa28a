"""``ddpm-codec decode``: a file back into pictures."""

from pathlib import Path

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, printable, progress_bar

LABELS = {
    "images": "images",
    "pixels": "pixels",
    "seconds": "seconds",
    "network_seconds": "  of them, network",
    "coder_seconds": "  of them, entropy coder",
    "model": "model",
    "device": "device",
    "used_bytes": "bytes used",
    "level": "level reached (-1: the picture itself)",
    "lossless": "lossless",
}


@click.command()
@click.argument("file", metavar="FILE.ddpm", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A picture, or a folder where the file holds several.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["png", "webp", "tiff", "ppm", "bmp"]),
    default=None,
    help="Picture format within a folder; the extension of a picture must agree with it.  "
    "[default: the first of png, tiff that holds the picture]",
)
@options.coded_model_option
@options.device_option
@click.option("--bpp", type=float, default=None, help="Of a progressive file, use so many bits a pixel.")
@click.option("--level", type=int, default=None, help="Of a progressive file, stop at this level; 0 is the cleanest.")
@click.option(
    "--reconstruction",
    type=click.Choice(["mean", "sample", "flow"]),
    default=None,
    help="What to show of a part of a progressive file: the least error, the most realistic, or the ODE.  [default: mean]",
)
@click.option("--keep-going", is_flag=True, help="Of a damaged file, write the pictures that can be recovered.")
@options.max_pixels_option
@options.overwrite_option
@options.json_option
@click.pass_context
def decode(
    ctx: click.Context,
    file: Path,
    output: Path,
    output_format: str | None,
    model: Path | None,
    device: str,
    bpp: float | None,
    level: int | None,
    reconstruction: str | None,
    keep_going: bool,
    max_pixels: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Decode a .ddpm file into lossless picture files (png, webp, tiff, ppm or bmp).

    Runs with the threads and the arithmetic that the file was coded with. A folder whose name has a dot must be there.
    """
    from ddpm_codec.codecs.api import decode_file

    with progress_bar("step") as progress:
        report = decode_file(
            file,
            output,
            model=model,
            device=device,
            overwrite=overwrite,
            keep_going=keep_going,
            max_pixels=max_pixels,
            output_format=output_format,
            max_bpp=bpp,
            level=level,
            reconstruction=reconstruction,
            progress=progress,
        )
    if as_json:
        print_json(report.to_json())
    else:
        print_facts(report.to_json(), LABELS)
    for line in report.notes:
        click.echo(f"ddpm-codec: note: {printable(line)}", err=True)
    for line in report.damaged:
        click.echo(f"ddpm-codec: damaged: {printable(line)}", err=True)
    ctx.exit(1 if report.damaged else 0)
