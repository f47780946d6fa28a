"""``ddpm-codec rd``: rate-distortion curves of this codec and of others, on the same pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_json, print_table, printable, progress_bar

if TYPE_CHECKING:
    from ddpm_codec.rate_distortion.report import RdReport


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Split ``a,b,c``; ``none`` is no name at all."""
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    return () if names == ("none",) else names


@click.command()
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the results. A run that was killed goes on there.",
)
@click.option(
    "--peers",
    default="jpeg,webp,jpeg2000,avif,jxl",
    show_default=True,
    callback=_names,
    help="Other codecs, or `none`; those that are not installed are left out.",
)
@click.option(
    "--metrics",
    default="psnr,ms_ssim,ssimulacra2",
    show_default=True,
    callback=_names,
    help="Those that are not installed are left out.",
)
@click.option(
    "--reconstructions",
    default="mean,sample,flow",
    show_default=True,
    callback=_names,
    help="How a picture is made of a part of our file.",
)
@options.model_option
@options.levels_option
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Use the first N pictures alone.")
@click.option(
    "--crop", type=click.IntRange(min=1), default=None, help="Cut the middle of pictures to this side at most."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes, each with one thread; 1 uses all threads.",
)
@click.option(
    "--page-pictures", type=click.IntRange(min=0), default=4, show_default=True, help="Pictures that the page shows."
)
@options.device_option
@click.option(
    "--overwrite", is_flag=True, help="Replace results of other settings; those of the same settings are kept."
)
@options.json_option
def rd(
    data: str,
    output: Path,
    peers: Sequence[str],
    metrics: Sequence[str],
    reconstructions: Sequence[str],
    model: str,
    levels: int | None,
    limit: int | None,
    crop: int | None,
    workers: int,
    page_pictures: int,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure rate and distortion of every step of our files, and of other codecs, on DATA.

    DATA is a picture, or a folder or zip of pictures, a .npz or .npy of uint8 NHWC, a CIFAR-10 folder
    (its test batch), or sheet:FILE:32x32. Figures, tables, plots and a page go to the folder.
    """
    from ddpm_codec.rate_distortion.run import run_rd

    with progress_bar("picture") as progress:
        report = run_rd(
            data,
            output,
            peers=peers,
            metrics=metrics,
            limit=limit,
            workers=workers,
            model=model,
            device=device,
            steps=levels,
            reconstructions=reconstructions,
            crop=crop,
            page_pictures=page_pictures,
            overwrite=overwrite,
            progress=progress,
            note=_note,
        )
    if as_json:
        print_json(report.to_json())
    else:
        _print_tables(report)


def _note(line: str) -> None:
    click.echo(f"ddpm-codec: note: {printable(line)}", err=True)


def _print_tables(report: "RdReport") -> None:
    """Print the mean curves and the BD-rates."""
    columns: list[Any] = ["curve", "setting", "bpp", *report.metrics]
    print_table(columns, [[row.get(column) for column in columns] for row in report.mean_rows()])
    click.echo("")
    click.echo("BD-rate in per cent: bits beyond those of the other codec at the same quality (ranges: bd_rate.csv)")
    table: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in report.bd_rates:
        table.setdefault((row.metric, row.curve), {})[row.anchor] = row.result.percent
    columns = ["metric", "curve", *(f"vs {peer}" for peer in report.peers)]
    print_table(columns, [[*names, *(values[peer] for peer in report.peers)] for names, values in table.items()])
