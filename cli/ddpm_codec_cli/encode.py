"""``ddpm-codec encode``: pictures to an archive or progressive files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.errors import InputError, LeftOutError, RefusedInputsError, Untaken
from ddpm_codec_cli import options
from ddpm_codec_cli.output import echo, print_facts, print_json, print_note, print_table, printable, progress_bar
from ddpm_codec_cli.streams import input_stream, output_of

if TYPE_CHECKING:
    from ddpm_codec.files import EncodeReport, ProgressiveReports, StreamPicture

LEFT_OUT_SHOWN = 10
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
    "index_bytes": "  messages",
    "end_bytes": "  lossless end",
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
@options.file_argument("inputs", "INPUT...", several=True, stream=True)
@options.output_option(
    "Output .ddpm file, or - for standard output. Image extensions such as .png are refused.", stream=True
)
@options.model_option
@options.steps_option
@options.tile_option
@options.whole_number(
    "--block-pixels",
    "Pixels per block of an archive, the unit of damage and of independent decoding. A single picture that has more becomes "
    "an archive too, unless the fallback codes it.",
    default=DEFAULT_BLOCK_PIXELS,
)
@options.switch("--progressive", "Write one progressive file per picture; it can be cut anywhere.")
@click.option(
    "--bpp",
    "max_bpp",
    type=float,
    help="With --progressive: at most this many bits per pixel. Chooses the crossing too, the noise level where the pixel "
    "decoder takes over: the lower it is, the more bits lead there. What is left past the lowest goes to exact tiles.",
)
@click.option(
    "--psnr",
    "min_psnr_db",
    type=float,
    help="With --progressive: stop once this PSNR (dB) is reached. Chooses the crossing too, the highest that reaches it; "
    "past the lowest, exact tiles do.",
)
@options.whole_number(
    "--register-bits",
    "With --progressive: search over 2^N states. More bits compress better and run slower.  [default: by picture size]",
    least=4,
    most=16,
)
@options.switch("--strip", "Leave out all metadata.")
@options.switch("--first-frame", "Encode the first frame of pictures that have several.")
@options.switch("--verify", "Decode the result and compare it before the output appears.")
@options.switch("--strict", "Refuse folders with files that are not pictures, instead of leaving these out.")
@options.switch("--keep-going", "Encode the other pictures if some are refused; the exit code is 1 then.")
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
@click.pass_context
def encode(
    ctx: click.Context,
    /,
    inputs: "tuple[Path | options.Stream, ...]",
    output: "Path | options.Stream",
    threads: int | None,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - fields of EncodeOptions
) -> None:
    """Encode pictures into one .ddpm file that decodes to exactly the same pixels.

    INPUT is a picture, a folder of pictures, or - for one picture on standard input. Names, modes, palettes and metadata are
    kept. A file in a folder is a picture if its extension or its content says so; what is left out of a folder is listed.
    If pictures are refused, all of them are listed and nothing is written.
    """
    from ddpm_codec.files import EncodeOptions, ProgressiveReports
    from ddpm_codec.files import encode as encode_pictures

    try:
        how = EncodeOptions(**values)
    except InputError as error:
        raise click.UsageError(str(error)) from error
    target = output_of(output, as_json=as_json)
    given = _given(inputs)
    options.limit_threads(threads)
    try:
        with progress_bar("picture") as progress:
            report = encode_pictures(given, target, how, progress=progress)
    except (LeftOutError, RefusedInputsError) as error:
        _print_untaken(error, as_json)
        raise
    _print_left_out(report.left_out)
    if isinstance(report, ProgressiveReports):
        _print_progressive(report, as_json, quiet=target is not output)
    else:
        if target is output:
            _print_archive(report, as_json)
        for note in report.notes:
            print_note(note)
    _print_refused(report.refused)
    ctx.exit(1 if report.refused else 0)


def _given(inputs: "tuple[Path | options.Stream, ...]") -> "list[Path | StreamPicture]":
    """Return the inputs, with standard input read."""
    from ddpm_codec.files.streams import StreamPicture, read_stream

    if sum(isinstance(one, options.Stream) for one in inputs) > 1:
        raise click.UsageError("standard input (-) holds one picture and can be given once")
    return [one if isinstance(one, Path) else StreamPicture(read_stream(input_stream())) for one in inputs]


def _print_untaken(error: LeftOutError | RefusedInputsError, as_json: bool) -> None:
    """Print what an error lists; the error itself, which is printed last, names it where it is only one."""
    if isinstance(error, RefusedInputsError):
        _print_left_out(error.left_out)
        if len(error.refused) > 1:
            _print_refused(error.refused)
    elif len(error.left_out) > 1:
        _print_left_out(error.left_out)
    if as_json:
        lists = {"refused": error.refused, "left_out": error.left_out}
        print_json({"error": str(error)} | {key: [one.to_json() for one in found] for key, found in lists.items()})


def _print_left_out(left_out: Sequence[Untaken]) -> None:
    """Print a note for each of the first files that were left out, and one about the others."""
    for one in left_out[:LEFT_OUT_SHOWN]:
        print_note(f"left out: {one}")
    if len(left_out) > LEFT_OUT_SHOWN:
        print_note(f"left out: {len(left_out) - LEFT_OUT_SHOWN:,} more (--json lists them all)")


def _print_refused(refused: Sequence[Untaken]) -> None:
    """Print a line for each input that was refused."""
    for one in refused:
        echo(f"ddpm-codec: refused: {printable(str(one))}", err=True)


def _print_archive(report: "EncodeReport", as_json: bool) -> None:
    facts = report.to_json()
    if as_json:
        print_json(facts)
    else:
        print_facts(facts | {"fallback_images": facts["fallback_images"] or None}, LABELS)


def _print_progressive(reports: "ProgressiveReports", as_json: bool, *, quiet: bool) -> None:
    if as_json:
        print_json(reports.to_json())
    elif len(reports) == 1 and not quiet:
        facts = reports[0].to_json()
        print_facts(facts | {"alpha_bytes": facts["alpha_bytes"] or None}, PROGRESSIVE_LABELS)
    elif not quiet:
        rows = [[report.file, report.file_bytes, 8 * report.file_bytes / report.pixels] for report in reports]
        print_table(["file", "file bytes", "file bits/pixel"], rows)
    for line in (note for report in reports for note in report.notes):
        print_note(line)
