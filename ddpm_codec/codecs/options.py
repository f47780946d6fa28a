"""How pictures are cut: what encoder and decoder must agree on besides the model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CodingOptions:
    """Sizes of blocks and tiles.

    Attributes:
        block_pixels: a block is closed when it has this many pixels; larger pictures are cut.
        tile: side of the tiles, a multiple of 8.
    """

    block_pixels: int
    tile: int
