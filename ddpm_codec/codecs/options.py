"""How pictures are cut: what encoder and decoder must agree on besides the model."""

from dataclasses import dataclass

from ddpm_codec.errors import InputError

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


def checked_options(block_pixels: int, tile: int) -> CodingOptions:
    """Return the sizes of blocks and tiles.

    Raises:
        InputError: they make no sense.
    """
    if not 8 <= tile <= MAX_TILE or tile % 8 or block_pixels < 1:
        raise InputError(f"tile = {tile}, block of {block_pixels} pixels: a tile is a multiple of 8 up to {MAX_TILE}")
    options = CodingOptions(block_pixels, tile)
    if options.square_tiles > MAX_BLOCK_TILES:
        raise InputError(
            f"tile = {tile}, block of {block_pixels} pixels: a block would have {options.square_tiles} tiles, at most "
            f"{MAX_BLOCK_TILES} may be; use larger tiles or smaller blocks"
        )
    return options
