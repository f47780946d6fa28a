"""The bound of a model on a data set: what ``ddpm-codec bpd`` reports.

Large pictures are cut into the tiles that the codec would code, padded to whole blocks of W as the codec pads them; all
bits, those of the padding too, are divided by the picture's own sub-pixels.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.datasets import ImageSet, open_images
from ddpm_codec.device import pick_device
from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.measurement import VarianceKind
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.errors import InputError
from ddpm_codec.models import find_model
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.pixel_decoder_model import load_pixel_decoder
from ddpm_codec.models.protocol import BoundSetting, Schedule
from ddpm_codec.nn.pixel_decoder import SIDES

STRIDE = 8
"""Sides of tiles are multiples of this."""


@dataclass(frozen=True)
class BoundReport:
    """The bound, term by term, over a data set.

    Attributes:
        prior_bpd: L_T, one value an image, [N].
        diffusion_bpd: L_k, cleanest step first, [N, K].
        reconstruction_bpd: L_0, [N].
        dims: sub-pixels of each image, [N].
        mean_rmse: root mean squared error of the mean of x_0 at the cleanest level, in grey levels, [N].
        log_snr: the chain.
        facts: seconds, model, device and the like.
    """

    prior_bpd: NDArray[np.float64]
    diffusion_bpd: NDArray[np.float64]
    reconstruction_bpd: NDArray[np.float64]
    dims: NDArray[np.int64]
    mean_rmse: NDArray[np.float64]
    log_snr: tuple[float, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def totals_bpd(self) -> NDArray[np.float64]:
        """The bound of each image, [N]."""
        steps: NDArray[np.float64] = self.diffusion_bpd.sum(axis=1)
        return self.prior_bpd + steps + self.reconstruction_bpd

    def step_rows(self, most: int = 50) -> list[tuple[str, float]]:
        """Return mean bits/dim of each step, cleanest first; of more than ``most`` steps, sums over as many runs of them."""
        means = self.diffusion_bpd.mean(axis=0)
        edges = np.unique(np.rint(np.linspace(0, len(means), min(most, len(means)) + 1)).astype(int)).tolist()
        return [
            (str(first + 1) if last == first + 1 else f"{first + 1}-{last}", float(means[first:last].sum()))
            for first, last in pairwise(edges)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return means over images, each image counting the same, with the standard error of the total."""
        totals = self.totals_bpd
        count = len(totals)
        return {
            "total_bpd": float(totals.mean()),
            "stderr_bpd": float(totals.std(ddof=1)) / math.sqrt(count) if count > 1 else None,
            "pooled_bpd": float(np.average(totals, weights=self.dims)),
            "prior_bpd": float(self.prior_bpd.mean()),
            "diffusion_bpd": self.diffusion_bpd.mean(axis=0).tolist(),
            "reconstruction_bpd": float(self.reconstruction_bpd.mean()),
            "mean_rmse": float(np.sqrt(np.average(self.mean_rmse**2, weights=self.dims))),
            "levels": len(self.log_snr) - 1,
            "log_snr": list(self.log_snr),
            "images": count,
            "dims": int(self.dims.sum()),
        } | self.facts


