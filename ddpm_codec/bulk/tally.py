"""How far a run is."""

from collections.abc import Callable
from typing import NamedTuple


class Tally(NamedTuple):
    """Work that has been done.

    Attributes:
        pictures: done, those that failed among them.
        dims: sub-pixels coded or decoded.
        file_bytes: of finished shards.
    """

    pictures: int = 0
    dims: int = 0
    file_bytes: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum."""
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


Said = Callable[[Tally], None]
"""Told what was done since it was last told."""
