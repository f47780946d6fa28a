"""Archives whose picture i is filled with i, in blocks of a few pictures."""

from pathlib import Path

import numpy as np
import pytest

import ddpm_codec
from ddpm_codec.datasets import Archives
from tests.golden.regenerate import EXACT, noisy_picture

SIDE = 8
PER_BLOCK = 5
COUNTS = (23, 4, 14)
"""Pictures of the files, none a multiple of a block's."""

NOISE = 96
"""Side of the pictures that a model codes in fewer bytes than the fallback."""

BLOCKS = 5 + 1 + 3


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three archives coded by the fallback; pictures are numbered over all of them."""
    folder = tmp_path_factory.mktemp("shards")
    start = 0
    for number, count in enumerate(COUNTS):
        values = range(start, start + count)
        pictures = {f"{value:03d}.png": np.full((SIDE, SIDE, 3), value, np.uint8) for value in values}
        data = ddpm_codec.encode_archive(pictures, model="none", block_pixels=PER_BLOCK * SIDE * SIDE)
        (folder / f"train-{number}.ddpm").write_bytes(data)
        start += count
    return folder


@pytest.fixture
def dataset(shards: Path) -> Archives:
    """All of them."""
    return Archives(shards)


@pytest.fixture(scope="session")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that a small model coded, six pictures in three blocks."""
    path = tmp_path_factory.mktemp("modelled") / "noise.ddpm"
    pictures = {f"{seed}.png": noisy_picture(seed, NOISE, NOISE) for seed in range(6)}
    path.write_bytes(ddpm_codec.encode_archive(pictures, model=EXACT, block_pixels=2 * NOISE * NOISE))
    assert ddpm_codec.info(path).coded_by == ("model",) * 6
    return path
