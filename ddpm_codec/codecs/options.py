"""How pictures are cut: what encoder and decoder must agree on besides the model."""

from dataclasses import dataclass

DEFAULT_BLOCK_PIXELS = 1 << 22
MAX_TILE = 4096
MAX_BLOCK_TILES = 1 << 18
"""Tiles in one block: more of them are no use to compression, and each is work before the first byte is looked at."""


@dataclass(frozen=True)
class CodingOptions:
    """Sizes of blocks and tiles.

    Attributes:
        block_pixels: a block is closed when it has this many pixels; larger pictures are cut.
        tile: side of the tiles, a multiple of 8 up to MAX_TILE.
    """

    block_pixels: int
    tile: int

    @property
    def square_tiles(self) -> int:
        """Tiles in a block of whole ones."""
        return self.block_pixels // (self.tile * self.tile)
