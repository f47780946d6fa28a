"""``ddpm-codec encode``: pictures into one file, without loss."""

from pathlib import Path

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_facts, print_json, progress_bar

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
    help="Steps K of the chain: fewer are faster, more are smaller.  [default: the model's own]",
)
@options.device_option
@options.threads_option
@click.option("--strip", is_flag=True, help="Leave out ICC, EXIF and XMP metadata.")
@click.option("--first-frame", is_flag=True, help="Of pictures with several frames, encode the first.")
@click.option("--verify", is_flag=True, help="Decode what was written and compare before saying done.")
@click.option(
    "--block-pixels",
    type=click.IntRange(min=1),
    default=1 << 22,
    show_default=True,
    help="Pixels in a block, the unit of damage and of independent decoding.",
)
@options.tile_option
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
    overwrite: bool,
    as_json: bool,
) -> None:
    """Encode pictures into one .ddpm file that gives back exactly the same pixels.

    INPUT is a picture or a folder of pictures; names, modes, palettes and metadata are kept.
    """
    from ddpm_codec.codecs.api import encode_files

    options.limit_threads(threads)
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
