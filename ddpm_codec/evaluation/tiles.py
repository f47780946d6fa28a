"""The terms of a bound, added up over the tiles of each image."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.crossing import crossing_index, log_snr_at
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.distortion import check_rgb
from ddpm_codec.errors import InputError
from ddpm_codec.models.pixel_decoder_model import PixelDecoderModel
from ddpm_codec.models.protocol import BoundSetting, CodecModel
from ddpm_codec.nn.pixel_decoder import SIDES
from ddpm_codec.padding import pad_to_multiple

Pixels = NDArray[np.uint8]

PLACES = 1 << 32
"""Places of images in a set, and of tiles in an image, are below this."""


@dataclass(frozen=True, eq=False)
class Ending:
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


def noise_number(place: int, tile: int) -> int:
    """Return the number of the noise of one tile: tile << 32 | place.

    The noise of an image of one tile thus has its place as its number, as where a set is evaluated without tiles.

    Args:
        place: of the image in its set.
        tile: of the tile in its image, row by row.

    Raises:
        InputError: one of them is not below 2^32, so that numbers would collide.
    """
    if not (0 <= place < PLACES and 0 <= tile < PLACES):
        raise InputError(f"tile {tile} of image {place}: there is noise for 2^32 images of 2^32 tiles")
    return tile << 32 | place


class _Piece(NamedTuple):
    """A padded tile, the row of its image in the sums, the number of its noise, its share of that image's work."""

    image: int
    number: int
    pixels: Pixels
    share: float


@dataclass(eq=False)
class TileEvaluator:
    """Collects tiles of equal shape into batches and adds their terms up by image."""

    denoiser: Denoiser
    ending: Ending
    setting: BoundSetting
    device: torch.device
    seed: int
    batch_pixels: int
    progress: Callable[[int, int], None] | None
    _evaluations: float = 0.0
    _total: int = 0
    # By the rows and columns that are coded.
    _waiting: dict[tuple[int, int], list[_Piece]] = field(default_factory=dict)

    def run(
        self, images: Sequence[Pixels] | Pixels, places: Sequence[int], tile: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
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
            check_rgb(image, f"image {places[index]}")
            dims[index] = image.size
            rects = Rect(0, 0, *image.shape[:2]).cut(tile, tile)
            for ordinal, rect in enumerate(rects):
                cut = image[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
                piece = pad_to_multiple(cut, block, (0, 1))
                coded = cut if self.ending.exact else piece
                padded[index] += coded.size
                shape = coded.shape[:2]
                number = noise_number(places[index], ordinal)
                self._waiting.setdefault(shape, []).append(_Piece(index, number, piece, 1.0 / len(rects)))
                if len(self._waiting[shape]) * piece.shape[0] * piece.shape[1] >= self.batch_pixels:
                    self._flush(shape, sums)
        for shape in list(self._waiting):
            self._flush(shape, sums)
        # Bits of the padding have to be paid, if it is coded; its errors are nobody's, and are averaged over what they were
        # measured on.
        return np.column_stack([sums[:, :-1] / dims[:, None], np.sqrt(sums[:, -1] / padded)]), dims

    def _flush(self, shape: tuple[int, int], sums: NDArray[np.float64]) -> None:
        waiting = self._waiting.pop(shape)
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
            numbers=[piece.number for piece in waiting],
            progress=lambda evaluated: self._advance(evaluated * share),
        )
        columns = [terms.prior_bpd, *terms.diffusion_bpd.T, terms.reconstruction_bpd, terms.mean_rmse**2]
        np.add.at(sums, [piece.image for piece in waiting], np.stack(columns, axis=1) * terms.dims[:, None])

    def _advance(self, evaluations: float) -> None:
        """Say how far it is, in network evaluations of whole images."""
        self._evaluations += evaluations
        if self.progress is not None:
            self.progress(round(self._evaluations), self._total)
