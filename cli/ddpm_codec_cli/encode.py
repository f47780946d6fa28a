"""``ddpm-codec encode``: pictures to an archive or progressive files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.errors import InputError
from ddpm_codec_cli import options
from ddpm_codec_cli.output import echo, print_facts, print_json, print_table, printable, progress_bar

if TYPE_CHECKING:
    from ddpm_codec.files import EncodeReport, ProgressiveReport

LABELS = {
    "images": "images",
    "pixels": "pixels",
    "file_bytes": "file bytes",
    "file_bpd": "file bits/dim (including headers)",
    "net_bpd": "net bits/dim (model-coded pixels only)",
    "fallback_images": "images coded by the fallback",
    "seconds": "seconds",
    "network_seconds": "  network",
    "coder_seconds": "  entropy coder",
    "model": "model",
    "device": "device",
}


PROGRESSIVE_LABELS = {
    "file": "file",
    "pixels": "pixels",
    "file_bytes": "file bytes",
    "header_bytes": "  head and framing",
    "index_bytes": "  indices",
    "tail_bytes": "  lossless tail",
    "alpha_bytes": "  alpha plane",
    "file_bpp": "file bits/pixel (including headers)",
    "file_bpd": "file bits/dim (including headers)",
    "lossless": "lossless",
    "seconds": "seconds",
    "network_seconds": "  network",
    "model": "model",
    "device": "device",
}


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@options.output_option("Output .ddpm file. Image extensions such as .png are refused.")
@options.model_option
@options.steps_option
@options.tile_option
@options.whole_number(
    "--block-pixels",
    "Pixels per block, the unit of damage and of independent decoding.",
    default=DEFAULT_BLOCK_PIXELS,
)
@options.switch("--progressive", "Write one progressive file per picture; it can be cut anywhere.")
@click.option("--bpp", "max_bpp", type=float, help="With --progressive: stop at this many bits per pixel.")
@click.option("--psnr", "min_psnr_db", type=float, help="With --progressive: stop once this PSNR (dB) is reached.")
@options.whole_number(
    "--register-bits",
    "With --progressive: search over 2^N states. More bits compress better and run slower.  [default: by picture size]",
    least=4,
    most=16,
)
@options.switch("--strip", "Leave out ICC, EXIF and XMP metadata.")
@options.switch("--first-frame", "Encode the first frame of pictures that have several.")
@options.switch("--verify", "Decode the result and compare it before the output appears.")
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
def encode(inputs: tuple[Path, ...], output: Path, threads: int | None, as_json: bool, **values: Any) -> None:  # noqa: ANN401 - fields of EncodeOptions
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
        echo(f"ddpm-codec: note: {printable(line)}", err=True)
