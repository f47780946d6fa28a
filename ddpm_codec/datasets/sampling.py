"""Orders of a data set in which each block is decoded once an epoch.

Blocks are shuffled; a window of a few of them is open at a time, and the pictures inside are shuffled. Since a window's
blocks fit into the memory that a data set keeps, no block is decoded again. Where the order is cut, for the ranks of
distributed training or for workers, the cuts fall anywhere, so that parts are equally long; a block on a cut is decoded on
both sides of it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import Sampler, Subset

from ddpm_codec.datasets.archives import Archives
from ddpm_codec.errors import InputError

Indices = NDArray[np.int64]


class BlockShuffle(Sampler[int]):
    """Shuffles blocks, and the pictures of a few blocks together: ``DataLoader(dataset, sampler=BlockShuffle(dataset))``.

    Made for one worker, or none: several would each decode every block, see :class:`BlockBatches`.

    Args:
        dataset: :class:`Archives`, or a ``torch.utils.data.Subset`` of one.
        blocks: whose pictures are shuffled together; more mix better and take more memory.
        seed: of the order, together with the epoch.
        rank: number of this process; None: that of ``torch.distributed`` where it is initialised, else 0.
        world_size: number of processes, which get disjoint pictures; None: likewise, else 1.
        even: give every process equally many, so that up to ``world_size - 1`` pictures are left out, others in each epoch.
            Otherwise the first processes have one more.

    Raises:
        InputError: an option is out of range, or so many blocks do not fit into the data set's ``cached_pixels``.
        TypeError: ``dataset`` is neither.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import ddpm_codec
        >>> from ddpm_codec.datasets import Archives, BlockShuffle
        >>> folder = tempfile.TemporaryDirectory()
        >>> pictures = {f"{index}.png": np.zeros((8, 8, 3), np.uint8) for index in range(12)}
        >>> data = ddpm_codec.encode_archive(pictures, model="none", block_pixels=4 * 8 * 8)
        >>> _ = Path(folder.name, "train.ddpm").write_bytes(data)
        >>> dataset = Archives(folder.name)
        >>> sampler = BlockShuffle(dataset, blocks=2)
        >>> sampler.set_epoch(1)
        >>> order = list(sampler)
        >>> sorted(order) == list(range(12)), len({int(block) for block in dataset.blocks[order[:8]]})
        (True, 2)
        >>> folder.cleanup()
    """

    def __init__(
        self,
        dataset: "Archives | Subset[Any]",
        *,
        blocks: int = 4,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool = True,
    ) -> None:
        self._plan = _Plan(dataset, blocks, seed, _ranks(rank, world_size), even=even, shuffle=True)

    def __len__(self) -> int:
        return self._plan.count

    def __iter__(self) -> Iterator[int]:
        (order,) = self._plan.streams([self._plan.count])
        for start in range(0, len(order), _YIELDED):
            yield from order[start : start + _YIELDED].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; without it, every epoch has the same.

        Raises:
            InputError: it is negative, or no integer.
        """
        self._plan.epoch = _checked("epoch", epoch, 0)


class BlockBatches(Sampler[list[int]]):
    """Batches whose blocks stay with one worker: ``DataLoader(dataset, batch_sampler=BlockBatches(...), num_workers=N)``.

    A ``DataLoader`` gives batch j to worker j mod N (with ``in_order=True``, its default). So the order of
    :class:`BlockShuffle` is cut into N parts of equally many batches, and batch j is the next of part j mod N. Over all
    workers an epoch decodes at most N - 1 blocks more than there are, those on the cuts.

    Args:
        dataset: see :class:`BlockShuffle`.
        batch_size: pictures a batch.
        num_workers: that of the ``DataLoader``; with another number the pictures are the same, but blocks are decoded by
            several workers.
        blocks: see :class:`BlockShuffle`; each worker has so many open.
        seed: see :class:`BlockShuffle`.
        rank: see :class:`BlockShuffle`.
        world_size: see :class:`BlockShuffle`.
        even: see :class:`BlockShuffle`.
        drop_last: leave out a last batch that is not full; the pictures in it differ from epoch to epoch.
        shuffle: False for the order of the files, block by block, in each of the parts.

    Raises:
        InputError: see :class:`BlockShuffle`.
        TypeError: see :class:`BlockShuffle`.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import ddpm_codec
        >>> from ddpm_codec.datasets import Archives, BlockBatches
        >>> folder = tempfile.TemporaryDirectory()
        >>> pictures = {f"{index}.png": np.zeros((8, 8, 3), np.uint8) for index in range(12)}
        >>> data = ddpm_codec.encode_archive(pictures, model="none", block_pixels=3 * 8 * 8)
        >>> _ = Path(folder.name, "train.ddpm").write_bytes(data)
        >>> list(BlockBatches(Archives(folder.name), 3, num_workers=2, shuffle=False))
        [[0, 1, 2], [6, 7, 8], [3, 4, 5], [9, 10, 11]]
        >>> folder.cleanup()
    """

    def __init__(
        self,
        dataset: "Archives | Subset[Any]",
        batch_size: int,
        *,
        num_workers: int,
        blocks: int = 4,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool = True,
        drop_last: bool = False,
        shuffle: bool = True,
    ) -> None:
        self._size = _checked("batch_size", batch_size, 1)
        self._parts = max(1, _checked("num_workers", num_workers, 0))
        self._plan = _Plan(dataset, blocks, seed, _ranks(rank, world_size), even=even, shuffle=shuffle)
        self._drop_last = drop_last

    def __len__(self) -> int:
        count = self._plan.count
        return count // self._size if self._drop_last else -(-count // self._size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = len(self)
        if not batches:
            return
        lengths = [len(range(part, batches, self._parts)) * self._size for part in range(self._parts)]
        # The last batch, which may not be full, is the last of its part as well.
        lengths[(batches - 1) % self._parts] -= max(0, batches * self._size - self._plan.count)
        streams = self._plan.streams(lengths)
        for number in range(batches):
            start = number // self._parts * self._size
            yield streams[number % self._parts][start : start + self._size].tolist()

    def set_epoch(self, epoch: int) -> None:
        """See :meth:`BlockShuffle.set_epoch`."""
        self._plan.epoch = _checked("epoch", epoch, 0)


