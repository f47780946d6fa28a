"""``ddpm-codec bpd``: the bound of a model on a data set, term by term."""

from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, print_note, print_table, progress_bar

LABELS = {
    "total_bpd": "bound bits/dim (an ideal code length, not a file)",
    "stderr_bpd": "  standard error over images",
    "pooled_bpd": "  weighted by the dims of each image",
    "prior_bpd": "  prior L_T",
    "reconstruction_bpd": "  reconstruction L_0",
    "mean_rmse": "RMSE of the mean at the cleanest level, grey levels",
    "images": "images",
    "dims": "dims (sub-pixels)",
    "seconds": "seconds",
    "images_per_second": "images/s",
    "steps": "steps K",
    "evaluations": "evaluations of the denoiser per image",
    "schedule": "schedule",
    "variance": "variance",
    "model": "model",
    "decoder": "pixel decoder",
    "crossing": "  crossing, grey levels of noise",
    "device": "device",
}


@click.command(epilog=options.DATA_HELP)
@options.data_argument
@options.model_option
@options.text(
    "--decoder",
    "Pixel decoder in floating point, for research: it replaces the model's own L_0, and the chain ends at its crossing.",
    metavar="FILE",
    data=True,
)
@options.bound_options
@options.device_option
@options.threads_option
@options.path("--plot", "Plot the bits of each step and their sum to this .png, .svg or .pdf file.")
@options.overwrite_option
@options.json_option
def bpd(
    data: str,
    plot: Path | None,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 - keywords of evaluate_bpd
) -> None:
    """Bound the bits/dim of a model on DATA, term by term, with the standard error.

    A CIFAR-10 folder gives its test batch. Models take 8-bit RGB: images with alpha, a palette or one grey channel are taken
    as RGB and named; those with more than 8 bits a sample are refused.

    The noise of an image depends on --seed and on its place in DATA, and on nothing else: not on --batch or the other images.
    """
    from ddpm_codec.evaluation import evaluate_bpd
    from ddpm_codec.plotting import check_plot, plot_bound

    if plot is not None:
        check_plot(plot, overwrite=overwrite)
    options.limit_threads(threads)
    with progress_bar("evaluation") as progress:
        report = evaluate_bpd(data, progress=progress, note=print_note, **settings)
    if plot is not None:
        plot_bound(report, plot, overwrite=overwrite)
    if as_json:
        print_json(report.to_json())
    else:
        print_facts(report.to_json(), LABELS)
        print_table(["step", "bits/dim"], report.step_rows())
