"""``ddpm-codec export``: freeze a checkpoint into one model file."""

from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, progress_bar


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Output model file (a folder for a DDPM, a small checkpoint for *.pt).",
)
@click.option("--name", default=None, help="Name of the model.  [default: the stem of the output]")
@click.option("--description", default="", help="One line about the model.")
@click.option("--data", multiple=True, help="Calibration images; may be repeated.  [default: those of the run]")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=None,
    help="K, the steps of the default chain.  [default: that of the run]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Number of random crops to calibrate on.",
)
@click.option(
    "--crop",
    type=click.IntRange(min=8),
    default=None,
    help="Side of those crops.  [default: that of the run]",
)
@click.option(
    "--tile", type=click.IntRange(min=8), default=256, show_default=True, help="Default tile side of the model."
)
@click.option(
    "--exact/--float",
    default=True,
    show_default=True,
    help="Integers (same files on every device), or floating point for research.",
)
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
@click.pass_context
def export(
    ctx: click.Context,
    checkpoint: Path,
    output: Path,
    name: str | None,
    description: str,
    data: tuple[str, ...],
    steps: int | None,
    limit: int,
    crop: int | None,
    tile: int,
    exact: bool,
    device: str,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Freeze CHECKPOINT (a file or the folder of a run) with its chain and calibration into one model file.

    An output named *.pt is a small checkpoint instead: the averaged weights, for `train --init-from`. A DDPM (U-Net) becomes
    a folder, which is never replaced; run `calibrate` on it afterwards. It takes no option but --name. A pixel decoder
    becomes a file for `bpd --decoder`, in floating point (--float).
    """
    from ddpm_codec.models.pixel_decoder_model import pixel_decoder_facts
    from ddpm_codec.models.registry import describe
    from ddpm_codec.training.export import export_checkpoint, export_model, export_pixel_decoder, kind_of

    options.limit_threads(threads)
    if output.suffix == ".pt":
        export_checkpoint(checkpoint, output, overwrite=overwrite)
        row: dict[str, Any] = {"checkpoint": str(output)}
    elif (kind := kind_of(checkpoint)) == "pixel decoder":
        _refuse_for_decoder(ctx)
        export_pixel_decoder(checkpoint, output, name=name or output.stem, description=description, overwrite=overwrite)
        row = pixel_decoder_facts(output)
    elif kind == "U-Net":
        from ddpm_codec.training.ddpm_calibration import export_ddpm

        _refuse_for_ddpm(ctx)
        row = export_ddpm(checkpoint, output, name=name or output.stem).facts() | {"path": str(output)}
    else:
        with progress_bar("image") as progress:
            export_model(
                checkpoint,
                output,
                name=name or output.stem,
                description=description,
                data=data,
                steps=steps,
                limit=limit,
                crop=crop,
                tile=tile,
                exact=exact,
                device=device,
                overwrite=overwrite,
                progress=progress,
            )
        row = describe(output).to_json()
    if as_json:
        print_json(row)
    else:
        print_facts(row, {key: key.replace("_", " ") for key in row})


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _refuse_for_decoder(ctx: click.Context) -> None:
    """Refuse options of denoisers, and exact export."""
    for name in ("data", "steps", "limit", "crop", "tile"):
        if _given(ctx, name):
            raise click.UsageError(f"--{name} belongs to denoisers; a pixel decoder has no chain of its own")
    if not _given(ctx, "exact") or ctx.params["exact"]:
        raise click.UsageError("a pixel decoder has no exact form yet: export it with --float")


def _refuse_for_ddpm(ctx: click.Context) -> None:
    """Refuse options of codec networks."""
    for name in ("description", "data", "steps", "limit", "crop", "tile", "exact"):
        if _given(ctx, name):
            flag = "--exact and --float belong" if name == "exact" else f"--{name} belongs"
            raise click.UsageError(f"{flag} to codec networks; a DDPM is completed by `ddpm-codec calibrate`")
