"""The bound of a model on images: what ``ddpm-codec bpd`` reports.

Images larger than a tile are cut into the tiles that the codec would code, and each tile is padded to whole blocks of W as
the codec pads it. All bits, including those of the padding, are divided by the sub-pixels of the image itself.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.device import pick_device
from ddpm_codec.diffusion.bound import BoundTerms, evaluate_bound
from ddpm_codec.diffusion.crossing import crossing_index, log_snr_at
from ddpm_codec.diffusion.measurement import VarianceKind
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.distortion import check_rgb
from ddpm_codec.errors import InputError
from ddpm_codec.image_sets import change_lines, left_out_lines, open_images, read_all
from ddpm_codec.isolation import isolated
from ddpm_codec.models import find_model
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.pixel_decoder_model import PixelDecoderModel, load_pixel_decoder
from ddpm_codec.models.protocol import BoundSetting, CodecModel, Schedule
from ddpm_codec.nn.pixel_decoder import SIDES
from ddpm_codec.padding import pad_to_multiple
from ddpm_codec.stopwatch import Stopwatch

Pixels = NDArray[np.uint8]

STRIDE = 8
"""Sides of tiles are multiples of this."""


@dataclass(frozen=True, eq=False)
class BoundReport(BoundTerms):
    """The bound of each image, term by term, and how it was computed.

    Attributes:
        facts: ``steps`` (K as the user counts it: of a DDPM its timesteps), ``evaluations`` of the denoiser per image,
            ``schedule``, ``variance``, ``seconds``, ``images_per_second``, ``model``, ``device``, ``dtype``; with a pixel
            decoder also ``decoder``, ``decoder_dtype`` and ``crossing`` (noise in grey levels); ``changed``, a ``path`` and
            ``what`` for every image that was not bounded as its file has it; ``left_out``, ``path`` and ``reason`` of what
            is not a picture in the folder.
    """

    facts: dict[str, Any] = field(default_factory=dict)

    def step_rows(self, most: int = 50) -> list[tuple[str, float]]:
        """Return the mean bits/dim of each step, cleanest first; more than ``most`` steps are summed in as many runs."""
        means = self.diffusion_bpd.mean(axis=0)
        edges = np.unique(np.rint(np.linspace(0, len(means), min(most, len(means)) + 1)).astype(int)).tolist()
        return [
            (str(first + 1) if last == first + 1 else f"{first + 1}-{last}", float(means[first:last].sum()))
            for first, last in pairwise(edges)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return means over images, each counting the same, the standard error of the total, and the facts."""
        return self.to_dict() | self.facts


class BoundSettings(TypedDict, total=False):
    """Keywords of :func:`bound_of` that :func:`evaluate_bpd` takes as well."""

    crossing: float | None
    steps: int | None
    schedule: Schedule | None
    variance: VarianceKind | None
    batch: int
    tile: int | None
    seed: int
    device: str
    progress: Callable[[int, int], None] | None


@isolated()
def evaluate_bpd(
    data: str,
    *,
    model: str = "photo",
    decoder: str | None = None,
    limit: int | None = None,
    first_frame: bool = False,
    note: Callable[[str], None] = lambda line: None,
    **settings: Unpack[BoundSettings],
) -> BoundReport:
    """Bound the bits per dimension of a model on DATA.

    Models take 8-bit RGB. Images that have anything else in their files (alpha, a palette, one grey channel) are taken as
    RGB, and the report names them; images with more than 8 bits a sample are refused. All are read before the work begins.

    Args:
        data: DATA of any kind (see :func:`ddpm_codec.image_sets.open_images`); a CIFAR-10 folder gives its test batch.
        model: name, file or folder.
        decoder: file of a pixel decoder; see :func:`bound_of`.
        limit: use the first ``limit`` images.
        first_frame: take the first frame of files that have several, instead of refusing them.
        note: called with a line about each way in which images were changed.
        **settings: see :func:`bound_of`.

    Raises:
        InputError: DATA or a setting is unusable; of images that cannot be read, all are counted and the first named.
        ModelError: the model or the decoder is unknown or unusable, or has no chain of that length.
    """
    opened = open_model(find_model(model))
    images = open_images(data, test=True, first_frame=first_frame)
    frozen = None if decoder is None else load_pixel_decoder(Path(decoder))
    used = images if limit is None else images.subset(range(min(limit, len(images))))
    changes = read_all(used)
    for line in (*left_out_lines(images), *change_lines(changes)):
        note(line)
    report = bound_of(used, opened, decoder=frozen, **settings)
    left_out = [one.to_json() for one in images.left_out]
    changed = [change._asdict() for change in changes]
    return replace(report, facts=report.facts | {"changed": changed, "left_out": left_out})


