"""``ddpm-codec progressive``: draws a picture as its progressive file arrives."""

from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import echo, print_json, print_table, printable, progress_bar

COLUMNS = {"bytes": "bytes", "bits_per_pixel": "bits/pixel", "psnr_db": "PSNR (dB)", "level": "level"}


@click.command()
@options.file_argument("file", "FILE.ddpm")
@options.output_option("A .png with the frames side by side, or an animated .gif or .webp.")
@options.whole_number("--frames", "Maximum number of frames, including the last.", default=8)
@options.reconstruction_option
@options.path(
    "--reference", "Picture to compute PSNR against.  [default: the last frame, if it is lossless]", metavar="PICTURE"
)
@options.whole_number("--width", "Scale larger pictures down to this many pixels.", least=16, most=8192, default=384)
@click.option(
    "--delay",
    "delay_ms",
    type=click.IntRange(20, 60000),
    default=700,
    show_default=True,
    help="Milliseconds between frames; the last is shown three times as long.",
)
@options.switch("--still", "Write a .webp with the frames side by side.")
@options.coded_model_option
@options.device_option
@options.threads_option
@options.switch("--keep-going", "Draw a damaged file up to the damage.")
@options.max_pixels_option
@options.overwrite_option
@options.json_option
@click.pass_context
def progressive(
    ctx: click.Context,
    /,
    file: Path,
    output: Path,
    model: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    overwrite: bool,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - fields of StripOptions
) -> None:
    """Draw the picture of a progressive file as it arrives.

    FILE is the output of `encode --progressive`, or the start of one. There is a frame for each completed level and for the
    end; if there are too many, some are dropped so that the rest are even in log(bits).
    """
    from ddpm_codec.files.strip import StripOptions, draw_strip

    options.limit_threads(threads)
    how = StripOptions(**values | {"reconstruction": values["reconstruction"] or "mean"})
    places: dict[str, Any] = {"model": model, "device": device, "max_pixels": max_pixels, "overwrite": overwrite}
    with progress_bar("section") as progress:
        report = draw_strip(file, output, how, progress=progress, **places)
    if as_json:
        print_json(report.to_json())
    else:
        rows = [frame | ({"level": "lossless"} if frame["lossless"] else {}) for frame in report.frames]
        print_table(list(COLUMNS.values()), [[row[key] for key in COLUMNS] for row in rows])
    for line in report.damaged:
        echo(f"ddpm-codec: damaged: {printable(line)}", err=True)
    ctx.exit(1 if report.damaged else 0)
