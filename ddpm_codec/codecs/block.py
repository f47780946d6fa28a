"""One block: tiles that share a bits-back stack, seeded with the bytes of its first tiles.

Bits-back coding needs initial bits. Here they are the fallback-coded first tiles of the block (the "seeds"), whitened:
after everything else has been popped they remain on the stack, so no bits are wasted. The batches that follow double in
size as the stack fills.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import decode_array, encode_array
from ddpm_codec.codecs.tiling import MAX_BLOCK_TILES, Rect, Tile, plan_tiles, shape_runs, tile_count
from ddpm_codec.coding.ans import Stack, StackExhausted
from ddpm_codec.coding.bits_back import LatticeModel, decode_batch, encode_batch
from ddpm_codec.coding.streams import whiten
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

BATCH_PIXELS = 1 << 18
"""Maximum number of pixels in a batch."""

INITIAL_BITS = 1.7
"""Initial estimate of the bits per dimension that a batch pops before it pushes any: somewhat more than the entropy of
q(n_0 | x_0), log2(RATIO sqrt(2 pi e)) = 1.63. Pictures are pushed next, and take more bits than the next latents."""


@dataclass(frozen=True)
class BlockStats:
    """Size of a coded block.

    Attributes:
        dims: sub-pixels coded by the model.
        net_bits: bits they added to the stack.
        seed_dims: sub-pixels coded by the fallback.
        seed_bits: bits they take.
        region_bits: bits of each region, both kinds; estimated where regions share a batch.
    """

    dims: int
    net_bits: int
    seed_dims: int
    seed_bits: int
    region_bits: tuple[float, ...]


class _NeedMoreSeeds(Exception):  # noqa: N818 - a signal, not an error
    """More seeds are needed to start the stack."""


Models = Callable[[list[Tile]], LatticeModel]
"""Returns the lattice model for a batch of tiles of equal shape."""


def encode_block(models: Models, regions: list[Pixels], tile: int) -> tuple[bytes, BlockStats] | None:
    """Code the regions of a block.

    Args:
        models: returns the lattice model of a batch.
        regions: RGB arrays, each uint8 [H, W, 3].
        tile: side of a tile.

    Returns:
        The payload and its statistics, or None if the block is too small to start a stack.
    """
    tiles = plan_tiles([Rect(0, 0, *region.shape[:2]) for region in regions], tile)
    seeds = 1
    while seeds < len(tiles):
        try:
            return _encode_tiles(models, regions, tiles, seeds)
        except _NeedMoreSeeds:
            seeds += max(1, seeds // 2)
    return None


def decode_block(models: Models, payload: bytes, sizes: list[Rect], tile: int) -> list[Pixels]:
    """Decode the regions of a block, given their sizes.

    Raises:
        FormatError: the payload does not belong to this block, or the block would have too many tiles.
    """
    count = sum(tile_count(size.height, size.width, tile) for size in sizes)
    if count > MAX_BLOCK_TILES:
        raise FormatError(f"it has {count} tiles, more than {MAX_BLOCK_TILES}")
    tiles = plan_tiles(sizes, tile)
    reader = Reader(payload)
    seeds = reader.varint(len(tiles))
    batches = [reader.varint(len(tiles)) for _ in range(reader.varint(len(tiles)))]
    if seeds + sum(batches) != len(tiles) or not seeds or not all(batches):
        raise FormatError("its plan does not fit the image table")
    regions: list[Pixels] = [np.zeros((size.height, size.width, 3), np.uint8) for size in sizes]
    stack = Stack.from_bytes(reader.rest())
    end = len(tiles)
    for count in reversed(batches):
        batch = tiles[end - count : end]
        largest = max(1, BATCH_PIXELS // batch[0].rect.pixels)
        if len({piece.shape for piece in batch}) != 1 or count > largest:
            raise FormatError("its plan does not fit the image table")
        pixels = decode_batch(stack, models(batch), (count, 3, *batch[0].shape))
        for piece, pixel in zip(batch, pixels, strict=True):
            _view(regions, piece)[:] = pixel.transpose(1, 2, 0)
        end -= count
    _decode_seeds(whiten(stack.remainder()), tiles[:seeds], regions)
    return regions


def _encode_tiles(models: Models, regions: list[Pixels], tiles: list[Tile], seeds: int) -> tuple[bytes, BlockStats]:
    start = whiten(_encode_seeds(regions, tiles[:seeds]))
    stack = Stack.seeded(start)
    before = stack.bits
    seed_pixels = sum(tile.rect.pixels for tile in tiles[:seeds])
    region_bits = np.zeros(len(regions))
    for tile in tiles[:seeds]:
        region_bits[tile.region] += before * tile.rect.pixels / seed_pixels
    batches: list[int] = []
    need = INITIAL_BITS
    for run in shape_runs(tiles[seeds:]):
        most = max(1, BATCH_PIXELS // run[0].rect.pixels)
        while run:
            dims = 3 * run[0].rect.pixels
            count = min(len(run), most, int(stack.bits / (need * dims)))
            pushed = _try_batch(stack, models, regions, run[:count])
            if pushed is None:
                # Each retry is smaller than the batch that exhausted the stack.
                need = max(1.1 * need, stack.bits / (count * dims))
                continue
            stack, bits = pushed
            np.add.at(region_bits, [tile.region for tile in run[:count]], bits)
            batches.append(count)
            run = run[count:]
    header = bytearray()
    for value in (seeds, len(batches), *batches):
        write_varint(header, value)
    model_dims = sum(3 * tile.rect.pixels for tile in tiles[seeds:])
    stats = BlockStats(model_dims, stack.bits - before, 3 * seed_pixels, before, tuple(region_bits.tolist()))
    return bytes(header) + stack.to_bytes(), stats


def _try_batch(stack: Stack, models: Models, regions: list[Pixels], batch: list[Tile]) -> tuple[Stack, Floats] | None:
    """Return the stack with ``batch`` pushed and the net bits of each tile, or None if the stack ran out.

    If all tiles belong to one region, the bits are divided evenly: only totals per region are needed.

    Raises:
        _NeedMoreSeeds: the stack is too short for even one tile.
    """
    if not batch:
        raise _NeedMoreSeeds
    pixels = np.stack([_view(regions, tile).transpose(2, 0, 1) for tile in batch])
    attempt = stack.copy()
    prices = np.zeros(len(batch))
    try:
        encode_batch(attempt, models(batch), pixels, prices if batch[0].region != batch[-1].region else None)
    except StackExhausted:
        return None
    return attempt, prices - prices.mean() + (attempt.bits - stack.bits) / len(batch)


def _view(regions: list[Pixels], tile: Tile) -> Pixels:
    rect = tile.rect
    return regions[tile.region][rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]


def _encode_seeds(regions: list[Pixels], seeds: list[Tile]) -> bytes:
    """Encode the seeds with the fallback; tiles of equal shape are stacked into one picture."""
    out = bytearray()
    for run in shape_runs(seeds):
        sheet = encode_array(np.concatenate([_view(regions, tile) for tile in run]))
        write_varint(out, len(sheet))
        out += sheet
    return bytes(out)


def _decode_seeds(data: bytes, seeds: list[Tile], regions: list[Pixels]) -> None:
    reader = Reader(data)
    for run in shape_runs(seeds):
        height, width = run[0].shape
        sheet = decode_array(reader.take(reader.varint(len(data))), (height * len(run), width, 3))
        for index, tile in enumerate(run):
            _view(regions, tile)[:] = sheet[index * height : (index + 1) * height]
    if reader.rest():
        raise FormatError("it has extra bytes after its last tile")
