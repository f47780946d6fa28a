"""``ddpm-codec export``: freeze a checkpoint into one model file."""

from pathlib import Path
from typing import Any

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_note, print_report, progress_bar


@click.command()
@options.file_argument("checkpoint", "CHECKPOINT")
@options.output_option("Output model file; for a DDPM, a folder.")
@options.text("--name", "Name of the model.  [default: the stem of the output]")
@options.text("--description", "One line on what the model was trained for.", default="")
@click.option(
    "--data",
    multiple=True,
    type=options.NotEmpty(data=True),
    help="Calibration images; may be repeated.  [default: the training run's]",
)
@options.path("--decoder", "Run or checkpoint of the pixel decoder that takes over at its crossings.")
@options.whole_number(
    "--steps", "Number of steps K of the chain.  [default: the training run's; with --decoder the best up to 4]"
)
@options.noise("--crossing", "Crossing of that chain, in grey levels of noise.  [default: the best]")
@options.whole_number("--progressive-steps", "K of the chain of progressive files.  [default: the best]")
@options.noise("--progressive-crossing", "Crossing of that chain.  [default: the best]")
@options.whole_number("--limit", "Number of random crops to calibrate on.", default=256)
@options.whole_number("--crop", "Side of the crops.  [default: the training run's]", least=8)
@options.whole_number("--tile", "Side of the tiles that encode will use.", least=8, default=256)
@click.option(
    "--exact/--float",
    default=True,
    show_default=True,
    help="Integer arithmetic, the same on every device, or floating point for research.",
)
@options.skip_small_option
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
@click.pass_context
def export(
    ctx: click.Context,
    /,
    checkpoint: Path,
    output: Path,
    name: str | None,
    description: str,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 - fields of ExportOptions
) -> None:
    """Freeze CHECKPOINT (a file or the folder of a run) with its chains and calibration into one model file.

    With --decoder the model ends in that pixel decoder: it has chains above each of its crossings, and files use the one that
    is best on the calibration images.

    With an output that ends in .pt, write a small checkpoint instead: the averaged weights, for `train --init-from`. A DDPM
    (a U-Net) becomes a folder, which is never replaced and which `calibrate` completes; of the options it takes only
    --name. A pixel decoder on its own becomes a file for `bpd --decoder`, in floating point (--float).
    """
    from ddpm_codec.models.pixel_decoder_model import pixel_decoder_facts
    from ddpm_codec.models.registry import describe
    from ddpm_codec.training.export import export_model
    from ddpm_codec.training.export_checkpoint import export_checkpoint, export_pixel_decoder, kind_of
    from ddpm_codec.training.export_options import ExportOptions

    options.limit_threads(threads)
    named = name or output.stem
    if output.suffix == ".pt":
        export_checkpoint(checkpoint, output, overwrite=overwrite)
        row: dict[str, Any] = {"checkpoint": str(output)}
    elif (kind := kind_of(checkpoint)) == "pixel decoder":
        _refuse_for_decoder(ctx)
        export_pixel_decoder(checkpoint, output, name=named, description=description, overwrite=overwrite)
        row = pixel_decoder_facts(output)
    elif kind == "U-Net":
        from ddpm_codec.training.ddpm_calibration import export_ddpm

        _refuse_for_ddpm(ctx)
        row = export_ddpm(checkpoint, output, name=named).facts() | {"path": str(output)}
    else:
        how = ExportOptions(named, description, **settings)
        with progress_bar("image") as progress:
            export_model(checkpoint, output, how, overwrite=overwrite, progress=progress, note=print_note)
        row = describe(output).to_json()
    print_report(row, {key: key.replace("_", " ") for key in row}, as_json=as_json)


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


OF_CHAINS = ("decoder", "steps", "crossing", "progressive_steps", "progressive_crossing")
OF_DENOISERS = ("data", *OF_CHAINS, "limit", "crop", "tile", "skip_small")


def _refuse_for_decoder(ctx: click.Context) -> None:
    """Refuse options of denoisers, and integer arithmetic."""
    for name in OF_DENOISERS:
        if _given(ctx, name):
            raise click.UsageError(
                f"--{name.replace('_', '-')} is only for denoisers; a pixel decoder has no chain of its own"
            )
    if not _given(ctx, "exact") or ctx.params["exact"]:
        raise click.UsageError(
            "an exact pixel decoder is part of a model: export its denoiser with --decoder, or this one with --float"
        )


def _refuse_for_ddpm(ctx: click.Context) -> None:
    """Refuse options that say how a codec network is frozen."""
    for name in ("description", *OF_DENOISERS, "exact"):
        if _given(ctx, name):
            flag = "--exact and --float are" if name == "exact" else f"--{name.replace('_', '-')} is"
            raise click.UsageError(f"{flag} only for codec networks; complete a DDPM with `ddpm-codec calibrate`")
