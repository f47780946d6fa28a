"""Model or fallback: queued pictures of a block, and which coder makes each smaller."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from ddpm_codec.codecs.lossless.layout import COLOUR_MODES
from ddpm_codec.codecs.tiling import MAX_BLOCK_TILES, CodingOptions, largest_tile_count, tile_count
from ddpm_codec.picture import Picture

GRAPHIC_BPD = 0.75
"""A picture that the fallback codes below this rate is a graphic rather than a photo, and is left to the fallback.

A small picture that comes alone is an exception, see :mod:`ddpm_codec.codecs.lossless.single`.
"""

OVERHEAD_BYTES = 512
"""Bytes a model-coded block must save: more than the file head takes to name a model."""

PICTURE_BYTES = 16
"""Additional bytes per picture or region in it: more than block framing and index lists can cost."""

WORTH_CODING_AGAIN = 512
"""A block is coded a second time only if that saves more than this fraction (1/N) of it."""


@dataclass
class CodingTotals:
    """Total size of the blocks.

    Attributes:
        net_bits: bits that the sub-pixels coded by the model take.
        net_dims: number of these sub-pixels.
        fallback_images: pictures coded by the fallback.
    """

    net_bits: int = 0
    net_dims: int = 0
    fallback_images: int = 0


def suits_model(picture: Picture, fallback: bytes, options: CodingOptions) -> bool:
    """Return whether it makes sense to try the model on a picture, given its fallback encoding."""
    if picture.mode not in COLOUR_MODES:
        return False
    # Only a picture a few pixels high, cut into far too small tiles, has this many.
    tiles = largest_tile_count(*picture.size, options.block_pixels, options.tile)
    return 8 * len(fallback) >= GRAPHIC_BPD * len(picture.pixels) and 2 * tiles <= MAX_BLOCK_TILES


@dataclass
class PendingBlock:
    """Pictures queued for a block: index in the image table, picture, and its fallback encoding."""

    pictures: list[tuple[int, Picture, bytes]] = field(default_factory=list)
    pixels: int = 0
    tiles: int = 0

    def add(self, index: int, picture: Picture, fallback: bytes, tile: int) -> None:
        """Append a picture."""
        width, height = picture.size
        self.pictures.append((index, picture, fallback))
        self.pixels += picture.info.pixel_count
        self.tiles += tile_count(height, width, tile)

    def full(self, options: CodingOptions) -> bool:
        """Return whether it has the pixels of a block, or half the maximum number of tiles."""
        return self.pixels >= options.block_pixels or 2 * self.tiles >= MAX_BLOCK_TILES

    @property
    def indices(self) -> tuple[int, ...]:
        """Indices into the image table."""
        return tuple(index for index, _, _ in self.pictures)

    @property
    def fallback_bytes(self) -> int:
        """Fallback encodings of the pictures."""
        return sum(len(data) for _, _, data in self.pictures)

    def split(self, chosen: Sequence[bool], tile: int) -> tuple["PendingBlock", "PendingBlock"]:
        """Split into the chosen pictures and the others."""
        halves = PendingBlock(), PendingBlock()
        for entry, keep in zip(self.pictures, chosen, strict=True):
            halves[0 if keep else 1].add(*entry, tile)
        return halves

    def model_bytes(self, body: bytes) -> int:
        """Return the size charged for ``body``, coded by the model, in a comparison with the fallback."""
        return len(body) + OVERHEAD_BYTES + PICTURE_BYTES * len(self.pictures)


def served_by_model(model_bytes: Sequence[float], fallback_bytes: Sequence[int]) -> list[bool] | None:
    """Return which pictures to code by the model; None if all or none is as good, or nearly so.

    Args:
        model_bytes: approximate size of each picture coded by the model, rounded to whole bytes so that sums are the same
            on every machine.
        fallback_bytes: size of each picture coded by the fallback.
    """
    costs = [round(cost) for cost in model_bytes]
    chosen = [cost <= other for cost, other in zip(costs, fallback_bytes, strict=True)]
    if all(chosen) or not any(chosen):
        return None
    mixed = OVERHEAD_BYTES + sum(min(pair) for pair in zip(costs, fallback_bytes, strict=True))
    whole = min(OVERHEAD_BYTES + sum(costs), sum(fallback_bytes))
    return chosen if WORTH_CODING_AGAIN * (whole - mixed) > whole else None


def shared_out(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Return whole numbers in proportion to ``weights`` that add up to ``total``; equal shares where no weight is positive.

    Examples:
        >>> shared_out(10, [1.0, 1.0, 1.0])
        (3, 4, 3)
    """
    whole = sum(weights)
    if whole <= 0:
        weights, whole = [1.0] * len(weights), float(len(weights))
    borders = [round(total * (part / whole)) for part in accumulate(weights, initial=0.0)]
    borders[-1] = total
    return tuple(end - start for start, end in pairwise(borders))