@isolated()
def bound_of(
    images: Sequence[Pixels] | Pixels,
    model: CodecModel,
    *,
    decoder: PixelDecoderModel | None = None,
    crossing: float | None = None,
    steps: int | None = None,
    schedule: Schedule | None = None,
    variance: VarianceKind | None = None,
    batch: int = 64,
    tile: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> BoundReport:
    """Bound the bits per dimension of ``model`` on ``images``: L_T + sum_k L_k + L_0 of each.

    Args:
        images: uint8 arrays [H, W, 3], which may differ in size, or one array [N, H, W, 3].
        model: an open model.
        decoder: pixel decoder that replaces the model's own L_0; the chain then ends at its crossing.
        crossing: which crossing of the decoder, or of the model's own, in grey levels of noise; None: its lowest, or that of
            the model's default chain.
        steps: K, of a DDPM the number of timesteps used. None: the model's own, of a DDPM all timesteps.
        schedule: ``dp`` for the chain of the lowest bound; ``even`` for even steps over the same range, in log-SNR (an exact
            model takes the nearest levels that it has tables for), of a DDPM in timesteps. None: ``dp``, or ``even`` for a
            DDPM without calibration.
        variance: of the steps: the model's own (``predicted``), calibrated per ``class`` or ``level``, or fixed. None: the
            model's own; ``class``, as in coding, for a calibrated DDPM that leaves timesteps out.
        batch: 32x32 images (or as many pixels) at a time.
        tile: side of the tiles that larger images are cut into, a multiple of 8; None: the model's own.
        seed: of the noise. Figures depend on the order of the images, not on the batch.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: called with (network evaluations of images done, total), those of a pixel decoder among them: with 0 at the
            start, then after every network evaluation of a batch.

    Raises:
        InputError: no images, an image that is not uint8 [H, W, 3], a tile side that does not fit, or a crossing that the
            decoder does not have.
        ModelError: there is no chain of that length, or a term is not finite.

    Source: Ho et al. 2020, eq. 5.
    """
    if not len(images):
        raise InputError("the bound needs at least one image")
    side = model.tile if tile is None else tile
    if side < STRIDE or side % STRIDE:
        raise InputError(f"tile = {side}: must be a multiple of {STRIDE}")
    target = pick_device(device)
    ending = _Ending.of(model, decoder, crossing, target)
    setting = model.bound_setting(
        model.chain_steps(steps), schedule, variance, ending.own, crossing_log_snr=ending.foreign_log_snr
    )
    dtype = model.bound_dtype(target)
    denoiser = model.bound_denoiser(target, dtype)
    evaluator = _Evaluator(denoiser, ending, setting, target, seed, batch * 1024, progress)
    with Stopwatch() as watch:
        table, dims = evaluator.run(images, side)
    facts: dict[str, Any] = {
        "steps": model.user_steps(setting.chain.steps),
        "evaluations": setting.chain.steps + (ending.likelihood is None),
        "schedule": setting.schedule,
        "variance": setting.variance,
        "seconds": watch.seconds,
        "images_per_second": len(images) / watch.seconds,
        "model": model.name,
        "device": target.type,
        "dtype": dtype,
        "changed": [],
        "left_out": [],
    }
    facts |= ending.facts
    bpd, rmse = table[:, :-1], table[:, -1]
    return BoundReport(setting.chain, bpd[:, 0], bpd[:, 1:-1], bpd[:, -1], dims, rmse, facts)


@dataclass(frozen=True, eq=False)
class _Ending:
    """Where the chain ends, and what decodes x_0 there.

    Attributes:
        likelihood: a pixel decoder, or None: the denoiser itself.
        own: index of the model's own crossing, None if the decoder is another one.
        foreign_log_snr: level of the crossing of another decoder.
        exact: whether pixels are coded as the decoder says, so that none are padded.
        facts: about it, for reports.
    """

    likelihood: PixelLikelihood | None = None
    own: int | None = None
    foreign_log_snr: float | None = None
    exact: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: CodecModel, decoder: PixelDecoderModel | None, crossing: float | None, device: torch.device
    ) -> Self:
        """Return the ending of a decoder, if there is one, else that of the model.

        Raises:
            InputError: it has no such crossing.
        """
        if decoder is not None:
            grey_levels = decoder.crossing(crossing)
            facts = {"decoder": decoder.name, "decoder_dtype": "float32", "crossing": grey_levels}
            # In float32: bfloat16 costs flat pictures some per cent.
            likelihood = decoder.likelihood(device, "float32")
            return cls(likelihood, foreign_log_snr=log_snr_at(grey_levels), facts=facts)
        own = model.default_crossing
        if crossing is not None:
            own = crossing_index(model.crossings, crossing, f"model {model.name}")
        if not model.crossings:
            return cls(own=own)
        facts = {"decoder": model.name, "decoder_dtype": "exact", "crossing": model.crossings[own]}
        return cls(model.pixel_likelihood(device), own, exact=True, facts=facts)


