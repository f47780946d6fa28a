"""Workers of a ``DataLoader``: started by any method, one thread each, and blocks stay with one of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

import ddpm_codec
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.datasets import Archives, BlockBatches, BlockShuffle
from ddpm_codec.isolation import threads_asked_for
from ddpm_codec.picture import Picture
from tests.datasets.conftest import BLOCKS, COUNTS, NOISE
from tests.datasets.counting import Report, decoded_by_all, report, seed_of
from tests.golden.regenerate import EXACT, noisy_picture

TOTAL = sum(COUNTS)
SECONDS = 60

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
METHODS = [pytest.param("fork", marks=needs_fork), pytest.param("spawn", marks=pytest.mark.slow)]


@pytest.mark.parametrize("method", METHODS)
def test_workers_decode_what_a_model_coded(modelled: Path, method: str) -> None:
    dataset = Archives(modelled, model=EXACT, target=seed_of)
    # Torch's threads and compiled code have run here before a worker is forked, and a file is open.
    assert np.array_equal(dataset[3][0], noisy_picture(3, NOISE, NOISE))
    batches = BlockBatches(dataset, 1, num_workers=2)
    loader: DataLoader[Report] = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=2,
        multiprocessing_context=method,
        collate_fn=report,
        timeout=SECONDS,
    )
    reports = list(loader)
    assert [one.worker for one in reports] == [0, 1] * 3
    assert sorted(seed for one in reports for _, seed in one.items) == list(range(6))
    for one in reports:
        for picture, seed in one.items:
            assert np.array_equal(picture, noisy_picture(seed, NOISE, NOISE))
    # Three blocks for two workers: the one in the middle is on the cut.
    assert decoded_by_all(reports) <= 3 + 1
    assert dataset.decoded_blocks == 1


@needs_fork
def test_an_epoch_over_workers_decodes_each_block_once_but_for_the_cuts(shards: Path) -> None:
    workers = 3
    dataset = Archives(shards)
    batches = BlockBatches(dataset, 3, num_workers=workers, blocks=2)
    loader: DataLoader[Report] = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context="fork",
        collate_fn=report,
        timeout=SECONDS,
    )
    for epoch in range(2):
        batches.set_epoch(epoch)
        reports = list(loader)
        assert sorted(int(item.max()) for one in reports for item in one.items) == list(range(TOTAL))
        assert BLOCKS <= decoded_by_all(reports) <= BLOCKS + workers - 1
    # A sampler of single pictures spreads every block over the workers.
    spread: DataLoader[Report] = DataLoader(
        dataset,
        batch_size=2,
        sampler=BlockShuffle(dataset, blocks=2),
        num_workers=workers,
        multiprocessing_context="fork",
        collate_fn=report,
        timeout=SECONDS,
    )
    assert decoded_by_all(list(spread)) > 2 * BLOCKS


@needs_fork
@pytest.mark.parametrize("given", [None, 2])
def test_a_worker_decodes_in_one_thread(shards: Path, monkeypatch: pytest.MonkeyPatch, given: int | None) -> None:
    asked: list[int | None] = []
    beside = ArchiveDecoder.pictures_beside

    def noting(self: ArchiveDecoder, index: int) -> dict[int, Picture]:
        asked.append(threads_asked_for())
        return beside(self, index)

    monkeypatch.setattr(ArchiveDecoder, "pictures_beside", noting)
    dataset = Archives(shards, threads=given)
    dataset[0]
    assert asked == [given]
    loader: DataLoader[int | None] = DataLoader(
        dataset, num_workers=1, multiprocessing_context="fork", collate_fn=lambda _: asked[-1], timeout=SECONDS
    )
    assert next(iter(loader)) == (given or 1)


@needs_fork
def test_an_error_in_a_worker_keeps_its_kind_and_names_file_and_picture(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    data = bytearray((shards / "train-0.ddpm").read_bytes())
    data[data.index(b"BLCK") + 40] ^= 1
    path.write_bytes(data)
    loader = DataLoader(Archives(path), num_workers=1, multiprocessing_context="fork", timeout=SECONDS)
    with pytest.raises(ddpm_codec.FormatError, match=rf"{path}: picture 000\.png: block 0 is damaged"):
        next(iter(loader))
