"""DDPMs after training: measure their variances per level (``calibrate``), write them as a folder (``export``)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.atomic import check_target, new_file, new_folder
from ddpm_codec.device import pick_device
from ddpm_codec.diffusion.measurement import Calibration, measure_errors
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.diffusion.transform import colour_frequency_8x8
from ddpm_codec.errors import InputError, ModelError, Untaken
from ddpm_codec.image_sets import open_images
from ddpm_codec.isolation import isolated
from ddpm_codec.models.checkpoints.calibration import CALIBRATION, calibration_bytes
from ddpm_codec.models.checkpoints.opening import read_folder, weights_id
from ddpm_codec.models.checkpoints.own import own_files
from ddpm_codec.models.checkpoints.published import Published, own_weights
from ddpm_codec.models.ddpm_model import DdpmModel
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.ddpm_settings import even_timesteps, process_of, unet_of
from ddpm_codec.training.screening import screened
from ddpm_codec.units import GREY_PER_UNIT

SUFFIXES_OF_FILES = {".safetensors", ".bin", ".json", ".pt"}

BLOCK = 8

GRID = 100
"""Levels that a calibration measures; between them ln mse is interpolated over log-SNR."""


def calibration_grid(schedule: NoiseSchedule) -> NDArray[np.float64]:
    """Return at most :data:`GRID` levels of the schedule, as even in log-SNR as its timesteps allow, both ends included."""
    return schedule.log_snr[even_timesteps(schedule, GRID)]


@isolated()
def calibrate_folder(
    folder: Path,
    data: str,
    *,
    limit: int = 256,
    batch: int = 64,
    seed: int = 0,
    device: str = "auto",
    skip_small: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Measure the variances of the DDPM in ``folder`` on images like its training images, and store them there.

    Args:
        folder: of the model; gets ``calibration.safetensors``.
        data: training images, DATA of any kind.
        limit: random crops of the model's size to measure on.
        batch: 32x32 crops (or as many pixels) at a time.
        seed: of crops and noise.
        device: ``auto``, ``cpu`` or ``cuda``.
        skip_small: leave images out that are smaller than the model's pictures or cannot be read.
        overwrite: replace a calibration that is there.
        progress: called with (network evaluations of an image done, all of them).
        note: called with lines about images that are left out, replaced because they are damaged, or changed into 8-bit RGB.

    Raises:
        InputError: data unusable, or smaller than the model's pictures.
        ModelError: the folder holds no usable DDPM.
        OutputExistsError: there is a calibration, and ``overwrite`` is not set.
        OutputError: it cannot be written.
    """
    if not os.path.exists(folder):
        raise ModelError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise ModelError(f"{folder}: not a DDPM folder; models in one file are calibrated by `export`")
    target = folder / CALIBRATION
    check_target(target, overwrite=overwrite)
    published = read_folder(folder)
    model = DdpmModel(published)
    screening = screened(open_images(data, first_frame=True), model.sample_size, skip_small=skip_small)
    for line in screening.notes():
        note(line)

    def replaced(refused: Untaken) -> None:
        note(f"{refused}; replaced by another image")

    sampler = CropSampler(screening.images, model.sample_size, flip=False, seed=seed, on_damage=replaced)
    place = pick_device(device)
    denoiser = model.bound_denoiser(place, model.bound_dtype(place))
    grid = calibration_grid(published.process.schedule)
    done = 0

    def advance(evaluations: int) -> None:
        nonlocal done
        done += evaluations
        if progress is not None:
            progress(done, limit * len(grid))

    size = max(1, batch * 1024 // model.tile**2)
    batches = _batches(sampler, limit, size, place)
    calibration = measure_errors(denoiser, batches, colour_frequency_8x8(), grid, seed, advance)
    with new_file(target, overwrite=overwrite) as temporary:
        temporary.write_bytes(calibration_bytes(calibration, weights_id(published), limit, Path(data).name))
    return calibration


def _batches(sampler: CropSampler, count: int, size: int, device: torch.device) -> Iterator[Tensor]:
    """Yield crops as model values; each is the same whatever the batch size."""
    for start in range(0, count, size):
        crops = [sampler.batch(index, 1, slice(None)) for index in range(start, min(start + size, count))]
        # Whole blocks, as the coder will see them.
        rest = -sampler.crop % BLOCK
        padded = np.pad(np.concatenate(crops), ((0, 0), (0, 0), (0, rest), (0, rest)), mode="edge")
        yield to_model_values(padded, device)


@isolated()
def export_ddpm(checkpoint: Path, output: Path, *, name: str) -> Published:
    """Write the averaged weights of a U-Net's run as a folder of our own, weights in float16.

    Args:
        checkpoint: file, or the output folder of a run.
        output: folder to make.
        name: of the model.

    Raises:
        InputError: the checkpoint is not of a U-Net, or ``output`` has a file extension.
        ModelError: it cannot be read.
        OutputExistsError: ``output`` is there.
        OutputError: it cannot be written.
    """
    if output.suffix in SUFFIXES_OF_FILES:
        raise InputError(f"{output}: a DDPM becomes a folder, {output.suffix} is a file extension")
    published = read_checkpoint(checkpoint, name)
    with new_folder(output) as temporary:
        for file, content in own_files(published).items():
            (temporary / file).write_bytes(content)
    return published


def read_checkpoint(checkpoint: Path, name: str) -> Published:
    """Return the averaged weights of a U-Net's run with its process.

    Raises:
        InputError: the checkpoint is not of a U-Net.
        ModelError: it cannot be read, or its weights do not fit.
    """
    saved = load_checkpoint(checkpoint)
    config = saved.config
    if not config.is_ddpm:
        raise InputError(f"{checkpoint}: is not a U-Net, only those become folders")
    unet = unet_of(config)
    weights = own_weights(saved.ema, unet, str(checkpoint))
    training = {"size": config.size, "objective": config.objective, **saved.facts()}
    return Published(name, unet, weights, process_of(config), config.crop, training)


def describe(folder: Path, calibration: Calibration, images: int) -> dict[str, str | int | float]:
    """Return facts about a calibration, ready for JSON."""
    rmse = GREY_PER_UNIT * np.sqrt(calibration.mse.mean(axis=1))
    return {
        "calibration": str(folder / CALIBRATION),
        "levels": len(calibration.log_snr),
        "images": images,
        "finest_rmse": float(rmse[0]),
        "coarsest_rmse": float(rmse[-1]),
    }
