"""What a run tells while it works."""

from collections.abc import Callable
from typing import NamedTuple


class Standing(NamedTuple):
    """How far a run is.

    Attributes:
        pictures: done, those of earlier runs and those that failed among them.
        total: pictures in all.
        dims: sub-pixels coded or decoded by this run.
        coded_bytes: bytes of the shards that this run has finished.
        coded_dims: sub-pixels in them.
    """

    pictures: int
    total: int
    dims: int = 0
    coded_bytes: int = 0
    coded_dims: int = 0


Progress = Callable[[Standing], None]
"""Told about twice a second."""
