"""``ddpm-codec sample``: pictures from a model."""

from pathlib import Path
from typing import Literal

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, progress_bar

LABELS = {
    "output": "output",
    "figure": "figure",
    "samples": "samples",
    "size": "width and height",
    "at": "log-SNR shown",
    "method": "method",
    "eta": "eta",
    "levels": "levels",
    "schedule": "schedule",
    "variance": "variance",
    "evaluations": "evaluations (pictures that the network saw)",
    "seconds": "seconds",
    "images_per_second": "images/s",
    "model": "model",
    "device": "device",
    "seed": "seed",
}


@click.command()
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A .png or .webp sheet, a .npy or .npz of uint8 NHWC, or a .gif that moves.",
)
@options.model_option
@click.option(
    "--figure",
    type=click.Choice(["grid", "progressive", "shared", "interpolation"]),
    default="grid",
    show_default=True,
    help="Samples; the predicted x_0 on the way to them; samples that share an x_t; mixtures of two pictures in x_t.",
)
@click.option(
    "--method",
    type=click.Choice(["ancestral", "ddim"]),
    default="ancestral",
    show_default=True,
    help="Rule of the steps.",
)
@click.option("--eta", type=float, default=None, help="Share of noise of ddim, 0 to 1.  [default: 0]")
@click.option(
    "--levels",
    type=click.IntRange(min=1),
    default=None,
    help="Levels of the chain.  [default: the model's own; of a DDPM all its timesteps, often a slow thousand]",
)
@options.schedule_option
@options.variance_option
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=None,
    help="Samples, rows (progressive), draws from each x_t (shared) or mixtures.  [default: 16, 4, 4, 9]",
)
@click.option(
    "--size",
    metavar="WxH",
    default=None,
    help="Pixels of a picture.  [default: as the model was trained; of a codec model 32x32; of a pair its own]",
)
@click.option("--data", metavar="DATA", default=None, help="Where the two pictures of an interpolation come from.")
@click.option("--pair", metavar="I,J", default=None, help="Which two of them.  [default: 0,1]")
@click.option(
    "--at",
    metavar="LEVELS",
    default=None,
    help="Levels to show: log-SNR, or percentages of the chain, 100% the noisiest; as in 25%,50% or -2,0,3.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=None,
    help="Let a grid move (.gif, .webp): at most so many frames of the predicted x_0.  [default: 24 of a .gif]",
)
@options.batch_option
@options.seed_option
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
def sample(
    output: Path,
    model: str,
    figure: Literal["grid", "progressive", "shared", "interpolation"],
    method: Literal["ancestral", "ddim"],
    eta: float | None,
    levels: int | None,
    schedule: Literal["dp", "even"] | None,
    variance: Literal["predicted", "class", "level", "beta", "beta-tilde"] | None,
    count: int | None,
    size: str | None,
    data: str | None,
    pair: str | None,
    at: str | None,
    frames: int | None,
    batch: int,
    seed: int,
    device: str,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw pictures from a model, or a figure of what it does.

    The same command draws the same pictures; the noise does not depend on --batch. DATA is of any kind that `bpd` reads.
    """
    from ddpm_codec.sampling.places import parse_pair, parse_size
    from ddpm_codec.sampling.run import SampleOptions, sample_pictures

    options.limit_threads(threads)
    what = SampleOptions(
        model=model,
        figure=figure,
        method=method,
        eta=eta,
        levels=levels,
        schedule=schedule,
        variance=variance,
        count=count,
        size=None if size is None else parse_size(size),
        data=data,
        pair=None if pair is None else parse_pair(pair),
        at=at,
        frames=frames,
        batch=batch,
        seed=seed,
        device=device,
    )
    with progress_bar("picture") as progress:
        report = sample_pictures(output, what, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(report)
    else:
        print_facts(report, LABELS)
