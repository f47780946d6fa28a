"""``ddpm-codec progressive``: what a picture looks like as its file arrives."""

from pathlib import Path

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_json, print_table, printable, progress_bar

COLUMNS = {"bytes": "bytes", "bits_per_pixel": "bits/pixel", "psnr_db": "PSNR (dB)", "level": "level"}


@click.command()
@click.argument("file", metavar="FILE.ddpm", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A .png with the frames side by side, or a .gif or .webp that moves.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Show at most so many, the last included.",
)
@click.option(
    "--reconstruction",
    type=click.Choice(["mean", "sample", "flow"]),
    default="mean",
    show_default=True,
    help="What to show of a part of the file: the least error, the most realistic, or the ODE.",
)
@click.option(
    "--reference",
    metavar="PICTURE",
    type=click.Path(path_type=Path),
    default=None,
    help="Compare with this picture.  [default: the last frame, where that is lossless]",
)
@click.option(
    "--width",
    type=click.IntRange(16, 8192),
    default=384,
    show_default=True,
    help="Pixels that a larger picture is scaled down to.",
)
@click.option(
    "--delay",
    type=click.IntRange(20, 60000),
    default=700,
    show_default=True,
    help="Milliseconds between the frames of an animation; the last one stays three times as long.",
)
@click.option("--still", is_flag=True, help="A .webp with the frames side by side.")
@options.coded_model_option
@options.device_option
@click.option("--keep-going", is_flag=True, help="Of a damaged file, show what comes before the damage.")
@options.max_pixels_option
@options.overwrite_option
@options.json_option
@click.pass_context
def progressive(
    ctx: click.Context,
    file: Path,
    output: Path,
    frames: int,
    reconstruction: str,
    reference: Path | None,
    width: int,
    delay: int,
    still: bool,
    model: Path | None,
    device: str,
    keep_going: bool,
    max_pixels: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show what the picture of a progressive file looks like as it arrives.

    FILE is one that `encode --progressive` wrote, or the start of one. A frame is drawn for each level that is complete,
    and for the end; of too many, some are left out, so that the others are even in log(bits).
    """
    from ddpm_codec.codecs.progressive.decoding import DecodeOptions
    from ddpm_codec.codecs.progressive.strip import StripOptions, draw_strip

    how = DecodeOptions(reconstruction=reconstruction, model=model, device=device, keep_going=keep_going)
    what = StripOptions(frames, width, delay, still, reference, how)
    with progress_bar("section") as progress:
        report = draw_strip(file, output, what, overwrite=overwrite, max_pixels=max_pixels, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        rows = [frame | ({"level": "lossless"} if frame["lossless"] else {}) for frame in report.frames]
        print_table(list(COLUMNS.values()), [[row[key] for key in COLUMNS] for row in rows])
    for line in report.damaged:
        click.echo(f"ddpm-codec: damaged: {printable(line)}", err=True)
    ctx.exit(1 if report.damaged else 0)