class _Piece(NamedTuple):
    """A padded tile, the number of its image, and its share of that image's work."""

    image: int
    pixels: Pixels
    share: float


@dataclass(eq=False)
class _Evaluator:
    """Collects tiles of equal shape into batches and adds their terms up by image."""

    denoiser: Denoiser
    ending: _Ending
    setting: BoundSetting
    device: torch.device
    seed: int
    batch_pixels: int
    progress: Callable[[int, int], None] | None
    _evaluations: float = 0.0
    _total: int = 0
    # By the rows and columns that are coded.
    _waiting: dict[tuple[int, int], list[_Piece]] = field(default_factory=dict)
    # Tiles of each shape so far: the noise of a tile depends on its shape and its place among them alone.
    _done: dict[tuple[int, int], int] = field(default_factory=dict)

    def run(self, images: Sequence[Pixels] | Pixels, tile: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return ([prior, steps, reconstruction in bits/dim, RMSE in grey levels], [N, K + 3]; sub-pixels, [N])."""
        count = len(images)
        self._total = count * len(self.setting.chain.log_snr)
        self._advance(0.0)
        # Sums over the tiles of an image: bits of each term, squares of the error.
        sums = np.zeros((count, self.setting.chain.steps + 3))
        padded = np.zeros(count, dtype=np.int64)
        block = math.lcm(self.setting.transform.block, 1 if self.ending.likelihood is None else SIDES)
        dims = np.zeros(count, dtype=np.int64)
        for index in range(count):
            image: Pixels = images[index]
            check_rgb(image, f"image {index}")
            dims[index] = image.size
            rects = Rect(0, 0, *image.shape[:2]).cut(tile, tile)
            for rect in rects:
                cut = image[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
                piece = pad_to_multiple(cut, block, (0, 1))
                coded = cut if self.ending.exact else piece
                padded[index] += coded.size
                shape = coded.shape[:2]
                self._waiting.setdefault(shape, []).append(_Piece(index, piece, 1.0 / len(rects)))
                if len(self._waiting[shape]) * piece.shape[0] * piece.shape[1] >= self.batch_pixels:
                    self._flush(shape, sums)
        for shape in list(self._waiting):
            self._flush(shape, sums)
        # Bits of the padding have to be paid, if it is coded; its errors are nobody's, and are averaged over what they were
        # measured on.
        return np.column_stack([sums[:, :-1] / dims[:, None], np.sqrt(sums[:, -1] / padded)]), dims

    def _flush(self, shape: tuple[int, int], sums: NDArray[np.float64]) -> None:
        waiting = self._waiting.pop(shape)
        done = self._done.get(shape, 0)
        self._done[shape] = done + len(waiting)
        pixels = np.stack([piece.pixels.transpose(2, 0, 1) for piece in waiting])
        share = sum(piece.share for piece in waiting) / len(waiting)
        x_0 = to_model_values(pixels, self.device)
        terms = evaluate_bound(
            self.denoiser,
            [x_0],
            self.setting.transform,
            self.setting.chain,
            self.setting.prior,
            variance=self.setting.variances,
            decoder=self.ending.likelihood,
            coded=shape if self.ending.exact else None,
            seed=self.seed,
            first=(shape[0] << 44) + (shape[1] << 28) + done,
            progress=lambda evaluated: self._advance(evaluated * share),
        )
        columns = [terms.prior_bpd, *terms.diffusion_bpd.T, terms.reconstruction_bpd, terms.mean_rmse**2]
        np.add.at(sums, [piece.image for piece in waiting], np.stack(columns, axis=1) * terms.dims[:, None])

    def _advance(self, evaluations: float) -> None:
        """Say how far it is, in network evaluations of whole images."""
        self._evaluations += evaluations
        if self.progress is not None:
            self.progress(round(self._evaluations), self._total)
