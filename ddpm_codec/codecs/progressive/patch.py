"""Patches: rectangles of a picture that are coded one after the other, so that memory stays within bounds."""

from dataclasses import dataclass
from types import EllipsisType

from ddpm_codec.coding.bits_back import PADDING

WHOLE_PIXELS = 1 << 20
"""A picture of at most so many pixels is one patch."""

PATCH_SIDE = 1024
"""Of a larger one, no patch is wider or higher."""


@dataclass(frozen=True)
class Patch:
    """A rectangle of blocks.

    Attributes:
        rows: of blocks.
        columns: of blocks.
    """

    rows: slice
    columns: slice

    @property
    def at(self) -> tuple[EllipsisType, slice, slice]:
        """Index into arrays whose last two axes are rows and columns of blocks."""
        return ..., self.rows, self.columns

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def pixels(self, block: int) -> tuple[slice, slice]:
        """Return the rows and columns of pixels."""
        return _scaled(self.rows, block), _scaled(self.columns, block)

    def widened(self, margin: int, shape: tuple[int, int]) -> "Patch":
        """Return the patch with ``margin`` more blocks on every side, within a picture of ``shape``."""
        return Patch(_widened(self.rows, margin, shape[0]), _widened(self.columns, margin, shape[1]))

    def within(self, outer: "Patch") -> "Patch":
        """Return where this patch lies in one that holds it."""
        return Patch(_moved(self.rows, outer.rows.start), _moved(self.columns, outer.columns.start))


def plan_patches(height: int, width: int, block: int) -> list[Patch]:
    """Return the patches of a picture whose sides are multiples of the block and of PADDING, row by row."""
    whole = height * width <= WHOLE_PIXELS
    rows, columns = (_cut(side, side if whole else PATCH_SIDE, block) for side in (height, width))
    return [Patch(row, column) for row in rows for column in columns]


def _cut(side: int, longest: int, block: int) -> list[slice]:
    """Cut a side of so many pixels into as few pieces as can be, as even as multiples of PADDING are."""
    count = -(-side // longest)
    piece = -(-side // (count * PADDING)) * PADDING
    return [slice(start // block, min(start + piece, side) // block) for start in range(0, side, piece)]


def _scaled(blocks: slice, block: int) -> slice:
    return slice(blocks.start * block, blocks.stop * block)


def _widened(blocks: slice, margin: int, end: int) -> slice:
    return slice(max(0, blocks.start - margin), min(end, blocks.stop + margin))


def _moved(blocks: slice, by: int) -> slice:
    return slice(blocks.start - by, blocks.stop - by)