def evaluate_bpd(
    data: str,
    *,
    model: str = "photo",
    decoder: str | None = None,
    crossing: float | None = None,
    levels: int | None = None,
    schedule: Schedule | None = None,
    variance: VarianceKind | None = None,
    limit: int | None = None,
    batch: int = 64,
    tile: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> BoundReport:
    """Bound the bits per dimension of ``model`` on ``data``.

    Args:
        data: DATA of any kind (see :func:`ddpm_codec.datasets.open_images`); of a CIFAR-10 folder, its test batch.
        model: name or file.
        decoder: file of a pixel decoder, which takes the place of the model's own L_0; the chain then ends at its crossing.
        crossing: which of the decoder's, in grey levels of noise; None: the lowest.
        levels: K; of a DDPM so many of its timesteps. None: the model's own; of a DDPM all.
        schedule: ``dp`` for the chain of the lowest bound, ``even`` for even steps in log-SNR over the same range (of an
            exact model, at the nearest levels that it has tables for), of a DDPM in its timesteps. None: ``dp``, or of a
            DDPM without calibration ``even``.
        variance: of the steps: the model's own (``predicted``), calibrated per ``class`` or ``level``, or fixed. None: the
            model's own; of a calibrated DDPM with few of its levels ``class``, as in coding.
        limit: use the first so many images.
        batch: 32x32 images (or as many pixels) at a time.
        tile: side of the tiles that larger pictures are cut into; None: the model's own.
        seed: of the noise.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: called with (network evaluations of an image done, all of them).

    Raises:
        InputError: data unusable, or a crossing that the decoder does not have.
        ModelError: model or decoder unknown or unusable, or without a chain of that length.
    """
    opened = open_model(find_model(model))
    images = open_images(data, test=True)
    count = len(images) if limit is None else min(limit, len(images))
    target = pick_device(device)
    if crossing is not None and decoder is None:
        raise InputError(f"crossing {crossing:g}: belongs to a pixel decoder; name its file with --decoder")
    frozen = None if decoder is None else load_pixel_decoder(Path(decoder))
    grey_levels = None if frozen is None else frozen.crossing(crossing)
    setting = opened.bound_setting(
        opened.steps_of(levels), schedule, variance, None if grey_levels is None else log_snr_at(grey_levels)
    )
    side = opened.tile if tile is None else tile
    if side < STRIDE or side % STRIDE:
        raise InputError(f"tile = {side}: must be a multiple of {STRIDE}")
    dtype = opened.bound_dtype(target)
    # In float32: bfloat16 costs flat pictures some per cent.
    likelihood = None if frozen is None else frozen.likelihood(target, "float32")
    denoiser = opened.bound_denoiser(target, dtype)
    evaluator = _Evaluator(denoiser, likelihood, setting, target, seed, batch * 1024, progress)
    started = time.perf_counter()
    table, dims = evaluator.run(images, count, side)
    seconds = time.perf_counter() - started
    facts = {
        "levels": opened.levels_of(setting.chain.steps),
        "evaluations": setting.chain.steps + (frozen is None),
        "schedule": setting.schedule,
        "variance": setting.variance,
        "seconds": seconds,
        "images_per_second": count / seconds,
        "model": opened.name,
        "device": target.type,
        "dtype": dtype,
    }
    if frozen is not None and grey_levels is not None:
        facts |= {"decoder": frozen.name, "decoder_dtype": "float32", "crossing": grey_levels}
    bpd, rmse = table[:, :-1], table[:, -1]
    return BoundReport(bpd[:, 0], bpd[:, 1:-1], bpd[:, -1], dims, rmse, setting.chain.log_snr, facts)


class _Piece(NamedTuple):
    """A padded tile, the number of its image, and its share of that image's work."""

    image: int
    pixels: NDArray[np.uint8]
    share: float


class _Evaluator:
    """Collects tiles of equal shape into batches and adds their terms up by image."""

    def __init__(
        self,
        denoiser: Denoiser,
        decoder: PixelLikelihood | None,
        setting: BoundSetting,
        device: torch.device,
        seed: int,
        batch_pixels: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._denoiser, self._decoder, self._setting, self._seed = denoiser, decoder, setting, seed
        self._progress, self._evaluations, self._total = progress, 0.0, 0
        self._device = device
        self._batch_pixels = batch_pixels
        self._waiting: dict[tuple[int, int], list[_Piece]] = {}
        # Tiles of each shape so far: the noise of a tile depends on its shape and its place among them alone.
        self._done: dict[tuple[int, int], int] = {}

    def run(self, images: ImageSet, count: int, tile: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return ([prior, steps, reconstruction in bits/dim, RMSE in grey levels], [count, K + 3]; sub-pixels, [count])."""
        self._total = count * len(self._setting.chain.log_snr)
        # Sums over the tiles of an image: bits of each term, squares of the error.
        sums = np.zeros((count, self._setting.chain.steps + 3))
        padded = np.zeros(count, dtype=np.int64)
        block = math.lcm(self._setting.transform.block, 1 if self._decoder is None else SIDES)
        dims = np.zeros(count, dtype=np.int64)
        for index in range(count):
            image = images[index]
            dims[index] = image.size
            rects = Rect(0, 0, *image.shape[:2]).cut(tile, tile)
            for rect in rects:
                cut = image[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
                piece = _pad(cut, block)
                padded[index] += piece.size
                shape = piece.shape[:2]
                self._waiting.setdefault(shape, []).append(_Piece(index, piece, 1.0 / len(rects)))
                if len(self._waiting[shape]) * piece.shape[0] * piece.shape[1] >= self._batch_pixels:
                    self._flush(shape, sums)
        for shape in list(self._waiting):
            self._flush(shape, sums)
        # Bits of the padding have to be paid; its errors are nobody's, and are averaged over what they were measured on.
        return np.column_stack([sums[:, :-1] / dims[:, None], np.sqrt(sums[:, -1] / padded)]), dims

    def _flush(self, shape: tuple[int, int], sums: NDArray[np.float64]) -> None:
        waiting = self._waiting.pop(shape)
        done = self._done.get(shape, 0)
        self._done[shape] = done + len(waiting)
        pixels = np.stack([piece.pixels.transpose(2, 0, 1) for piece in waiting])
        share = sum(piece.share for piece in waiting) / len(waiting)
        x_0 = to_model_values(pixels, self._device)
        terms = evaluate_bound(
            self._denoiser,
            [x_0],
            self._setting.transform,
            self._setting.chain,
            self._setting.prior,
            variance=self._setting.variances,
            decoder=self._decoder,
            seed=self._seed,
            first=(shape[0] << 44) + (shape[1] << 28) + done,
            progress=lambda evaluated: self._advance(evaluated * share),
        )
        columns = [terms.prior_bpd, *terms.diffusion_bpd.T, terms.reconstruction_bpd, terms.mean_rmse**2]
        np.add.at(sums, [piece.image for piece in waiting], np.stack(columns, axis=1) * terms.dims[:, None])

    def _advance(self, evaluations: float) -> None:
        """Say how far it is, in network evaluations of whole images."""
        self._evaluations += evaluations
        if self._progress is not None:
            self._progress(round(self._evaluations), self._total)


def _pad(piece: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Replicate the last row and column up to whole blocks."""
    down, right = -piece.shape[0] % block, -piece.shape[1] % block
    return np.pad(piece, ((0, down), (0, right), (0, 0)), mode="edge") if down or right else piece
