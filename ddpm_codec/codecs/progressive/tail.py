r"""The tail of a progressive file: the sections that make it lossless.

At tail level 0 the pixels of each patch are coded with p(x_0 | z_0). At a higher level m the picture is cut into blocks, and
each is coded with bits-back below that level. Given z_m, which both sides know, the forward chain below it is a Gaussian
bridge: with tau = sigma^2 and s < t < m,

    q(z_t | z_s, z_m) = N( z_s + (tau_t - tau_s) / (tau_m - tau_s) (z_m - z_s),
                           (tau_t - tau_s) (tau_m - tau_t) / (tau_m - tau_s) ),

with z = y_0 and tau = 0 for the first z_s; p is that of the model, and p(z_{m-1} | z_m) replaces the prior.

A tail section completes a region of the picture. It starts with a CRC of the region's pixels.
"""

import zlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.block import BlockStats, Models, decode_block, encode_block
from ddpm_codec.codecs.latents import DiffusionLattice, rounded
from ddpm_codec.codecs.progressive.steps import UNIT, Latents, Patch, StepLaw
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.tiling import Rect, Tile, split_regions
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader

Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]
Indices = NDArray[np.int32]

_ONE = float(1 << MEAN_BITS)

_SMALL_REGION = 1 << 14
"""Regions with fewer pixels have a two-byte checksum."""

_WORD_BYTES = 4