_YIELDED = 1 << 12
"""Indices that become Python's integers at a time."""


class _Plan:
    """The order of one process's pictures.

    Attributes:
        count: its pictures an epoch.
        epoch: the epoch.
    """

    def __init__(
        self,
        dataset: "Archives | Subset[Any]",
        blocks: int,
        seed: int,
        ranks: tuple[int, int],
        *,
        even: bool,
        shuffle: bool,
    ) -> None:
        archives, chosen = _resolved(dataset)
        self._window = _checked("blocks", blocks, 1)
        self._seed, self._shuffle, self.epoch = _checked("seed", seed, 0), shuffle, 0
        self._blocks = np.unique(archives.blocks[chosen], return_inverse=True)[1].astype(np.int64)
        self._rank, world_size = ranks
        each, over = divmod(len(chosen), world_size)
        extra = 0 if even else over
        self._first = self._rank * each + min(self._rank, extra)
        self.count = each + (self._rank < extra)
        _check_memory(archives, self._window if shuffle else 1)

    def streams(self, lengths: list[int]) -> list[Indices]:
        """Cut the order of the epoch into parts and shuffle each in its windows; return the indices into the data set.

        Args:
            lengths: of the parts; together at most ``count``, the rest is left out.
        """
        order, places = self._in_block_order()
        rng = np.random.default_rng([self._seed, self.epoch, self._rank])
        ends = self._first + np.cumsum(lengths)
        cuts = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        if not self._shuffle:
            return [order[cut] for cut in cuts]
        return [_mixed(order[cut], places[cut], self._window, rng) for cut in cuts]

    def _in_block_order(self) -> tuple[Indices, Indices]:
        """Return all pictures, block after block, and the place of each one's block in the order; equal in all processes."""
        places = self._blocks
        if self._shuffle:
            rng = np.random.default_rng([self._seed, self.epoch])
            places = rng.permutation(places.max() + 1)[places]
            # Within a block in any order, so that a cut divides it at random.
            order = np.lexsort((rng.random(len(places)), places))
        else:
            order = np.argsort(places, kind="stable")
        return order, places[order]


def _mixed(order: Indices, places: Indices, window: int, rng: np.random.Generator) -> Indices:
    """Shuffle pictures inside windows of so many blocks."""
    nth_block = np.cumsum(np.diff(places, prepend=places[:1]) != 0)
    mixed: Indices = order[np.lexsort((rng.random(len(order)), nth_block // window))]
    return mixed


def _resolved(dataset: "Archives | Subset[Any]") -> tuple[Archives, Indices]:
    """Return the data set behind subsets, and which of its pictures are in them."""
    if isinstance(dataset, Archives):
        return dataset, np.arange(len(dataset))
    if not isinstance(dataset, Subset):
        raise TypeError(f"expected Archives, or a Subset of one, not {type(dataset).__name__}")
    archives, inner = _resolved(dataset.dataset)  # type: ignore[arg-type]  # checked there
    chosen: Indices = inner[np.asarray(dataset.indices, np.int64)]
    if not len(chosen):
        raise InputError("the subset has no pictures")
    return archives, chosen


def _check_memory(archives: Archives, blocks: int) -> None:
    """Check that a data set keeps any so many blocks; those of one picture are not used again."""
    if blocks == 1:
        # The last one is always kept.
        return
    pixels = np.bincount(archives.blocks, [info.pixel_count for info in archives.infos])
    shared = pixels[np.bincount(archives.blocks) > 1]
    needed = int(np.sort(shared)[-blocks:].sum())
    if needed > archives.cached_pixels:
        raise InputError(
            f"blocks = {blocks}: so many blocks have up to {needed:,} pixels, and the data set keeps "
            f"{archives.cached_pixels:,}; use fewer, or Archives(..., cached_pixels={needed})"
        )


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    initialised = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = torch.distributed.get_rank() if initialised else 0
    if world_size is None:
        world_size = torch.distributed.get_world_size() if initialised else 1
    _checked("world_size", world_size, 1)
    if _checked("rank", rank, 0) >= world_size:
        raise InputError(f"rank = {rank}: must be less than world_size = {world_size}")
    return rank, world_size


def _checked(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} = {value!r}: must be an integer, {least} or more")
    return value
