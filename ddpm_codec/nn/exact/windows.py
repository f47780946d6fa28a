"""Parts of pictures that the exact network is evaluated on side by side, with what it sees around each.

The network is a chain of convolutions, so that its output in a block of 8x8 pixels depends on at most ``reach`` pixels around
the block. A window is a rectangle of blocks and so much of the picture around them; where the picture ends, so does the
window. The integers in the rectangle are those of the whole picture.
"""

from typing import NamedTuple

from ddpm_codec.nn.codec_net import STRIDE
from ddpm_codec.workers import Workers

MOST_WORK = 0.65
"""A picture is cut only if no worker gets more than this share of its pixels, margins included: margins are work done twice,
and where other processes are busy the slowest worker takes about twice as long."""


class Span(NamedTuple):
    """A window in one direction.

    Attributes:
        wanted: the pixels that are its own, in the picture.
        seen: these and the margins, in the picture.
    """

    wanted: slice
    seen: slice

    @property
    def own(self) -> slice:
        """The pixels that are its own, in the window."""
        return slice(self.wanted.start - self.seen.start, self.wanted.stop - self.seen.start)

    @property
    def length(self) -> int:
        """How many pixels it sees."""
        return int(self.seen.stop - self.seen.start)


class Window(NamedTuple):
    """Some pictures of a batch, or a rectangle of one."""

    images: slice
    rows: Span
    columns: Span


def plan_windows(
    shape: tuple[int, int, int], reach: int, workers: Workers, most_pixels: int | None = None
) -> list[Window]:
    """Share pictures out to workers: some to each where there are enough, otherwise rectangles of each.

    Args:
        shape: (B, H, W), H and W multiples of 4.
        reach: pixels around a block of 8x8 that its output depends on, a multiple of 8.
        workers: who evaluates the windows.
        most_pixels: a window of several pictures has at most so many.
    """
    batch, height, width = shape
    if batch < workers.count:
        pieces = _grid(height, width, reach, workers.count // max(batch, 1))
        if pieces:
            return [Window(slice(one, one + 1), *piece) for one in range(batch) for piece in pieces]
    most = None if most_pixels is None else max(1, most_pixels // max(height * width, 1))
    rows, columns = (Span(slice(0, side), slice(0, side)) for side in (height, width))
    return [Window(images, rows, columns) for images in workers.shares(batch, most)]


def _grid(height: int, width: int, reach: int, count: int) -> list[tuple[Span, Span]]:
    """Return the grid of pieces that ``count`` workers have done first; none where no grid is worth its margins."""
    best: list[tuple[Span, Span]] = []
    least = MOST_WORK * height * width
    for down in range(1, count + 1):
        for across in range(1, count // down + 1):
            pieces = [(row, column) for row in _spans(height, down, reach) for column in _spans(width, across, reach)]
            work = max(row.length * column.length for row, column in pieces)
            if work < least:
                best, least = pieces, work
    return best


def _spans(side: int, count: int, reach: int) -> list[Span]:
    """Cut a side into at most ``count`` pieces of whole blocks, as even as they allow."""
    piece = max(STRIDE, -(-side // (count * STRIDE)) * STRIDE)
    starts = range(0, max(side, 1), piece)
    return [
        Span(slice(start, min(start + piece, side)), slice(max(0, start - reach), min(start + piece + reach, side)))
        for start in starts
    ]
