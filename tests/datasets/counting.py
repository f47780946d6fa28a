"""What a worker of a ``DataLoader`` says of itself, beside the pictures; its process imports this module."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch.utils.data import get_worker_info

from ddpm_codec.datasets import Archives
from ddpm_codec.picture import PictureInfo


class Report(NamedTuple):
    """A batch: the worker that made it, the blocks it has decoded by then, and its items."""

    worker: int
    decoded_blocks: int
    items: list[Any]


def report(items: Sequence[Any]) -> Report:
    """Collate."""
    found = get_worker_info()
    assert found is not None
    assert isinstance(found.dataset, Archives)
    return Report(found.id, found.dataset.decoded_blocks, list(items))


def seed_of(info: PictureInfo) -> int:
    """Return the number in a picture's name."""
    return int(info.name.removesuffix(".png"))


def decoded_by_all(reports: Sequence[Report]) -> int:
    """Return the blocks that all workers decoded together."""
    return sum(
        max(one.decoded_blocks for one in reports if one.worker == worker) for worker in {r.worker for r in reports}
    )
