"""``ddpm-codec sample``: pictures from a model."""

from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_note, print_report, progress_bar

LABELS = {
    "output": "output",
    "figure": "figure",
    "samples": "samples",
    "size": "width and height",
    "at": "log-SNR shown",
    "method": "method",
    "eta": "eta",
    "steps": "steps",
    "schedule": "schedule",
    "variance": "variance",
    "evaluations": "network evaluations of a picture",
    "seconds": "seconds",
    "images_per_second": "images/s",
    "model": "model",
    "device": "device",
    "seed": "seed",
}


@click.command(epilog=options.DATA_HELP)
@options.output_option("Output: a .png or .webp sheet, a .npy or .npz array of uint8 NHWC, or a .gif animation.")
@options.model_option
@options.choice(
    "--figure",
    ("grid", "progressive", "shared", "interpolation"),
    "Samples; the predicted x_0 on the way to them; samples that share an x_t; mixtures of two pictures in x_t.",
    default="grid",
)
@options.choice("--method", ("ancestral", "ddim"), "Sampling rule.", default="ancestral")
@click.option("--eta", type=float, default=None, help="Share of noise of ddim, 0 to 1.  [default: 0]")
@options.steps_option
@options.schedule_option
@options.variance_option
@options.whole_number(
    "--count",
    "Number of samples, of rows (progressive), of draws from each x_t (shared), or of mixtures.  [default: 16, 4, 4, 9]",
)
@options.text(
    "--size",
    "Size of a picture in pixels.  [default: the size that the model was trained on; 32x32 for a codec model; "
    "the pictures' own for a pair]",
    metavar="WxH",
)
@options.text("--data", "Source of the two pictures of an interpolation.", metavar="DATA", data=True)
@options.text("--pair", "Indices of the two pictures in DATA.  [default: 0,1]", metavar="I,J")
@options.first_frame_option
@options.text(
    "--at",
    "Levels to show: log-SNR, or percentages of the chain with 100% the noisiest, as in 25%,50% or -2,0,3.",
    metavar="LEVELS",
)
@options.whole_number(
    "--frames", "Animate a grid (.gif, .webp) with at most N frames of the predicted x_0.  [default: 24 for a .gif]"
)
@options.batch_option
@options.seed_option
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
def sample(
    output: Path,
    size: str | None,
    pair: str | None,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 - fields of SampleOptions
) -> None:
    """Draw samples from a model, or a figure of how they come about.

    The same command draws the same pictures; --batch does not change the noise. A CIFAR-10 folder gives its test batch.

    A model with a pixel decoder ends with a draw from it, or with its mean where ddim draws no noise.
    """
    from ddpm_codec.sampling.places import parse_pair, parse_size
    from ddpm_codec.sampling.run import SampleOptions, sample_pictures

    options.limit_threads(threads)
    what = SampleOptions(
        size=None if size is None else parse_size(size), pair=None if pair is None else parse_pair(pair), **settings
    )
    with progress_bar("picture") as progress:
        report = sample_pictures(output, what, overwrite=overwrite, progress=progress, note=print_note)
    print_report(report, LABELS, as_json=as_json)
