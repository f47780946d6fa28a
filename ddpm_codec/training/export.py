"""Export of checkpoints: chains by dynamic programming, calibration and prior, frozen into one model file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_codec.atomic import check_target, new_file
from ddpm_codec.coding.tables import tables_hash
from ddpm_codec.datasets import concatenate
from ddpm_codec.device import pick_device
from ddpm_codec.diffusion.chain import select_chain
from ddpm_codec.diffusion.measurement import LevelMeasurement, measure_levels
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import InputError, ModelError, Untaken
from ddpm_codec.isolation import isolated
from ddpm_codec.models.frozen import FrozenModel, model_bytes
from ddpm_codec.models.pixel_decoder_model import PixelDecoderModel, pixel_decoder_bytes
from ddpm_codec.nn.codec_net import SIZES
from ddpm_codec.nn.denoiser import CodecDenoiser, MixedPrecision
from ddpm_codec.nn.exact.bound import ExactBoundDenoiser
from ddpm_codec.nn.exact.executor import make_executor
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.nn.pixel_decoder import decoder_config
from ddpm_codec.training.calibration import calibrate_on
from ddpm_codec.training.checkpoint import (
    Checkpoint,
    build_denoiser,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from ddpm_codec.training.config import Kind, TrainConfig
from ddpm_codec.training.crops import CropSampler, Split, screened_data, split_holdout
from ddpm_codec.training.freezing import GRID, REACH_PIXELS, candidate_levels, freeze_on
from ddpm_codec.training.pixel_decoder_task import PixelDecoderTask
from ddpm_codec.training.screening import Screened, screened

LONGEST_CHAIN = 32
"""Largest K of a model; it has a chain of every length up to this."""

PRIOR_CROPS = 2048
CPU = torch.device("cpu")


@isolated()
def export_model(
    checkpoint: Path,
    output: Path,
    *,
    name: str,
    description: str = "",
    data: Sequence[str] = (),
    steps: int | None = None,
    limit: int = 256,
    crop: int | None = None,
    tile: int = 256,
    exact: bool = True,
    skip_small: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> FrozenModel:
    """Freeze the averaged weights of ``checkpoint`` into the model file ``output``.

    An exact model consists of integers. The quantiser steps of a run with ``quantize`` are kept; for other runs they are
    calibrated here on training crops. Chains are chosen on the validation images of the run (or ``data``), the prior is
    fitted to its training images.

    Args:
        checkpoint: file, or the output folder of a run.
        output: model file to write.
        name: of the model.
        description: one line for ``ddpm-codec models``.
        data: calibration images; empty: the validation images of the run, else its training images. They also replace the
            training images of a reduced checkpoint (:func:`export_checkpoint`), which does not name them.
        steps: K of the default chain, at most 32; None: that of the training objective.
        limit: number of random crops to calibrate on.
        crop: side of those crops; None: that of training.
        tile: default side of tiles.
        exact: integers, the same on every device; else floating point, for research.
        skip_small: leave images out that are smaller than the crops or cannot be read, as a run with ``skip_small`` does.
        device: to calibrate on.
        overwrite: replace ``output``.
        progress: called with (network evaluations done, all of them).
        note: called with lines about images that are left out, replaced because they are damaged, or changed into 8-bit RGB.

    Raises:
        InputError: data or options unusable.
        ModelError: the checkpoint cannot be read, or does not fit into integers.
        OutputError: ``output`` cannot be written.
        OutputExistsError: it exists and ``overwrite`` is not set.
    """
    check_target(output, overwrite=overwrite)
    saved = load_checkpoint(checkpoint)
    config = saved.config
    if config.quantize and not exact:
        raise InputError(f"{checkpoint}: was trained with rounding, so it works in integers only")
    steps = config.steps if steps is None else steps
    if not 1 <= steps <= LONGEST_CHAIN:
        raise InputError(f"steps = {steps}: must be between 1 and {LONGEST_CHAIN}")
    transform = by_name(config.transform)
    if not config.data:
        if not data:
            raise InputError(
                f"{checkpoint}: does not name its training images; name images to calibrate on with --data"
            )
        config = replace(config, data=tuple(data), data_weights=(), validation="", holdout=0)
    config = replace(config, skip_small=config.skip_small or skip_small)
    split = split_holdout(config)
    calibration = _calibration_set(split, data, replace(config, crop=crop or config.crop))
    lines = dict.fromkeys([*split.notes(), *(line for screening in calibration for line in screening.notes())])
    for line in lines:
        note(line)

    def replaced(refused: Untaken) -> None:
        note(f"{refused}; replaced by another image")

    crops = _training_crops(split, config, replaced)
    prior = PriorModel.fit(_prior_batches(crops), transform)
    target = pick_device(device)
    denoiser = build_denoiser(config)
    load_weights(denoiser, saved.ema, "checkpoint")
    denoiser.place(target).eval().requires_grad_(False)
    grid = candidate_levels(config)
    parameters = _freeze(denoiser, crops, config, target) if exact else None
    source: Denoiser = MixedPrecision(denoiser, config.dtype)
    if parameters is not None:
        source = ExactBoundDenoiser(make_executor(parameters, target), tuple(range(GRID)), tuple(grid.tolist()))
    sampler = CropSampler(
        concatenate([screening.images for screening in calibration]),
        crop or config.crop,
        flip=False,
        seed=config.seed,
        on_damage=replaced,
    )
    measured = _measure(source, sampler, limit, config, grid, prior, target, progress)
    table = measured.table("predicted")
    chains = {k: select_chain(table, k).log_snr for k in range(1, LONGEST_CHAIN + 1)}
    model = FrozenModel(
        name=name,
        description=description or f"{config.size} network, {saved.step} steps",
        config=SIZES[config.size],
        transform=config.transform,
        weights={} if exact else dict(saved.ema),
        sigmas={k: _sigmas(chain) for k, chain in chains.items()},
        default_steps=steps,
        tile=tile,
        prior_mean=prior.mean,
        prior_variance=prior.variance,
        grid_log_snr=measured.log_snr,
        class_mse=measured.mse,
        training={**saved.facts(), "crop": config.crop, "quantize": config.quantize},
        exact=parameters,
        rows={k: tuple(int(np.flatnonzero(grid == level)[0]) for level in chain) for k, chain in chains.items()}
        if exact
        else {},
        tables=tables_hash() if exact else "",
    )
    with new_file(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(model_bytes(model))
    return model


@isolated()
def export_checkpoint(checkpoint: Path, output: Path, *, overwrite: bool = False) -> None:
    """Reduce ``checkpoint`` to its averaged weights in float16, for ``init_from`` of another run.

    Paths of data and output are left out: they mean nothing on another machine.

    Raises:
        ModelError: the checkpoint cannot be read.
        OutputError: ``output`` cannot be written.
        OutputExistsError: it exists and ``overwrite`` is not set.
    """
    check_target(output, overwrite=overwrite)
    saved = load_checkpoint(checkpoint)
    config = replace(saved.config, data=(), data_weights=(), validation="", output="", init_from="", fork_from="")
    ema = {key: value.half() if value.ndim > 1 else value for key, value in saved.ema.items()}
    save_checkpoint(Checkpoint(config, saved.step, None, ema, None, saved.seconds), output)


def kind_of(checkpoint: Path) -> Kind:
    """Return the kind of network in a checkpoint: each is exported in its own way.

    Raises:
        ModelError: it cannot be read.
    """
    return load_checkpoint(checkpoint).config.kind


@isolated()
def export_pixel_decoder(
    checkpoint: Path, output: Path, *, name: str, description: str = "", overwrite: bool = False
) -> PixelDecoderModel:
    """Write the averaged weights of a pixel decoder, in floating point, to the file ``output``.

    Args:
        checkpoint: file, or the output folder of a run.
        output: file to write.
        name: of the decoder.
        description: one line.
        overwrite: replace ``output``.

    Raises:
        InputError: the run was trained with rounding.
        ModelError: the checkpoint cannot be read, or its weights do not fit.
        OutputError: ``output`` cannot be written.
        OutputExistsError: it exists and ``overwrite`` is not set.
    """
    check_target(output, overwrite=overwrite)
    saved = load_checkpoint(checkpoint)
    config = saved.config
    if config.kind != "pixel decoder":
        raise ModelError(f"{checkpoint}: is a {config.kind}, not a pixel decoder")
    if config.quantize:
        raise InputError(f"{checkpoint}: was trained with rounding, so it works in integers only")
    network = PixelDecoderTask(config).build(CPU)
    load_weights(network, saved.ema, str(checkpoint))
    decoder = PixelDecoderModel(
        name=name,
        description=description or f"{config.size}, {saved.step} steps",
        config=decoder_config(config.size, config.tail),
        crossings=tuple(sorted(config.crossings)),
        weights=network.state_dict(),
        training={**saved.facts(), "crop": config.crop},
    )
    with new_file(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(pixel_decoder_bytes(decoder))
    return decoder


def _calibration_set(split: Split, data: Sequence[str], config: TrainConfig) -> list[Screened]:
    """Return the images to calibrate on, by set: those of ``data``, else what the run validates on, else its own."""
    if data:
        return [screened_data(each, config) for each in data]
    images = split.validation if len(split.validation) else split.train
    return [screened(images, config.crop, skip_small=config.skip_small)]


def _training_crops(split: Split, config: TrainConfig, on_damage: Callable[[Untaken], None]) -> CropSampler:
    return CropSampler(
        split.train, config.crop, flip=False, seed=config.seed, weights=split.weights, on_damage=on_damage
    )


def _prior_batches(sampler: CropSampler) -> Iterator[Tensor]:
    """Yield random training crops, enough for means and variances of coefficients."""
    for start in range(0, PRIOR_CROPS, 256):
        yield to_model_values(sampler.batch(start, 256, slice(None)), CPU)


def _freeze(
    denoiser: CodecDenoiser, sampler: CropSampler, config: TrainConfig, device: torch.device
) -> ExactParameters:
    """Return the exact network, calibrated on training crops."""
    if not denoiser.net.calibrated:
        calibrate_on(denoiser, sampler, by_name(config.transform), config, device)
    return freeze_on(denoiser, sampler, config, device, REACH_PIXELS)


def _measure(
    denoiser: Denoiser,
    sampler: CropSampler,
    count: int,
    config: TrainConfig,
    grid: np.ndarray[tuple[int], np.dtype[np.float64]],
    prior: PriorModel,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> LevelMeasurement:
    done = 0

    def advance(evaluations: int) -> None:
        nonlocal done
        done += evaluations
        if progress is not None:
            progress(done, count * GRID)

    size = max(1, 65536 // sampler.crop**2)
    return measure_levels(
        denoiser,
        (batch.to(device) for batch in _batches(sampler, count, size)),
        by_name(config.transform),
        grid,
        prior,
        seed=config.seed,
        max_gap=float(grid[0] - grid[-1]),
        progress=advance,
    )


def _batches(sampler: CropSampler, count: int, size: int) -> Iterator[Tensor]:
    for start in range(0, count, size):
        yield to_model_values(sampler.batch(start, min(size, count - start), slice(None)), CPU)


def _sigmas(log_snr: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.exp(-0.5 * np.array(log_snr)))
