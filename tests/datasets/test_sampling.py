"""Orders: every picture once, every block decoded once, whatever the epoch, the ranks and the workers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset

from ddpm_codec.datasets import Archives, BlockBatches, BlockShuffle
from ddpm_codec.errors import InputError
from tests.datasets.conftest import BLOCKS, COUNTS, PER_BLOCK, SIDE

TOTAL = sum(COUNTS)
BLOCK_PIXELS = PER_BLOCK * SIDE * SIDE


def flat(lists: list[list[int]]) -> list[int]:
    return [index for one in lists for index in one]


def decoded(dataset: Archives, order: list[int]) -> int:
    """Return how many blocks an order decodes with nothing kept from before."""
    before = dataset.decoded_blocks
    for index in order:
        dataset[index]
    return dataset.decoded_blocks - before


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_an_epoch_decodes_each_block_once_in_the_memory_of_a_window(shards: Path, blocks: int) -> None:
    dataset = Archives(shards, cached_pixels=blocks * BLOCK_PIXELS)
    sampler = BlockShuffle(dataset, blocks=blocks)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(TOTAL))
        assert len(sampler) == TOTAL
        # What the last window of the epoch before has left may be used again.
        assert BLOCKS - blocks <= decoded(dataset, order) <= BLOCKS
    assert decoded(Archives(shards, cached_pixels=blocks * BLOCK_PIXELS), list(sampler)) == BLOCKS


def test_a_full_shuffle_in_the_same_memory_decodes_many_more(shards: Path) -> None:
    dataset = Archives(shards, cached_pixels=2 * BLOCK_PIXELS)
    assert decoded(dataset, np.random.default_rng(0).permutation(TOTAL).tolist()) > 2 * BLOCKS


def test_the_order_belongs_to_seed_and_epoch(dataset: Archives) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BlockShuffle(dataset, seed=seed)
        sampler.set_epoch(epoch)
        assert list(sampler) == list(sampler)
        return list(sampler)

    assert order(0, 0) == list(BlockShuffle(dataset)) == order(0, 0)
    different = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(different) == 9


def test_every_picture_comes_first_equally_often(dataset: Archives) -> None:
    """A block's chance does not depend on its size: the first picture is one of 9 blocks, then one of those in a window."""
    sampler, first = BlockShuffle(dataset, blocks=1), []
    epochs = 3000
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        first.append(next(iter(sampler)))
    counts = np.bincount(first, minlength=TOTAL)
    expected = epochs / BLOCKS / np.bincount(dataset.blocks)[dataset.blocks]
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # 40 degrees of freedom: mean 40, standard deviation sqrt(80); five of them.
    assert chi_square < 40 + 5 * math.sqrt(80)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_share_an_epoch(dataset: Archives, world_size: int) -> None:
    each, over = divmod(TOTAL, world_size)
    assert over
    left_out: list[set[int]] = []
    for epoch in range(2):
        parts: dict[bool, list[list[int]]] = {True: [], False: []}
        for even in parts:
            for rank in range(world_size):
                sampler = BlockShuffle(dataset, rank=rank, world_size=world_size, even=even)
                sampler.set_epoch(epoch)
                parts[even].append(list(sampler))
                assert len(sampler) == len(parts[even][-1])
        assert [len(part) for part in parts[True]] == [each] * world_size
        assert [len(part) for part in parts[False]] == [each + 1] * over + [each] * (world_size - over)
        assert sorted(flat(parts[False])) == list(range(TOTAL))
        found = set(flat(parts[True]))
        assert len(found) == each * world_size
        left_out.append(set(range(TOTAL)) - found)
        blocks = [set(dataset.blocks[part].tolist()) for part in parts[False]]
        assert sum(map(len, blocks)) <= BLOCKS + world_size - 1
    assert left_out[0] != left_out[1]


