"""Model or fallback: pictures that wait to share a block, and which of them each coder makes smaller."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ddpm_codec.codecs.tiling import MAX_BLOCK_TILES, CodingOptions, tile_count
from ddpm_codec.picture import Picture

OVERHEAD_BYTES = 512
"""What a model-coded block must save beyond its own bytes: more than the head of a file that names a model."""

PICTURE_BYTES = 16
"""And for each picture or region in it: more than block framing and lists of indices may cost."""

WORTH_CODING_AGAIN = 512
"""A block is coded a second time only where that saves more than one byte in so many of it."""


@dataclass
class PendingBlock:
    """Pictures that wait to share a block: index in the table, picture, and its fallback."""

    pictures: list[tuple[int, Picture, bytes]] = field(default_factory=list)
    pixels: int = 0
    tiles: int = 0

    def add(self, index: int, picture: Picture, fallback: bytes, tile: int) -> None:
        """Put a picture behind the others."""
        width, height = picture.size
        self.pictures.append((index, picture, fallback))
        self.pixels += picture.info.pixel_count
        self.tiles += tile_count(height, width, tile)

    def full(self, options: CodingOptions) -> bool:
        """Say whether it has the pixels of a block, or half the tiles that one may have."""
        return self.pixels >= options.block_pixels or 2 * self.tiles >= MAX_BLOCK_TILES

    @property
    def indices(self) -> tuple[int, ...]:
        """Places in the image table."""
        return tuple(index for index, _, _ in self.pictures)

    @property
    def fallback_bytes(self) -> int:
        """What the fallback makes of them."""
        return sum(len(data) for _, _, data in self.pictures)

    def split(self, chosen: Sequence[bool], tile: int) -> tuple["PendingBlock", "PendingBlock"]:
        """Return the pictures that are chosen, and the others."""
        halves = PendingBlock(), PendingBlock()
        for entry, keep in zip(self.pictures, chosen, strict=True):
            halves[0 if keep else 1].add(*entry, tile)
        return halves

    def model_bytes(self, body: bytes) -> int:
        """Return what ``body``, the model's, counts for when it is compared with the fallback."""
        return len(body) + OVERHEAD_BYTES + PICTURE_BYTES * len(self.pictures)


def served_by_model(model_bytes: Sequence[float], fallback_bytes: Sequence[int]) -> list[bool] | None:
    """Return which pictures to leave to the model; None where all or none is as good, or hardly worse.

    Args:
        model_bytes: what each picture of a block costs in it, about: whole bytes of it are looked at, whose sums are the
            same on every machine.
        fallback_bytes: what it costs by the fallback.
    """
    costs = [round(cost) for cost in model_bytes]
    chosen = [cost <= other for cost, other in zip(costs, fallback_bytes, strict=True)]
    if all(chosen) or not any(chosen):
        return None
    mixed = OVERHEAD_BYTES + sum(min(pair) for pair in zip(costs, fallback_bytes, strict=True))
    whole = min(OVERHEAD_BYTES + sum(costs), sum(fallback_bytes))
    return chosen if WORTH_CODING_AGAIN * (whole - mixed) > whole else None
