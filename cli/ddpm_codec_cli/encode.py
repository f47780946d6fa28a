"""``ddpm-codec encode``: pictures into one file, without loss."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.errors import InputError
from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, print_table, printable, progress_bar

if TYPE_CHECKING:
    from ddpm_codec.files import EncodeReport, ProgressiveReport

LABELS = {
    "images": "images",
    "pixels": "pixels",
    "file_bytes": "file bytes",
    "file_bpd": "file bits/dim (every byte of the file)",
    "net_bpd": "net bits/dim (model-coded pixels alone)",
    "fallback_images": "images coded by the fallback",
    "seconds": "seconds",
    "network_seconds": "  of them, network",
    "coder_seconds": "  of them, entropy coder",
    "model": "model",
    "device": "device",
}


PROGRESSIVE_LABELS = {
    "file": "file",
    "pixels": "pixels",
    "file_bytes": "file bytes",
    "header_bytes": "  of them, head and framing",
    "index_bytes": "  of them, indices",
    "tail_bytes": "  of them, the lossless end",
    "alpha_bytes": "  of them, the alpha plane",
    "file_bpp": "file bits/pixel (every byte of the file)",
    "file_bpd": "file bits/dim (every byte of the file)",
    "lossless": "lossless",
    "seconds": "seconds",
    "network_seconds": "  of them, network",
    "model": "model",
    "device": "device",
}


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Output .ddpm file. Image extensions such as .png are refused.",
)
@options.model_option
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=None,
    help="Steps K of the chain (for a DDPM, timesteps). Fewer steps run faster; more compress better.  "
    "[default: the model's own]",
)
@options.tile_option
@click.option(
    "--block-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_BLOCK_PIXELS,
    show_default=True,
    help="Pixels per block, the unit of damage and of independent decoding.",
)
@click.option("--progressive", is_flag=True, help="Write a file that can be cut anywhere, one per picture.")
@click.option("--bpp", "max_bpp", type=float, help="With --progressive: stop at this many bits per pixel.")
@click.option("--psnr", "min_psnr_db", type=float, help="With --progressive: stop once this PSNR (dB) is reached.")
@click.option(
    "--register-bits",
    type=click.IntRange(4, 16),
    help="With --progressive: search over 2^N states. More bits compress better and run slower.  "
    "[default: by picture size]",
)
@click.option("--strip", is_flag=True, help="Leave out ICC, EXIF and XMP metadata.")
@click.option("--first-frame", is_flag=True, help="Encode the first frame of pictures that have several.")
@click.option("--verify", is_flag=True, help="Decode the result and compare it before the output appears.")
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
def encode(inputs: tuple[Path, ...], output: Path, threads: int | None, as_json: bool, **values: Any) -> None:  # noqa: ANN401
    """Encode pictures into one .ddpm file that decodes to exactly the same pixels.

    INPUT is a picture or a folder of pictures. Names, modes, palettes and metadata are kept.
    """
    from ddpm_codec.files.encoding import EncodeOptions
    from ddpm_codec.files.encoding import encode as encode_pictures

    try:
        how = EncodeOptions(**values)
    except InputError as error:
        raise click.UsageError(str(error)) from error
    options.limit_threads(threads)
    with progress_bar("picture") as progress:
        report = encode_pictures(inputs, output, how, progress=progress)
    if isinstance(report, list):
        _print_progressive(report, as_json)
    else:
        _print_archive(report, as_json)


def _print_archive(report: "EncodeReport", as_json: bool) -> None:
    facts = report.to_json()
    if as_json:
        print_json(facts)
    else:
        print_facts(facts | {"fallback_images": facts["fallback_images"] or None}, LABELS)


def _print_progressive(reports: "list[ProgressiveReport]", as_json: bool) -> None:
    from ddpm_codec.files import progressive_summary

    if as_json:
        print_json(reports[0].to_json() if len(reports) == 1 else progressive_summary(reports))
    elif len(reports) == 1:
        facts = reports[0].to_json()
        print_facts(facts | {"alpha_bytes": facts["alpha_bytes"] or None}, PROGRESSIVE_LABELS)
    else:
        rows = [[report.file, report.file_bytes, 8 * report.file_bytes / report.pixels] for report in reports]
        print_table(["file", "file bytes", "file bits/pixel"], rows)
    for line in (note for report in reports for note in report.notes):
        click.echo(f"ddpm-codec: note: {printable(line)}", err=True)
