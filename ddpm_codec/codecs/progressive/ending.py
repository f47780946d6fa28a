"""The lossless end of a progressive file: x_0 given z_0, tile by tile, or the whole picture by the fallback.

A tile that has arrived is exact, whatever has become of the others. Its stream starts where no pixel is known: masked network
and residuals end at the tile. z_0 is known everywhere, so that the network that reads it sees up to MARGIN more pixels on
every side.

The section of a tile starts with a CRC of its pixels.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixel_code import Origin, PixelCode, PixelsGiven, Streams
from ddpm_codec.codecs.progressive.steps import MARGIN, UNIT, Latents, Patch, ProgressiveChain
from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.coding.bits_back import PADDING
from ddpm_codec.errors import FormatError
from ddpm_codec.workers import Workers

Pixels = NDArray[np.uint8]

_SAMPLE_KEY = 3 << 62
"""With the number of a tile, of the noise that ``sample`` draws it with."""

_SMALL_TILE = 1 << 14
"""Tiles with fewer pixels have a two-byte checksum."""

TOGETHER = 1024
"""Side of the squares of a picture whose tiles the network sees at once, in pixels: as large as a patch, so that memory stays
bounded."""

Task = TypeVar("Task")
Result = TypeVar("Result")


class Surroundings(NamedTuple):
    """p(x_0 | z_0) of a rectangle, from z_0 in it and around it.

    Attributes:
        given: of all that the network saw.
        origin: row and column of the rectangle's first pixel in it.
    """

    given: PixelsGiven
    origin: Origin


def surroundings(chain: ProgressiveChain, code: PixelCode, z_0: Latents, rect: Rect) -> Surroundings:
    """Return p(x_0 | z_0) of a rectangle of pixels that starts at a multiple of the block.

    Args:
        chain: the chain.
        code: p(x_0 | z_0).
        z_0: latents of the whole picture, [D, h, w].
        rect: the rectangle, without padding.
    """
    block = chain.transform.block
    rows, columns = _padded(rect.top, rect.height, block), _padded(rect.left, rect.width, block)
    outer = Patch(rows, columns).widened(MARGIN // block, (z_0.shape[1], z_0.shape[2]))
    picture = chain.grey.noisy(np.ascontiguousarray(z_0[None][outer.at]), UNIT)
    return Surroundings(
        code.given(picture), (rect.top - outer.rows.start * block, rect.left - outer.columns.start * block)
    )


def _padded(start: int, length: int, block: int) -> slice:
    """Return the blocks of a side that is padded to a multiple of PADDING."""
    return slice(start // block, (start + length + -length % PADDING) // block)


class TileEnd:
    """Codes the tiles of a picture whose z_0 is known.

    A network of known reach sees neighbouring tiles at once: their margins lie inside what it sees, or are as wide as those
    of a tile alone, so that the integers are the same.

    Args:
        chain: the chain.
        code: p(x_0 | z_0).
        size: (width, height) of the picture, without padding.
        tile: side of the tiles, a multiple of PADDING.
        workers: code tiles side by side; None: one after the other, in the calling thread.

    Attributes:
        size: see above.
        tiles: the tiles, in the order of their sections.
    """

    def __init__(
        self,
        chain: ProgressiveChain,
        code: PixelCode,
        size: tuple[int, int],
        tile: int,
        workers: Workers | None = None,
    ) -> None:
        self._chain, self._code, self.size, self._workers = chain, code, size, workers
        self.tiles: list[Rect] = Rect(0, 0, size[1], size[0]).cut(tile, tile)
        together = code.reach is not None and code.reach <= MARGIN
        self._side = max(1, TOGETHER // tile) * tile if together else tile

    def encode(self, z_0: Latents, pixels: Pixels) -> list[bytes]:
        """Return the streams of all tiles, given the pixels of the picture, [H, W, 3]."""
        return [stream for coded in self._encoded(z_0, pixels) for stream in coded.streams]

    def ideal_bits(self, z_0: Latents, pixels: Pixels) -> float:
        """Return the bits of all tiles under p(x_0 | z_0), given the pixels of the picture."""
        return float(sum(coded.bits.sum() for coded in self._encoded(z_0, pixels)))

    def _encoded(self, z_0: Latents, pixels: Pixels) -> list[Streams]:
        def encode(number: int, given: PixelsGiven, origin: Origin) -> Streams:
            tile = self.view(pixels, number).transpose(2, 0, 1)[None]
            return given.encode(np.ascontiguousarray(tile), origin)

        return self._each(z_0, range(len(self.tiles)), encode)

    def decode(self, z_0: Latents, streams: Mapping[int, bytes]) -> dict[int, Pixels | FormatError]:
        """Return the pixels of tiles, [H, W, 3], or what is wrong with their streams.

        Args:
            z_0: latents of the whole picture, [D, h, w].
            streams: by number of the tile.
        """

        def decode(number: int, given: PixelsGiven, origin: Origin) -> Pixels | FormatError:
            rect = self.tiles[number]
            try:
                pixels = given.decode((rect.height, rect.width), [streams[number]], origin)
            except FormatError as error:
                return error
            return np.ascontiguousarray(pixels[0].transpose(1, 2, 0))

        return dict(zip(streams, self._each(z_0, list(streams), decode), strict=True))

    def drawn(self, z_0: Latents) -> Pixels:
        """Return the picture as ``sample`` shows it, [H, W, 3], with noise that is the same on every machine."""

        def draw(number: int, given: PixelsGiven, origin: Origin) -> Pixels:
            rect, noise = self.tiles[number], np.random.Philox(key=_SAMPLE_KEY | number)
            pixels: Pixels = given.sample((rect.height, rect.width), noise, origin)[0].transpose(1, 2, 0)
            return pixels

        canvas = np.empty((self.size[1], self.size[0], 3), np.uint8)
        for number, pixels in enumerate(self._each(z_0, range(len(self.tiles)), draw)):
            self.view(canvas, number)[:] = pixels
        return canvas

    def view(self, canvas: Pixels, number: int) -> Pixels:
        """Return the part of a picture [H, W, 3] that a tile covers."""
        rect = self.tiles[number]
        return canvas[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]

    def _each(
        self, z_0: Latents, numbers: Sequence[int], function: Callable[[int, PixelsGiven, Origin], Result]
    ) -> list[Result]:
        """Return a function of tiles, of what is given there and of their places in it, in the order of the tiles."""
        found: dict[int, Result] = {}

        def whole_group(group: list[int]) -> None:
            around = _around([self.tiles[number] for number in group])
            given, (top, left) = surroundings(self._chain, self._code, z_0, around)

            def one(number: int) -> Result:
                rect = self.tiles[number]
                return function(number, given, (top + rect.top - around.top, left + rect.left - around.left))

            found.update(zip(group, self._mapped(one, group), strict=True))

        groups = self._groups(numbers)
        if max(map(len, groups), default=0) > 1:
            # One after the other: the workers share each of them out, and memory stays bounded.
            for group in groups:
                whole_group(group)
        else:
            self._mapped(whole_group, groups)
        return [found[number] for number in numbers]

    def _groups(self, numbers: Sequence[int]) -> list[list[int]]:
        """Return the tiles that the network sees at once."""
        groups: dict[tuple[int, int], list[int]] = {}
        for number in numbers:
            rect = self.tiles[number]
            groups.setdefault((rect.top // self._side, rect.left // self._side), []).append(number)
        return list(groups.values())

    def _mapped(self, function: Callable[[Task], Result], tasks: list[Task]) -> list[Result]:
        return [function(task) for task in tasks] if self._workers is None else self._workers.map(function, tasks)


def _around(rects: Sequence[Rect]) -> Rect:
    """Return the smallest rectangle that holds some."""
    top, left = min(rect.top for rect in rects), min(rect.left for rect in rects)
    bottom, right = max(rect.top + rect.height for rect in rects), max(rect.left + rect.width for rect in rects)
    return Rect(top, left, bottom - top, right - left)


def pixel_checksum(pixels: Pixels) -> bytes:
    """Return the CRC of the pixels of a tile or a picture, [H, W, 3]; of few pixels only its low half."""
    count = checksum_bytes(pixels[..., 0].size)
    return (zlib.crc32(pixels.tobytes()) & ((1 << 8 * count) - 1)).to_bytes(count, "little")


def checksum_bytes(pixels: int) -> int:
    """Return the bytes of :func:`pixel_checksum` of so many pixels."""
    return 2 if pixels < _SMALL_TILE else 4
