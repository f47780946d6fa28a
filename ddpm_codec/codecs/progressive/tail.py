"""The lossless end of a progressive file: what turns the last latents into the picture itself.

At tail level 0 the pixels of each patch are coded under p(x_0 | z_0). At a higher one the picture is cut into blocks, and
each is coded by bits-back through the Gaussian bridge below that level. A tail section ends the reading of a region of the
picture: it starts with a CRC of the region's pixels.
"""

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.block import BlockStats, Models, decode_block, encode_block
from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.progressive.bridge import BridgedLattice, bridge_for
from ddpm_codec.codecs.progressive.patch import Patch
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.tiling import Rect, Tile, split_parts
from ddpm_codec.coding.ans import Stack
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader

Pixels = NDArray[np.uint8]

_SMALL_REGION = 1 << 14
"""Regions of fewer pixels have a checksum of two bytes."""

_WORD_BYTES = 4


class Tail:
    """The sections behind a finished walk.

    Args:
        walk: finished.
        size: (width, height) of the picture, not padded.
        lattice: opens the lattice model of the whole chain; asked at a tail level above 0 only.
        tile: side of the tiles of a block.
        block_pixels: pixels of a block.
    """

    def __init__(
        self,
        walk: Walk,
        size: tuple[int, int],
        lattice: Callable[[], DiffusionLattice],
        tile: int,
        block_pixels: int,
    ) -> None:
        self._walk, self._lattice, self._tile = walk, lattice, tile
        width, height = size
        if walk.last:
            self.regions = split_parts(width, height, block_pixels, tile)
        else:
            block = walk.chain.transform.block
            self.regions = [_rect(patch.pixels(block), height, width) for patch in walk.patches]

    def encode(self, number: int, pixels: Pixels) -> bytes | None:
        """Return the payload for the pixels of a region, [H, W, 3]; None where it is too small for bits-back."""
        body = self._encode_direct(number, pixels) if not self._walk.last else self._encode_bridged(number, pixels)
        return None if body is None else self._checksum(number, pixels) + body

    def decode(self, number: int, reader: Reader) -> Pixels:
        """Return the pixels of a region.

        Raises:
            FormatError: the payload is damaged, or the network did not repeat itself.
        """
        checksum = reader.take(self._checksum_bytes(number))
        pixels = self._decode_direct(number, reader) if not self._walk.last else self._decode_bridged(number, reader)
        if self._checksum(number, pixels) != checksum:
            raise FormatError("its pixels do not match their checksum")
        return pixels

    def _checksum(self, number: int, pixels: Pixels) -> bytes:
        count = self._checksum_bytes(number)
        return (zlib.crc32(pixels.tobytes()) & ((1 << 8 * count) - 1)).to_bytes(count, "little")

    def _checksum_bytes(self, number: int) -> int:
        rect = self.regions[number]
        return 2 if rect.height * rect.width < _SMALL_REGION else 4

    def _encode_direct(self, number: int, pixels: Pixels) -> bytes:
        rect = self.regions[number]
        mean, scale = self._walk.chain.pixel_law(self._walk.latents, self._walk.patches[number])
        stack = Stack.empty()
        inside = np.s_[:, : rect.height, : rect.width]
        stack.push_pixels(np.ascontiguousarray(pixels.transpose(2, 0, 1)), mean[inside], scale[inside])
        # The last word of a stack is never zero, but mostly small.
        return stack.to_bytes().rstrip(b"\0")

    def _decode_direct(self, number: int, reader: Reader) -> Pixels:
        rect = self.regions[number]
        mean, scale = self._walk.chain.pixel_law(self._walk.latents, self._walk.patches[number])
        body = reader.rest()
        # Where every pixel is the first of its table, as in black pictures, nothing is left of the stack.
        stack = Stack.from_bytes(body + bytes(-len(body) % _WORD_BYTES)) if body else Stack.empty()
        inside = np.s_[:, : rect.height, : rect.width]
        pixels = stack.pop_pixels(mean[inside], scale[inside])
        if not stack.is_empty:
            raise FormatError("its entropy-coded data does not end where it should")
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def _encode_bridged(self, number: int, pixels: Pixels) -> bytes | None:
        coded: tuple[bytes, BlockStats] | None = encode_block(self._models(number), [pixels], self._tile)
        return None if coded is None else coded[0]

    def _decode_bridged(self, number: int, reader: Reader) -> Pixels:
        rect = self.regions[number]
        size = [Rect(0, 0, rect.height, rect.width)]
        return decode_block(self._models(number), reader.rest(), size, self._tile)[0]

    def _models(self, number: int) -> Models:
        """Return the chain below the tail level for the tiles of a region."""
        rect, walk = self.regions[number], self._walk
        block = walk.chain.transform.block
        rows, columns = _blocks(rect.top, rect.height, block), _blocks(rect.left, rect.width, block)
        where = Patch(rows, columns)
        law = walk.chain.law(walk.latents, where, walk.last)
        z_m = walk.latents[where.at]
        lattice = self._lattice()

        def models(batch: list[Tile]) -> BridgedLattice:
            places = [
                (_blocks(tile.rect.top, tile.rect.height, block), _blocks(tile.rect.left, tile.rect.width, block))
                for tile in batch
            ]
            return bridge_for(lattice, walk.last, z_m, law, places)

        return models


def _rect(pixels: tuple[slice, slice], height: int, width: int) -> Rect:
    """Return what of a patch lies in the picture without its padding."""
    rows, columns = pixels
    bottom, right = min(height, rows.stop), min(width, columns.stop)
    return Rect(rows.start, columns.start, bottom - rows.start, right - columns.start)


def _blocks(start: int, length: int, block: int) -> slice:
    """Return the blocks that hold pixels ``start`` to ``start + length - 1``."""
    return slice(start // block, -(-(start + length) // block))
