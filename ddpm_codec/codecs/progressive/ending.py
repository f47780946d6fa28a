"""The lossless end of a progressive file: x_0 given z_0, tile by tile, or the whole picture by the fallback.

A tile that has arrived is exact, whatever has become of the others. Its stream starts where no pixel is known: masked network
and residuals end at the tile. z_0 is known everywhere, so that the network that reads it sees up to MARGIN more pixels on
every side.

The section of a tile starts with a CRC of its pixels.
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.latents import noisy_picture
from ddpm_codec.codecs.pixel_code import Ints, Origin, PixelCode, Streams
from ddpm_codec.codecs.progressive.steps import MARGIN, UNIT, Latents, Patch, ProgressiveChain
from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.coding.bits_back import PADDING
from ddpm_codec.errors import FormatError

Pixels = NDArray[np.uint8]

_SAMPLE_KEY = 3 << 62
"""With the number of a tile, of the noise that ``sample`` draws it with."""

_SMALL_TILE = 1 << 14
"""Tiles with fewer pixels have a two-byte checksum."""


class Surroundings(NamedTuple):
    """z_0 around a rectangle, as the network reads it.

    Attributes:
        picture: int64 [1, 3, H, W].
        origin: row and column of the rectangle's first pixel in it.
    """

    picture: Ints
    origin: Origin


def surroundings(chain: ProgressiveChain, z_0: Latents, rect: Rect) -> Surroundings:
    """Return z_0 around a rectangle of pixels that starts at a multiple of the block.

    Args:
        chain: the chain.
        z_0: latents of the whole picture, [D, h, w].
        rect: the rectangle, without padding.
    """
    block = chain.transform.block
    rows, columns = _padded(rect.top, rect.height, block), _padded(rect.left, rect.width, block)
    outer = Patch(rows, columns).widened(MARGIN // block, (z_0.shape[1], z_0.shape[2]))
    picture = noisy_picture(chain.transform, np.ascontiguousarray(z_0[None][outer.at]), UNIT)
    return Surroundings(picture, (rect.top - outer.rows.start * block, rect.left - outer.columns.start * block))


def _padded(start: int, length: int, block: int) -> slice:
    """Return the blocks of a side that is padded to a multiple of PADDING."""
    return slice(start // block, (start + length + -length % PADDING) // block)


class TileEnd:
    """Codes the tiles of a picture whose z_0 is known.

    Args:
        chain: the chain.
        code: p(x_0 | z_0).
        size: (width, height) of the picture, without padding.
        tile: side of the tiles, a multiple of PADDING.

    Attributes:
        size: see above.
        tiles: the tiles, in the order of their sections.
    """

    def __init__(self, chain: ProgressiveChain, code: PixelCode, size: tuple[int, int], tile: int) -> None:
        self._chain, self._code, self.size = chain, code, size
        self.tiles: list[Rect] = Rect(0, 0, size[1], size[0]).cut(tile, tile)

    def encode(self, z_0: Latents, number: int, pixels: Pixels) -> bytes:
        """Return the section of a tile, given its pixels [H, W, 3]."""
        return pixel_checksum(pixels) + self.encode_stream(z_0, number, pixels)

    def encode_stream(self, z_0: Latents, number: int, pixels: Pixels) -> bytes:
        """Return the stream of a tile alone."""
        (stream,) = self._encoded(z_0, number, pixels).streams
        return stream

    def ideal_bits(self, z_0: Latents, number: int, pixels: Pixels) -> float:
        """Return the bits of a tile under p(x_0 | z_0)."""
        return float(self._encoded(z_0, number, pixels).bits.sum())

    def _encoded(self, z_0: Latents, number: int, pixels: Pixels) -> Streams:
        picture, origin = surroundings(self._chain, z_0, self.tiles[number])
        return self._code.encode(picture, np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]), origin)

    def decode(self, z_0: Latents, number: int, payload: bytes) -> Pixels:
        """Return the pixels of a tile, [H, W, 3], given its section.

        Raises:
            FormatError: the section is damaged, the network did not reproduce its output, or there is no such tile.
        """
        if number >= len(self.tiles):
            raise FormatError("it has extra sections after the picture is complete")
        count = checksum_bytes(self.tiles[number].pixels)
        pixels = self.decode_stream(z_0, number, payload[count:])
        if pixel_checksum(pixels) != payload[:count]:
            raise FormatError("its pixels do not match their checksum")
        return pixels

    def decode_stream(self, z_0: Latents, number: int, stream: bytes) -> Pixels:
        """Return the pixels of a tile, [H, W, 3], given its stream.

        Raises:
            FormatError: the stream is damaged.
        """
        rect = self.tiles[number]
        picture, origin = surroundings(self._chain, z_0, rect)
        pixels = self._code.decode(picture, (rect.height, rect.width), [stream], origin)
        return np.ascontiguousarray(pixels[0].transpose(1, 2, 0))

    def drawn(self, z_0: Latents, number: int) -> Pixels:
        """Return a tile as ``sample`` shows it, [H, W, 3], with noise that is the same on every machine."""
        rect = self.tiles[number]
        picture, origin = surroundings(self._chain, z_0, rect)
        noise = np.random.Philox(key=_SAMPLE_KEY | number)
        drawn: Pixels = self._code.sample(picture, (rect.height, rect.width), noise, origin)[0].transpose(1, 2, 0)
        return drawn

    def view(self, canvas: Pixels, number: int) -> Pixels:
        """Return the part of a picture [H, W, 3] that a tile covers."""
        rect = self.tiles[number]
        return canvas[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]


def pixel_checksum(pixels: Pixels) -> bytes:
    """Return the CRC of the pixels of a tile or a picture, [H, W, 3]; of few pixels only its low half."""
    count = checksum_bytes(pixels[..., 0].size)
    return (zlib.crc32(pixels.tobytes()) & ((1 << 8 * count) - 1)).to_bytes(count, "little")


def checksum_bytes(pixels: int) -> int:
    """Return the bytes of :func:`pixel_checksum` of so many pixels."""
    return 2 if pixels < _SMALL_TILE else 4
