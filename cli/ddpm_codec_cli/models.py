"""``ddpm-codec models``: the available models, without loading torch."""

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_json, print_table

HEADERS = ["name", "crossing", "steps", "parameters", "MAC/pixel/step", "MAC/pixel", "bytes", "id", "description"]


@click.command()
@options.json_option
def models(as_json: bool) -> None:
    """List the models with their default chains and multiply-adds (MAC) per pixel.

    A chain has K steps, each an evaluation of the denoiser, above a crossing, noise in grey levels where the pixel decoder
    takes over; --json has all crossings of a model, and the chain of progressive files.
    """
    from ddpm_codec.models import list_models

    found = list_models()
    if as_json:
        print_json({"models": [model.to_json() for model in found]})
        return
    rows = [
        [
            model.name,
            "-" if model.crossing is None else f"{model.crossing:g}",
            model.steps,
            model.parameters,
            round(model.macs_per_pixel_per_level),
            round(model.macs_per_pixel_total),
            model.bytes,
            model.id[:12],
            model.description,
        ]
        for model in found
    ]
    # Twelve hexadecimal digits of the id tell models apart; --json has all of them.
    print_table(HEADERS, rows)
