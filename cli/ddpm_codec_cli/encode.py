"""``ddpm-codec encode``: pictures into one file, without loss."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpm_codec.codecs.options import DEFAULT_BLOCK_PIXELS
from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, print_table, printable, progress_bar

if TYPE_CHECKING:
    from ddpm_codec.codecs.api import ProgressiveOptions

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


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The .ddpm file to write; no name of a picture.",
)
@options.model_option
@click.option(
    "--levels",
    type=click.IntRange(min=1),
    default=None,
    help="Steps K of the chain (of a DDPM its timesteps): fewer are faster, more are smaller.  [default: the model's own]",
)
@options.device_option
@options.threads_option
@click.option("--strip", is_flag=True, help="Leave out ICC, EXIF and XMP metadata.")
@click.option("--first-frame", is_flag=True, help="Of pictures with several frames, encode the first.")
@click.option("--verify", is_flag=True, help="Decode what was written and compare before saying done.")
@click.option(
    "--block-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_BLOCK_PIXELS,
    show_default=True,
    help="Pixels in a block, the unit of damage and of independent decoding.",
)
@options.tile_option
@click.option(
    "--progressive", is_flag=True, help="A file that can be cut anywhere; of several pictures, one file each."
)
@click.option("--bpp", type=float, default=None, help="With --progressive: stop at so many bits a pixel.")
@click.option("--psnr", type=float, default=None, help="With --progressive: stop when so many decibels are reached.")
@click.option(
    "--register-bits",
    type=click.IntRange(4, 16),
    default=None,
    help="With --progressive: search in 2^N states; more are smaller and slower.  [default: by the size of the picture]",
)
@options.overwrite_option
@options.json_option
def encode(
    inputs: tuple[Path, ...],
    output: Path,
    model: str,
    levels: int | None,
    device: str,
    threads: int | None,
    strip: bool,
    first_frame: bool,
    verify: bool,
    block_pixels: int,
    tile: int | None,
    progressive: bool,
    bpp: float | None,
    psnr: float | None,
    register_bits: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Encode pictures into one .ddpm file that gives back exactly the same pixels.

    INPUT is a picture or a folder of pictures; names, modes, palettes and metadata are kept.
    """
    from ddpm_codec.codecs.api import ProgressiveOptions, encode_files

    options.limit_threads(threads)
    if progressive:
        if block_pixels != DEFAULT_BLOCK_PIXELS:
            raise click.UsageError("--block-pixels does not go with --progressive")
        how = ProgressiveOptions(
            model=model,
            device=device,
            levels=levels,
            register_bits=register_bits,
            tile=tile,
            max_bpp=bpp,
            min_psnr_db=psnr,
            strip=strip,
            first_frame=first_frame,
            verify=verify,
        )
        _encode_progressive(list(inputs), output, how, overwrite, as_json)
        return
    if (bpp, psnr, register_bits) != (None, None, None):
        raise click.UsageError("--bpp, --psnr and --register-bits need --progressive")
    with progress_bar("picture") as progress:
        report = encode_files(
            list(inputs),
            output,
            model=model,
            levels=levels,
            device=device,
            overwrite=overwrite,
            strip=strip,
            first_frame=first_frame,
            verify=verify,
            block_pixels=block_pixels,
            tile=tile,
            progress=progress,
        ).to_json()
    if as_json:
        print_json(report)
    else:
        print_facts(report | {"fallback_images": report["fallback_images"] or None}, LABELS)


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


def _encode_progressive(
    inputs: list[Path], output: Path, how: "ProgressiveOptions", overwrite: bool, as_json: bool
) -> None:
    from ddpm_codec.codecs.api import encode_progressive, progressive_summary

    with progress_bar("picture") as progress:
        reports = encode_progressive(inputs, output, how, overwrite=overwrite, progress=progress)
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
