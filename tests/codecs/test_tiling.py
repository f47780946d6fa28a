"""Cutting pictures: every pixel is coded exactly once, in an order that sizes alone decide."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ddpm_codec.codecs.tiling import (
    SEED_TILE,
    Rect,
    Tile,
    largest_tile_count,
    plan_tiles,
    shape_runs,
    split_regions,
    tile_count,
)

SIDES = st.integers(1, 400)
TILES = st.sampled_from([8, 32, 64, 96, 256])


def cover(rects: list[Rect], height: int, width: int) -> np.ndarray:
    """Return how often each pixel is covered."""
    count = np.zeros((height, width), dtype=np.int64)
    for rect in rects:
        assert rect.top + rect.height <= height
        assert rect.left + rect.width <= width
        count[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width] += 1
    return count


@given(height=SIDES, width=SIDES, side_y=st.integers(1, 500), side_x=st.integers(1, 500))
def test_cutting_covers_each_pixel_once(height: int, width: int, side_y: int, side_x: int) -> None:
    assume((height // side_y + 1) * (width // side_x + 1) < 3000)
    pieces = Rect(0, 0, height, width).cut(side_y, side_x)
    assert (cover(pieces, height, width) == 1).all()
    assert all(0 < piece.height <= side_y and 0 < piece.width <= side_x for piece in pieces)


def test_a_cut_keeps_its_place() -> None:
    assert Rect(5, 7, 3, 4).cut(2, 3) == [Rect(5, 7, 2, 3), Rect(5, 10, 2, 1), Rect(7, 7, 1, 3), Rect(7, 10, 1, 1)]


@given(height=SIDES, width=SIDES, block_pixels=st.integers(64, 1 << 17), tile=TILES)
def test_regions_cover_a_picture_once_and_are_small(height: int, width: int, block_pixels: int, tile: int) -> None:
    regions = split_regions(width, height, block_pixels, tile)
    assert (cover(regions, height, width) == 1).all()
    assert all(region.pixels <= max(block_pixels, tile * tile) for region in regions)
    assert (len(regions) == 1) == (width * height <= block_pixels or (height <= tile and width <= tile))
    assert all(region.top % tile == 0 and region.left % tile == 0 for region in regions)
    assert regions == split_regions(width, height, block_pixels, tile)


@given(height=SIDES, width=SIDES, block_pixels=st.integers(64, 1 << 17), tile=TILES)
def test_tiles_are_counted_without_making_them(height: int, width: int, block_pixels: int, tile: int) -> None:
    counts = [len(region.cut(tile, tile)) for region in split_regions(width, height, block_pixels, tile)]
    assert largest_tile_count(width, height, block_pixels, tile) == max(counts)
    assert tile_count(height, width, tile) == len(Rect(0, 0, height, width).cut(tile, tile))


@pytest.mark.parametrize(("width", "height"), [(1, 1_000_000), (1_000_000, 1), (3, 700_000), (700_000, 3)])
@pytest.mark.parametrize("block_pixels", [1 << 16, 1 << 20, 1 << 22])
def test_huge_aspect_ratios(width: int, height: int, block_pixels: int) -> None:
    tile = 256
    regions = split_regions(width, height, block_pixels, tile)
    assert sum(region.pixels for region in regions) == width * height
    assert all(region.pixels <= block_pixels for region in regions)
    tiles = plan_tiles(regions, tile)
    assert sum(piece.rect.pixels for piece in tiles) == width * height
    assert max(max(piece.shape) for piece in tiles) <= tile


@pytest.mark.parametrize(("size", "region"), [((256, 256), (256, 256)), ((4000, 3000), (256, 4000)), ((9, 9), (9, 9))])
def test_regions_of_known_pictures(size: tuple[int, int], region: tuple[int, int]) -> None:
    """Bands of the full width wherever one fits."""
    first = split_regions(*size, 1 << 20, 256)[0]
    assert (first.height, first.width) == region


def test_a_picture_too_wide_for_a_band_is_cut_into_columns() -> None:
    regions = split_regions(10_000, 600, 1 << 20, 256)
    assert [(region.top, region.left, region.height, region.width) for region in regions[:4]] == [
        (0, 0, 256, 4096),
        (0, 4096, 256, 4096),
        (0, 8192, 256, 1808),
        (256, 0, 256, 4096),
    ]


@given(sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6), tile=TILES)
def test_tiles_cover_every_region_once(sizes: list[tuple[int, int]], tile: int) -> None:
    regions = [Rect(11 * index, 13, *size) for index, size in enumerate(sizes)]
    tiles = plan_tiles(regions, tile)
    for index, region in enumerate(regions):
        own = [piece.rect for piece in tiles if piece.region == index]
        assert (cover(own, region.height, region.width) == 1).all()
    assert all(max(piece.shape) <= tile for piece in tiles)
    assert tiles == plan_tiles([Rect(0, 0, region.height, region.width) for region in regions], tile)


@given(sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6), tile=TILES)
def test_coding_order_is_small_tiles_first_and_equal_shapes_together(sizes: list[tuple[int, int]], tile: int) -> None:
    tiles = plan_tiles([Rect(0, 0, *size) for size in sizes], tile)
    pixels = [piece.rect.pixels for piece in tiles]
    # The pieces of a largest tile stand in front; from there on areas ascend.
    whole = [piece for size in sizes for piece in Rect(0, 0, *size).cut(tile, tile)]
    largest = max(whole, key=lambda rect: (rect.pixels, rect.height, rect.width))
    first = len(largest.cut(SEED_TILE, SEED_TILE))
    assert is_one_tile(tiles[:first])
    assert pixels[:first] == sorted(pixels[:first])
    assert pixels[first:] == sorted(pixels[first:])
    assert max(max(piece.shape) for piece in tiles[:first]) <= SEED_TILE
    shapes = [run[0].shape for run in shape_runs(tiles[first:])]
    assert len(shapes) == len(set(shapes))


def is_one_tile(tiles: list[Tile]) -> bool:
    """Say whether tiles make up one rectangle of a region, its top left corner and all."""
    if not tiles or len({piece.region for piece in tiles}) > 1:
        return False
    rects = [piece.rect for piece in tiles]
    top, left = min(rect.top for rect in rects), min(rect.left for rect in rects)
    bottom = max(rect.top + rect.height for rect in rects)
    right = max(rect.left + rect.width for rect in rects)
    return (bottom - top) * (right - left) == sum(rect.pixels for rect in rects)


def test_a_single_tile_is_cut_for_the_seeds() -> None:
    tiles = plan_tiles([Rect(0, 0, 150, 150)], 256)
    assert [piece.shape for piece in tiles] == [(22, 22), (22, 64), (22, 64), (64, 22), (64, 22)] + 4 * [(64, 64)]


def test_the_largest_tile_is_cut_so_that_slivers_do_not_starve_the_chain() -> None:
    tiles = plan_tiles([Rect(0, 0, 257, 320)], 256)
    assert [piece.rect.pixels for piece in tiles] == 16 * [4096] + [64, 256, 256 * 64]


def test_equal_tiles_keep_the_order_of_their_regions() -> None:
    tiles = plan_tiles([Rect(0, 0, 64, 64)] * 5 + [Rect(0, 0, 32, 32)], 64)
    assert [piece.region for piece in tiles] == [4, 5, 0, 1, 2, 3]


def test_runs_put_equal_neighbours_together() -> None:
    tiles = plan_tiles([Rect(0, 0, 70, 130)], 32)
    runs = shape_runs(tiles)
    assert [piece for run in runs for piece in run] == tiles
    assert all(len({piece.shape for piece in run}) == 1 for run in runs)
    assert all(left[0].shape != right[0].shape for left, right in pairwise(runs))
    assert shape_runs([]) == []
