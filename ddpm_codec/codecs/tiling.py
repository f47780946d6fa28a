"""Cuts pictures into regions, which share a block, and regions into tiles, which are coded together.

Everything here depends on sizes only, so the decoder can repeat it from the image table.
"""

from dataclasses import dataclass
from itertools import groupby

from ddpm_codec.errors import InputError

DEFAULT_BLOCK_PIXELS = 1 << 22
MAX_TILE = 4096
MAX_BLOCK_TILES = 1 << 18
"""Maximum tiles per block: more do not improve compression, and planning them takes time before any byte is read."""

SEED_TILE = 64
"""One largest tile of a block is cut into tiles of this side, so that a few fallback bytes can start the stack."""


@dataclass(frozen=True)
class CodingOptions:
    """Sizes of blocks and tiles.

    Attributes:
        block_pixels: a block is closed once it has this many pixels; larger pictures are cut.
        tile: side of the tiles, a multiple of 8 up to MAX_TILE.
    """

    block_pixels: int
    tile: int

    @property
    def square_tiles(self) -> int:
        """Number of full tiles in a block."""
        return self.block_pixels // (self.tile * self.tile)


def checked_options(block_pixels: int, tile: int) -> CodingOptions:
    """Return validated sizes of blocks and tiles.

    Raises:
        InputError: a size is out of range.
    """
    for name, value in (("tile", tile), ("block_pixels", block_pixels)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{name} = {value!r}: must be an integer")
    if not 8 <= tile <= MAX_TILE or tile % 8 or block_pixels < 1:
        raise InputError(
            f"tile = {tile}, block of {block_pixels} pixels: tile must be a multiple of 8, at most {MAX_TILE}"
        )
    options = CodingOptions(block_pixels, tile)
    if options.square_tiles > MAX_BLOCK_TILES:
        raise InputError(
            f"tile = {tile}, block of {block_pixels} pixels: a block would have {options.square_tiles} tiles, more than "
            f"{MAX_BLOCK_TILES}; use larger tiles or smaller blocks"
        )
    return options


@dataclass(frozen=True)
class Rect:
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def cut(self, side_y: int, side_x: int) -> list["Rect"]:
        """Cut this rectangle on a grid, row by row; the last row and column may be smaller."""
        return [
            Rect(self.top + y, self.left + x, min(side_y, self.height - y), min(side_x, self.width - x))
            for y in range(0, self.height, side_y)
            for x in range(0, self.width, side_x)
        ]


@dataclass(frozen=True)
class Tile:
    """A rectangle in region ``region`` of a block, relative to that region."""

    region: int
    rect: Rect

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rect.height, self.rect.width


def split_regions(width: int, height: int, block_pixels: int, tile: int) -> list[Rect]:
    """Cut a picture into regions of at most about ``block_pixels``.

    A picture that fits is one region. Others are cut into bands of whole tiles, and if a band of full width would be too
    large, into columns of whole tiles first.
    """
    return Rect(0, 0, height, width).cut(*_region_sides(width, height, block_pixels, tile))


def region_count(width: int, height: int, block_pixels: int, tile: int) -> int:
    """Return the number of regions of :func:`split_regions` without creating them."""
    band, column = _region_sides(width, height, block_pixels, tile)
    return -(-height // band) * -(-width // column)


def _region_sides(width: int, height: int, block_pixels: int, tile: int) -> tuple[int, int]:
    """Return height and width of a full region."""
    if width * height <= block_pixels:
        return height, width
    row = min(tile, height)
    column = width if width * row <= block_pixels else max(tile, block_pixels // row // tile * tile)
    return max(tile, block_pixels // min(column, width) // tile * tile), column


def tile_count(height: int, width: int, tile: int) -> int:
    """Return the number of tiles of a region, before one is cut into seeds."""
    return -(-height // tile) * -(-width // tile)


def largest_tile_count(width: int, height: int, block_pixels: int, tile: int) -> int:
    """Return the number of tiles in the largest region of a picture."""
    band, column = _region_sides(width, height, block_pixels, tile)
    return tile_count(min(band, height), min(column, width), tile)


def plan_tiles(regions: list[Rect], tile: int) -> list[Tile]:
    """Return the tiles of a block in coding order: a largest tile in pieces, then the others by size, equal shapes together.

    Args:
        regions: the regions of the block (only their sizes matter).
        tile: side of a tile.
    """
    tiles = [
        Tile(index, piece)
        for index, region in enumerate(regions)
        for piece in Rect(0, 0, region.height, region.width).cut(tile, tile)
    ]
    tiles.sort(key=_order)
    largest = tiles.pop()
    pieces = [Tile(largest.region, piece) for piece in largest.rect.cut(SEED_TILE, SEED_TILE)]
    return sorted(pieces, key=_order) + tiles


def shape_runs(tiles: list[Tile]) -> list[list[Tile]]:
    """Group ``tiles`` into runs of equal shape, in order."""
    return [list(run) for _, run in groupby(tiles, key=lambda tile: tile.shape)]


def _order(tile: Tile) -> tuple[int, int, int]:
    return tile.rect.pixels, tile.rect.height, tile.rect.width
