"""The bound of a model on a data set: what ``ddpm-codec bpd`` reports.

Large pictures are cut into the tiles that the codec would code, padded to whole blocks of W as the codec pads them; all
bits, those of the padding too, are divided by the picture's own sub-pixels.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.engine import resolve_device
from ddpm_codec.codecs.fingerprint import preferred_dtype
from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.measurement import Calibration, VarianceKind
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import InputError
from ddpm_codec.nn.frozen import FrozenModel, load_model
from ddpm_codec.training.data import ImageSet, open_images
from ddpm_codec.units import GREY_PER_UNIT
from ddpm_codec.zoo import find_model

STRIDE = 8
Schedule = Literal["dp", "even"]


@dataclass(frozen=True)
class BoundReport:
    """The bound, term by term, over a data set.

    Attributes:
        prior_bpd: L_T, one value an image, [N].
        diffusion_bpd: L_k, cleanest step first, [N, K].
        reconstruction_bpd: L_0, [N].
        dims: sub-pixels of each image, [N].
        log_snr: the chain.
        facts: seconds, model, device and the like.
    """

    prior_bpd: NDArray[np.float64]
    diffusion_bpd: NDArray[np.float64]
    reconstruction_bpd: NDArray[np.float64]
    dims: NDArray[np.int64]
    log_snr: tuple[float, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def totals_bpd(self) -> NDArray[np.float64]:
        """The bound of each image, [N]."""
        steps: NDArray[np.float64] = self.diffusion_bpd.sum(axis=1)
        return self.prior_bpd + steps + self.reconstruction_bpd

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
            "levels": len(self.log_snr) - 1,
            "log_snr": list(self.log_snr),
            "images": count,
            "dims": int(self.dims.sum()),
        } | self.facts


def evaluate_bpd(
    data: str,
    *,
    model: str = "photo",
    levels: int | None = None,
    schedule: Schedule = "dp",
    variance: VarianceKind = "predicted",
    limit: int | None = None,
    batch: int = 64,
    tile: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> BoundReport:
    """Bound the bits per dimension of ``model`` on ``data``.

    Args:
        data: DATA of any kind (see :func:`ddpm_codec.training.data.open_images`); of a CIFAR-10 folder, its test batch.
        model: name or file.
        levels: K; None: the model's own.
        schedule: ``dp`` for the model's chosen chain, ``even`` for even steps in log-SNR over the same range (of an exact
            model, at the nearest levels that it has tables for).
        variance: of the steps: predicted, or calibrated per ``class`` or ``level``.
        limit: use the first so many images.
        batch: 32x32 images (or as many pixels) at a time.
        tile: side of the tiles that larger pictures are cut into; None: the model's own.
        seed: of the noise.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: called with (images done, images).

    Raises:
        InputError: data unusable.
        ModelError: model unknown or unusable, or without a chain of that length.
    """
    frozen = load_model(find_model(model))
    images = open_images(data, test=True)
    count = len(images) if limit is None else min(limit, len(images))
    target = resolve_device(device)
    chain = _chain(frozen, levels, schedule)
    side = frozen.tile if tile is None else tile
    if side < STRIDE or side % STRIDE:
        raise InputError(f"tile = {side}: must be a multiple of {STRIDE}")
    dtype = "exact" if frozen.exact is not None else preferred_dtype(target)
    denoiser = frozen.bound_denoiser(target, dtype)
    evaluator = _Evaluator(frozen, denoiser, chain, target, variance, seed, batch * 1024)
    started = time.perf_counter()
    table, dims = evaluator.run(images, count, side, progress)
    seconds = time.perf_counter() - started
    facts = {
        "schedule": schedule,
        "variance": variance,
        "seconds": seconds,
        "images_per_second": count / seconds,
        "model": frozen.name,
        "device": target.type,
        "dtype": dtype,
    }
    return BoundReport(table[:, 0], table[:, 1:-1], table[:, -1], dims, chain.log_snr, facts)


def _chain(frozen: FrozenModel, levels: int | None, schedule: Schedule) -> Chain:
    if schedule == "even":
        return frozen.even_chain(levels)
    return Chain(tuple((-2.0 * np.log(np.array(frozen.chain_sigmas(levels)))).tolist()))


class _Evaluator:
    """Collects tiles of equal shape into batches and adds their terms up by image."""

    def __init__(
        self,
        frozen: FrozenModel,
        denoiser: Denoiser,
        chain: Chain,
        device: torch.device,
        variance: VarianceKind,
        seed: int,
        batch_pixels: int,
    ) -> None:
        self._denoiser = denoiser
        self._transform = by_name(frozen.transform)
        self._prior = PriorModel(frozen.prior_mean, frozen.prior_variance)
        self._calibration = Calibration(frozen.grid_log_snr, frozen.class_mse)
        self._chain, self._variance, self._seed = chain, variance, seed
        self._device = device
        self._batch_pixels = batch_pixels
        self._waiting: dict[tuple[int, int], list[tuple[int, NDArray[np.uint8]]]] = {}
        # Tiles of each shape so far: the noise of a tile depends on its shape and its place among them alone.
        self._done: dict[tuple[int, int], int] = {}

    def run(
        self, images: ImageSet, count: int, tile: int, progress: Callable[[int, int], None] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return ([prior, steps, reconstruction] in bits/dim, [count, K + 2]; sub-pixels, [count])."""
        bits = np.zeros((count, self._chain.steps + 2))
        dims = np.zeros(count, dtype=np.int64)
        for index in range(count):
            image = images[index]
            dims[index] = image.size
            for rect in Rect(0, 0, *image.shape[:2]).cut(tile, tile):
                piece = _pad(image[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width])
                shape = piece.shape[:2]
                self._waiting.setdefault(shape, []).append((index, piece))
                if len(self._waiting[shape]) * piece.shape[0] * piece.shape[1] >= self._batch_pixels:
                    self._flush(shape, bits)
            if progress is not None:
                progress(index + 1, count)
        for shape in list(self._waiting):
            self._flush(shape, bits)
        return bits / dims[:, None], dims

    def _flush(self, shape: tuple[int, int], bits: NDArray[np.float64]) -> None:
        waiting = self._waiting.pop(shape)
        done = self._done.get(shape, 0)
        self._done[shape] = done + len(waiting)
        pixels = np.stack([piece.transpose(2, 0, 1) for _, piece in waiting])
        x_0 = torch.from_numpy(pixels).to(self._device).float() / GREY_PER_UNIT - 1.0
        terms = evaluate_bound(
            self._denoiser,
            [x_0],
            self._transform,
            self._chain,
            self._prior,
            variance=self._variance,
            calibration=self._calibration,
            seed=self._seed,
            first=(shape[0] << 44) + (shape[1] << 28) + done,
        )
        columns = [terms.prior_bpd[:, None], terms.diffusion_bpd, terms.reconstruction_bpd[:, None]]
        np.add.at(bits, [index for index, _ in waiting], np.hstack(columns) * terms.dims[:, None])


def _pad(piece: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replicate the last row and column up to whole blocks."""
    down, right = -piece.shape[0] % STRIDE, -piece.shape[1] % STRIDE
    return np.pad(piece, ((0, down), (0, right), (0, 0)), mode="edge") if down or right else piece
