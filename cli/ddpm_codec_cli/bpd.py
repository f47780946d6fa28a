"""``ddpm-codec bpd``: the bound of a model on a data set, term by term."""

from pathlib import Path
from typing import Literal

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, print_table, progress_bar, refuse_existing

LABELS = {
    "total_bpd": "bound bits/dim (no file: what the model promises)",
    "stderr_bpd": "  standard error over images",
    "pooled_bpd": "  weighted by the dims of each image",
    "prior_bpd": "  prior L_T",
    "reconstruction_bpd": "  reconstruction L_0",
    "mean_rmse": "RMSE of the mean at the cleanest level, grey levels",
    "images": "images",
    "dims": "dims (sub-pixels)",
    "seconds": "seconds",
    "images_per_second": "images/s",
    "levels": "levels K",
    "evaluations": "network evaluations",
    "schedule": "schedule",
    "variance": "variance",
    "model": "model",
    "decoder": "pixel decoder",
    "crossing": "its crossing, grey levels of noise",
    "device": "device",
}


@click.command()
@click.argument("data")
@options.model_option
@click.option(
    "--decoder",
    metavar="FILE",
    default=None,
    help="Pixel decoder in place of the model's own L_0; the chain ends at its crossing.",
)
@click.option(
    "--crossing",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Which of the decoder's crossings, in grey levels of noise.  [default: its lowest]",
)
@options.levels_option
@options.schedule_option
@options.variance_option
@options.tile_option
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Use the first N images alone.")
@options.batch_option
@options.seed_option
@options.device_option
@options.threads_option
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    default=None,
    help="Draw bits per level, and their sum, to a file.",
)
@options.overwrite_option
@options.json_option
def bpd(
    data: str,
    model: str,
    decoder: str | None,
    crossing: float | None,
    levels: int | None,
    schedule: Literal["dp", "even"] | None,
    variance: Literal["predicted", "class", "level", "beta", "beta-tilde"] | None,
    tile: int | None,
    limit: int | None,
    batch: int,
    seed: int,
    device: str,
    threads: int | None,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Bound the bits/dim of a model on DATA, term by term, with its standard error.

    DATA is a folder or zip of pictures, a .npz or .npy of uint8 NHWC, a CIFAR-10 folder (its test
    batch), or sheet:FILE:32x32.
    """
    from ddpm_codec.evaluation import evaluate_bpd

    if plot is not None:
        refuse_existing(plot, overwrite)
    options.limit_threads(threads)
    with progress_bar("evaluation") as progress:
        report = evaluate_bpd(
            data,
            model=model,
            decoder=decoder,
            crossing=crossing,
            levels=levels,
            schedule=schedule,
            variance=variance,
            tile=tile,
            limit=limit,
            batch=batch,
            seed=seed,
            device=device,
            progress=progress,
        )
    if plot is not None:
        from ddpm_codec.plotting import plot_bound

        plot_bound(report, plot)
    values = report.to_json()
    if as_json:
        print_json(values)
    else:
        print_facts(values, LABELS)
        print_table(["step", "bits/dim"], report.step_rows())
