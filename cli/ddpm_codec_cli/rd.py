"""``ddpm-codec rd``: rate-distortion curves of this codec and of others on the same pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import echo, print_json, print_note, print_table, progress_bar

if TYPE_CHECKING:
    from ddpm_codec.rate_distortion.report import RdReport


@click.command(epilog=options.DATA_HELP)
@options.data_argument
@options.output_option("Folder of the results. An interrupted run resumes there.")
@options.names(
    "--peers", "Other codecs, or `none`; those not installed are skipped.", default="jpeg,webp,jpeg2000,avif,jxl"
)
@options.names("--metrics", "Metrics; those not installed are skipped.", default="psnr,ms_ssim,ssimulacra2")
@options.names(
    "--reconstructions",
    "How to reconstruct from a partial file. At the crossing, sample draws from the pixel decoder; the others show its mean.",
    default="mean,sample,flow",
)
@options.model_option
@options.steps_option
@options.limit_option
@options.whole_number("--crop", "Crop pictures to their middle, each side at most N pixels.")
@options.whole_number(
    "--workers", "Processes, each with one thread; 1 uses as many threads as --threads says.", default=1
)
@options.whole_number("--page-pictures", "Pictures that the page shows.", least=0, default=4)
@options.device_option
@options.threads_option
@options.switch("--overwrite", "Replace results of other settings; results of the same settings are kept.")
@options.json_option
def rd(
    data: str,
    output: Path,
    threads: int | None,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 - keywords of run_rd
) -> None:
    """Measure rate and distortion at every step of our files, and of other codecs, on DATA.

    Writes figures, tables, plots and an HTML page to the output folder. A CIFAR-10 folder gives its test batch.
    """
    from ddpm_codec.rate_distortion.run import run_rd

    if threads is not None and settings["workers"] > 1:
        raise click.UsageError("--threads is for one process; with --workers each has one thread")
    options.limit_threads(threads)
    with progress_bar("picture") as progress:
        report = run_rd(data, output, progress=progress, note=print_note, **settings)
    if as_json:
        print_json(report.to_json())
    else:
        _print_tables(report)


def _print_tables(report: "RdReport") -> None:
    """Print the mean curves and the BD-rates."""
    columns: list[Any] = ["curve", "setting", "pictures", "bpp", *report.metrics]
    print_table(columns, [[row.get(column) for column in columns] for row in report.mean_rows()])
    echo("")
    echo("BD-rate in per cent: bits needed beyond the other codec's at equal quality (ranges: bd_rate.csv)")
    table: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in report.bd_rates:
        table.setdefault((row.metric, row.curve), {})[row.anchor] = row.result.percent
    columns = ["metric", "curve", *(f"vs {peer}" for peer in report.peers)]
    print_table(columns, [[*names, *(values[peer] for peer in report.peers)] for names, values in table.items()])
