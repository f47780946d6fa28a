"""``ddpm-codec calibrate``: the variances of a trained DDPM, measured on training data and stored beside its weights."""

from pathlib import Path

import click

from ddpm_codec_cli import options
from ddpm_codec_cli.output import print_note, print_report, progress_bar

LABELS = {
    "calibration": "calibration",
    "levels": "levels",
    "images": "crops",
    "finest_rmse": "RMSE of x0_mean at the cleanest level (grey levels)",
    "coarsest_rmse": "  at the noisiest",
}


@click.command(epilog=options.DATA_HELP)
@options.file_argument("folder", "FOLDER")
@options.data_argument
@options.whole_number("--limit", "Number of random crops to measure on.", default=256)
@options.skip_small_option
@options.batch_option
@options.seed_option
@options.device_option
@options.threads_option
@options.overwrite_option
@options.json_option
def calibrate(
    folder: Path,
    data: str,
    limit: int,
    skip_small: bool,
    batch: int,
    seed: int,
    device: str,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure the variances of the DDPM in FOLDER on DATA, and store them in FOLDER.

    FOLDER is a diffusers folder, one that `export` wrote, or flags.json beside a state dict of improved- or
    guided-diffusion. DATA should be like the training images of the model, and must not contain the images that it will be
    evaluated on. A CIFAR-10 folder gives its training batches.
    """
    from ddpm_codec.training.ddpm_calibration import calibrate_folder, describe

    options.limit_threads(threads)
    with progress_bar("evaluation") as progress:
        calibration = calibrate_folder(
            folder,
            data,
            limit=limit,
            batch=batch,
            seed=seed,
            device=device,
            skip_small=skip_small,
            overwrite=overwrite,
            progress=progress,
            note=print_note,
        )
    print_report(describe(folder, calibration, limit), LABELS, as_json=as_json)
