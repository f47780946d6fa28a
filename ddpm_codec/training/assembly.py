"""Makes a frozen model from the checkpoints of a denoiser and, if there is one, a pixel decoder."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ddpm_codec.coding.tables import tables_hash
from ddpm_codec.device import pick_device
from ddpm_codec.diffusion.chain import select_chain
from ddpm_codec.diffusion.crossing import crossing_index, log_snr_at, measure_decoder
from ddpm_codec.diffusion.measurement import LevelMeasurement, measure_levels
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import Untaken
from ddpm_codec.image_sets import concatenate
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.nn.codec_net import SIZES
from ddpm_codec.nn.denoiser import CodecDenoiser, MixedPrecision
from ddpm_codec.nn.exact.bound import ExactBoundDenoiser
from ddpm_codec.nn.exact.decoder_bound import ExactPixelLikelihood
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.exact.executor import make_executor
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.training.calibration import calibrate_on
from ddpm_codec.training.chain_choice import (
    INDEX_OVERHEAD,
    LONGEST_ABOVE,
    MOST_DEFAULT_STEPS,
    PROGRESSIVE_LEEWAY,
    best_chain,
    chains_above,
)
from ddpm_codec.training.checkpoint import Checkpoint, build_denoiser, load_weights
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler, Split, screened_data, split_holdout
from ddpm_codec.training.export_options import LONGEST_CHAIN, ExportOptions
from ddpm_codec.training.freezing import GRID, REACH_PIXELS, candidate_levels, freeze_on, frozen_decoder
from ddpm_codec.training.screening import Screened, screened

PRIOR_CROPS = 2048
CPU = torch.device("cpu")


class Assembly:
    """Makes a frozen model from checkpoints and training crops.

    Args:
        saved: checkpoint of the denoiser.
        decoder: that of the pixel decoder, or None.
        options: how.
        note: called with lines about images.

    Raises:
        InputError: data or options unusable.
    """

    def __init__(
        self,
        saved: Checkpoint,
        decoder: Checkpoint | None,
        options: ExportOptions,
        note: Callable[[str], None],
    ) -> None:
        config = saved.config
        if not config.data:
            config = replace(config, data=tuple(options.data), data_weights=(), validation="", holdout=0)
        config = replace(config, skip_small=config.skip_small or options.skip_small)
        self._saved, self._saved_decoder, self._config, self._options = saved, decoder, config, options
        self._transform, self._device = by_name(config.transform), pick_device(options.device)
        self._crossings = () if decoder is None else tuple(sorted(decoder.config.crossings))
        self._default, self._progressive = (
            None if wanted is None else crossing_index(self._crossings, wanted, str(options.decoder))
            for wanted in (options.crossing, options.progressive_crossing)
        )
        lowest = log_snr_at(self._crossings[0]) if self._crossings else math.inf
        self._grid = candidate_levels(config, lowest)
        split = split_holdout(config)
        found = _calibration_set(split, options.data, replace(config, crop=options.crop or config.crop))
        for line in dict.fromkeys([*split.notes(), *(line for screening in found for line in screening.notes())]):
            note(line)

        def replaced(refused: Untaken) -> None:
            note(f"{refused}; replaced by another image")

        self._crops = CropSampler(
            split.train, config.crop, flip=False, seed=config.seed, weights=split.weights, on_damage=replaced
        )
        self._checks = CropSampler(
            concatenate([screening.images for screening in found]),
            options.crop or config.crop,
            flip=False,
            seed=config.seed,
            on_damage=replaced,
        )

    def model(self, progress: Callable[[int, int], None] | None) -> FrozenModel:
        """Return the model.

        Args:
            progress: called with (network evaluations done, all of them).

        Raises:
            InputError: training images unusable.
            ModelError: weights that do not fit, or not into integers.
        """
        config, options = self._config, self._options
        decoder = None if self._saved_decoder is None else self._freeze_decoder(self._saved_decoder)
        prior = PriorModel.fit(_prior_batches(self._crops), self._transform)
        denoiser = build_denoiser(config)
        load_weights(denoiser, self._saved.ema, "checkpoint")
        denoiser.place(self._device).eval().requires_grad_(False)
        parameters = self._freeze(denoiser) if options.exact else None
        source: Denoiser = MixedPrecision(denoiser, config.dtype)
        if parameters is not None:
            executor = make_executor(parameters, self._device)
            source = ExactBoundDenoiser(executor, tuple(range(GRID)), tuple(self._grid.tolist()))
        measured = self._measure(source, prior, progress)
        model = FrozenModel(
            name=options.name,
            description=options.description or f"{config.size} network, {self._saved.step} steps",
            config=SIZES[config.size],
            transform=config.transform,
            weights={} if options.exact else dict(self._saved.ema),
            sigmas={},
            default_steps=config.steps if options.steps is None else options.steps,
            tile=options.tile,
            prior_mean=prior.mean,
            prior_variance=prior.variance,
            grid_log_snr=measured.log_snr,
            class_mse=measured.mse,
            training={**self._saved.facts(), "crop": config.crop, "quantize": config.quantize},
            exact=parameters,
            tables=tables_hash() if options.exact else "",
        )
        if self._saved_decoder is None or decoder is None:
            return self._with_chains(model, measured)
        return self._with_decoder(model, decoder, self._saved_decoder, measured)

    def _with_chains(self, model: FrozenModel, measured: LevelMeasurement) -> FrozenModel:
        """Add chains whose level 0 the denoiser decodes itself."""
        table = measured.table("predicted")
        chains = {(0, k): select_chain(table, k).log_snr for k in range(1, LONGEST_CHAIN + 1)}
        rows = {
            key: tuple(int(np.flatnonzero(self._grid == level)[0]) for level in chain) for key, chain in chains.items()
        }
        return replace(
            model,
            sigmas={key: _sigmas(chain) for key, chain in chains.items()},
            rows=rows if self._options.exact else {},
        )

    def _with_decoder(
        self, model: FrozenModel, decoder: ExactPixelDecoder, saved: Checkpoint, measured: LevelMeasurement
    ) -> FrozenModel:
        """Add the pixel decoder, chains above its crossings, and which of them files use."""
        options, crossings = self._options, self._crossings
        levels = tuple(log_snr_at(grey_levels) for grey_levels in crossings)
        likelihood = ExactPixelLikelihood(PixelDecoderExecutor(decoder, self._device), levels)
        nats = [measure_decoder(likelihood, self._check_batches(), level, self._config.seed) for level in levels]
        chains = chains_above(measured, crossings, tuple(nats))
        plain, progressive = chains.costs(), chains.costs(INDEX_OVERHEAD)
        default = best_chain(plain, self._default, options.steps, MOST_DEFAULT_STEPS)
        by_indices = best_chain(
            progressive, self._progressive, options.progressive_steps, LONGEST_ABOVE, PROGRESSIVE_LEEWAY
        )
        chosen = {
            "crossings": list(crossings),
            "decoder_bpd": list(chains.decoder_bpd),
            "bound_bpd": plain[default],
            "progressive_bpd": progressive[by_indices],
            "images": measured.images,
        }
        facts = {**saved.facts(), "crop": saved.config.crop, "quantize": saved.config.quantize}
        return replace(
            model,
            sigmas=chains.sigmas,
            rows=chains.rows,
            decoder=decoder,
            crossings=crossings,
            default_crossing=default[0],
            default_steps=default[1],
            progressive_crossing=by_indices[0],
            progressive_steps=by_indices[1],
            training=model.training | {"decoder": facts, "measured": chosen},
        )

    def _freeze_decoder(self, saved: Checkpoint) -> ExactPixelDecoder:
        """Return the exact pixel decoder, calibrated on training crops."""
        name = str(self._options.decoder)
        return frozen_decoder(saved, name, self._crossings, self._crops, self._device, REACH_PIXELS)

    def _freeze(self, denoiser: CodecDenoiser) -> ExactParameters:
        """Return the exact denoiser, calibrated on training crops."""
        if not denoiser.net.calibrated:
            calibrate_on(denoiser, self._crops, self._transform, self._config, self._device)
        return freeze_on(denoiser, self._crops, self._config, self._device, REACH_PIXELS, self._grid)

    def _check_batches(self) -> Iterator[Tensor]:
        """Yield the crops to calibrate on."""
        count, size = self._options.limit, max(1, 65536 // self._checks.crop**2)
        for start in range(0, count, size):
            pixels = self._checks.batch(start, min(size, count - start), slice(None))
            yield to_model_values(pixels, CPU).to(self._device)

    def _measure(
        self, denoiser: Denoiser, prior: PriorModel, progress: Callable[[int, int], None] | None
    ) -> LevelMeasurement:
        done = 0

        def advance(evaluations: int) -> None:
            nonlocal done
            done += evaluations
            if progress is not None:
                progress(done, self._options.limit * GRID)

        return measure_levels(
            denoiser,
            self._check_batches(),
            self._transform,
            self._grid,
            prior,
            seed=self._config.seed,
            max_gap=float(self._grid[0] - self._grid[-1]),
            crossings=[log_snr_at(grey_levels) for grey_levels in self._crossings],
            progress=advance,
        )


def _calibration_set(split: Split, data: Sequence[str], config: TrainConfig) -> list[Screened]:
    """Return the images to calibrate on, by set: those of ``data``, else what the run validates on, else its own."""
    if data:
        return [screened_data(each, config) for each in data]
    images = split.validation if len(split.validation) else split.train
    return [screened(images, config.crop, skip_small=config.skip_small)]


def _prior_batches(sampler: CropSampler) -> Iterator[Tensor]:
    """Yield random training crops, enough for means and variances of coefficients."""
    for start in range(0, PRIOR_CROPS, 256):
        yield to_model_values(sampler.batch(start, 256, slice(None)), CPU)


def _sigmas(log_snr: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.exp(-0.5 * np.array(log_snr)))