class BridgedLattice:
    """:class:`~ddpm_codec.coding.bits_back.LatticeModel` of levels 0 to m - 1 of a chain, given z_m.

    Args:
        lattice: lattice model of the whole chain.
        level: m, at least 1.
        z_m: latents, [B, D, h, w].
        mean: mean of p(z_{m-1} | z_m) in units of latents, [B, D, h, w].
        spread: its standard deviation, by index.
        index: index into ``spread``, [B, D, h, w].
    """

    def __init__(
        self,
        lattice: DiffusionLattice,
        level: int,
        z_m: Latents,
        mean: Ints,
        spread: NDArray[np.float64],
        index: NDArray[np.integer],
    ) -> None:
        self.steps = level - 1
        self._lattice = lattice
        self._tau = lattice.sigmas * lattice.sigmas
        self._end = float(self._tau[level])
        self._z_m = z_m * UNIT
        delta = lattice.unit(self.steps)
        self._mean = rounded(mean * (UNIT / delta * _ONE))
        self._scale = LATTICE_GRID.index(spread * (UNIT / delta)).astype(np.int32)[index]

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See :class:`~ddpm_codec.coding.bits_back.LatticeModel`."""
        return self._lattice.latent_shape(shape)

    def encode_mean(self, x0: NDArray[np.uint8]) -> Ints:
        """Return the mean of n_0 given padded pictures [B, 3, H, W]."""
        delta = self._lattice.unit(0)
        y_0 = self._lattice.encode_mean(x0) * (delta / _ONE)
        return self._bridged(y_0, 0.0, 0)

    def forward_scale(self, level: int) -> float:
        """Return the scale of q(n_level | n_{level-1}, z_m); at level 0, of q(n_0 | x_0, z_m)."""
        start = float(self._tau[level - 1]) if level else 0.0
        here = float(self._tau[level])
        variance = (here - start) * (self._end - here) / (self._end - start)
        return float(np.sqrt(variance) / self._lattice.unit(level))

    def forward_mean(self, n_prev: Latents, level: int) -> Ints:
        """Return the mean of n_level given n_{level-1}."""
        return self._bridged(n_prev * self._lattice.unit(level - 1), float(self._tau[level - 1]), level)

    def likelihood(self, n_0: Latents) -> tuple[Ints, Indices]:
        """Return means and scale indices of p(x_0 | n_0)."""
        return self._lattice.likelihood(n_0)

    def reverse(self, n_t: Latents, level: int) -> tuple[Ints, Indices]:
        """Return means and scale indices of p(n_{level-1} | n_level)."""
        return self._lattice.reverse(n_t, level)

    def prior(self, _shape: tuple[int, ...]) -> tuple[Ints, Indices]:
        """Return means and scale indices of p(n_{m-1} | z_m)."""
        return self._mean, self._scale

    def _bridged(self, z_s: NDArray[np.floating[Any]], start: float, level: int) -> Ints:
        share = (float(self._tau[level]) - start) / (self._end - start)
        z_t = z_s + share * (self._z_m - z_s)
        return rounded(z_t * (_ONE / self._lattice.unit(level)))


def bridge_for(
    lattice: DiffusionLattice, level: int, z_m: Latents, law: StepLaw, places: list[tuple[slice, slice]]
) -> BridgedLattice:
    """Return the lattice model for tiles of equal shape.

    Args:
        lattice: lattice model of the whole chain.
        level: m.
        z_m: latents of the picture, [D, h, w].
        law: p(z_{m-1} | z_m) of the picture.
        places: rows and columns of blocks of each tile.
    """
    cut = [np.stack([values[:, rows, columns] for rows, columns in places]) for values in (z_m, law.mean, law.index)]
    return BridgedLattice(lattice, level, cut[0], cut[1], law.spread, cut[2])


class Tail:
    """Codes the sections after a finished walk.

    Args:
        walk: the finished walk.
        size: (width, height) of the picture, without padding.
        tile: side of the tiles.
        block_pixels: pixels per block.
    """

    def __init__(
        self,
        walk: Walk,
        size: tuple[int, int],
        tile: int,
        block_pixels: int,
    ) -> None:
        self._walk, self._tile = walk, tile
        width, height = size
        if walk.last:
            self.regions = split_regions(width, height, block_pixels, tile)
        else:
            block = walk.chain.transform.block
            self.regions = [_rect(patch.pixels(block), height, width) for patch in walk.patches]

    @cached_property
    def _lattice(self) -> DiffusionLattice:
        return DiffusionLattice(self._walk.chain.grey)

    def encode(self, number: int, pixels: Pixels) -> bytes | None:
        """Encode the pixels of a region, [H, W, 3]; return None if it is too small for bits-back."""
        body = self._encode_direct(number, pixels) if not self._walk.last else self._encode_bridged(number, pixels)
        return None if body is None else self._checksum(number, pixels) + body

    def decode(self, number: int, reader: Reader) -> Pixels:
        """Decode the pixels of a region.

        Raises:
            FormatError: the payload is damaged, or the network did not reproduce its output.
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
        # The last word of a stack is never zero, and usually small.
        return stack.to_bytes().rstrip(b"\0")

    def _decode_direct(self, number: int, reader: Reader) -> Pixels:
        rect = self.regions[number]
        mean, scale = self._walk.chain.pixel_law(self._walk.latents, self._walk.patches[number])
        body = reader.rest()
        # If every pixel is the first of its table, as in black pictures, the stack is empty.
        stack = Stack.from_bytes(body + bytes(-len(body) % _WORD_BYTES)) if body else Stack.empty()
        inside = np.s_[:, : rect.height, : rect.width]
        pixels = stack.pop_pixels(mean[inside], scale[inside])
        if not stack.is_empty:
            raise FormatError("its entropy-coded data has the wrong length")
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def _encode_bridged(self, number: int, pixels: Pixels) -> bytes | None:
        coded: tuple[bytes, BlockStats] | None = encode_block(self._models(number), [pixels], self._tile)
        return None if coded is None else coded[0]

    def _decode_bridged(self, number: int, reader: Reader) -> Pixels:
        rect = self.regions[number]
        size = [Rect(0, 0, rect.height, rect.width)]
        return decode_block(self._models(number), reader.rest(), size, self._tile)[0]

    def _models(self, number: int) -> Models:
        """Return the lattice model below the tail level for the tiles of a region."""
        rect, walk = self.regions[number], self._walk
        block = walk.chain.transform.block
        rows, columns = _blocks(rect.top, rect.height, block), _blocks(rect.left, rect.width, block)
        where = Patch(rows, columns)
        law = walk.chain.law(walk.latents, where, walk.last)
        z_m = walk.latents[where.at]
        lattice = self._lattice

        def models(batch: list[Tile]) -> BridgedLattice:
            places = [
                (_blocks(tile.rect.top, tile.rect.height, block), _blocks(tile.rect.left, tile.rect.width, block))
                for tile in batch
            ]
            return bridge_for(lattice, walk.last, z_m, law, places)

        return models


def _rect(pixels: tuple[slice, slice], height: int, width: int) -> Rect:
    """Return the part of a patch inside the picture without padding."""
    rows, columns = pixels
    bottom, right = min(height, rows.stop), min(width, columns.stop)
    return Rect(rows.start, columns.start, bottom - rows.start, right - columns.start)


def _blocks(start: int, length: int, block: int) -> slice:
    """Return the blocks that contain pixels ``start`` to ``start + length - 1``."""
    return slice(start // block, -(-(start + length) // block))