def test_ranks_are_those_of_torch_distributed(dataset: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(BlockShuffle(dataset, rank=1, world_size=3))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    assert list(BlockShuffle(dataset)) == expected
    assert len(BlockShuffle(dataset, rank=0, world_size=1)) == TOTAL


@given(
    batch_size=st.integers(1, 12),
    num_workers=st.integers(0, 5),
    blocks=st.integers(1, 4),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 3),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    chosen=st.sets(st.integers(0, TOTAL - 1), min_size=1),
)
def test_batches_keep_blocks_with_one_worker(
    shards: Path,
    batch_size: int,
    num_workers: int,
    blocks: int,
    world_size: int,
    epoch: int,
    flags: tuple[bool, bool, bool],
    chosen: set[int],
) -> None:
    even, drop_last, shuffle = flags
    dataset, indices = _dataset(shards), sorted(chosen)
    used = np.unique(dataset.blocks[indices])
    workers, seen, visits = max(1, num_workers), [], 0
    for rank in range(world_size):
        batches = BlockBatches(
            Subset(dataset, indices),
            batch_size,
            num_workers=num_workers,
            blocks=blocks,
            rank=rank,
            world_size=world_size,
            even=even,
            drop_last=drop_last,
            shuffle=shuffle,
        )
        batches.set_epoch(epoch)
        found = list(batches)
        assert len(batches) == len(found)
        assert all(len(batch) == batch_size for batch in found[:-1])
        assert not found or 1 <= len(found[-1]) <= batch_size
        whole = len(indices) // world_size + (not even and rank < len(indices) % world_size)
        assert sum(map(len, found)) == (whole // batch_size * batch_size if drop_last else whole)
        seen += flat(found)
        for worker in range(workers):
            visits += _visits([dataset.blocks[indices[i]] for batch in found[worker::workers] for i in batch], blocks)
    assert len(set(seen)) == len(seen)
    # Each cut, between ranks or between workers, divides at most one block.
    assert visits <= len(used) + world_size * workers - 1


def _visits(blocks_in_order: list[Any], kept: int) -> int:
    """Return how often a block is decoded when the ``kept`` used last are kept."""
    memory: list[int] = []
    count = 0
    for block in blocks_in_order:
        count += block not in memory
        memory = [*(other for other in memory if other != block), block][-kept:]
    return count


_DATASETS: dict[Path, Archives] = {}


def _dataset(shards: Path) -> Archives:
    if shards not in _DATASETS:
        _DATASETS[shards] = Archives(shards)
    return _DATASETS[shards]


def test_unshuffled_batches_of_one_worker_are_the_order_of_the_files(dataset: Archives) -> None:
    batches = list(BlockBatches(dataset, 6, num_workers=0, shuffle=False))
    assert flat(batches) == list(range(TOTAL))
    assert [len(batch) for batch in batches] == [6] * 6 + [5]


def test_a_window_that_does_not_fit_into_memory_is_refused(shards: Path) -> None:
    dataset = Archives(shards, cached_pixels=3 * BLOCK_PIXELS - 1)
    line = rf"blocks = 3: .* up to {3 * BLOCK_PIXELS:,} pixels, .* {3 * BLOCK_PIXELS - 1:,}; .*={3 * BLOCK_PIXELS}\)"
    with pytest.raises(InputError, match=line):
        BlockShuffle(dataset, blocks=3)
    assert len(BlockShuffle(dataset, blocks=2)) == TOTAL
    assert len(BlockBatches(dataset, 4, num_workers=1, blocks=3, shuffle=False)) == 11
    assert len(BlockShuffle(Archives(shards, cached_pixels=0), blocks=1)) == TOTAL


def test_options_out_of_range_are_refused(dataset: Archives) -> None:
    for options in (
        {"blocks": 0},
        {"seed": -1},
        {"rank": 2, "world_size": 2},
        {"rank": -1},
        {"world_size": 0},
        {"blocks": True},
    ):
        with pytest.raises(InputError, match="must be"):
            BlockShuffle(dataset, **options)
    for batch_size, num_workers in ((0, 1), (4, -1), (1.5, 0)):
        with pytest.raises(InputError, match="must be an integer"):
            BlockBatches(dataset, batch_size, num_workers=num_workers)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="epoch"):
        BlockShuffle(dataset).set_epoch(-1)
    with pytest.raises(TypeError, match="not list"):
        BlockShuffle([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not range"):
        BlockShuffle(Subset(range(9), [1]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no pictures"):
        BlockShuffle(Subset(dataset, []))
