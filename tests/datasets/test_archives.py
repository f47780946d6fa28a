"""Pictures of many files by one index: which they are, what is decoded for them, and what is refused."""

import doctest
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ddpm_codec
from ddpm_codec import datasets
from ddpm_codec.datasets import Archives, archives, reading, sampling
from ddpm_codec.picture import PictureInfo
from tests.datasets.conftest import BLOCKS, COUNTS, NOISE, PER_BLOCK, SIDE
from tests.golden.regenerate import EXACT, FLOAT, noisy_picture
from tests.helpers import PHOTO, TINY


def values(dataset: Archives) -> list[int]:
    return [int(dataset[index].flat[0]) for index in range(len(dataset))]


@pytest.mark.parametrize("module", [datasets, archives, sampling], ids=lambda module: module.__name__)
def test_examples_in_docstrings_are_true(module: Any) -> None:  # noqa: ANN401 - modules
    result = doctest.testmod(module)
    assert result.attempted >= 10
    assert result.failed == 0


def test_the_package_is_loaded_only_by_name() -> None:
    code = "import sys, ddpm_codec; assert 'ddpm_codec.datasets' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_all_pictures_of_all_files_in_order(shards: Path) -> None:
    dataset = Archives(shards)
    total = sum(COUNTS)
    assert len(dataset) == total
    assert dataset.names == tuple(f"{value:03d}.png" for value in range(total))
    assert [info.size for info in dataset.infos] == [(SIDE, SIDE)] * total
    assert [path.name for path in dataset.files] == ["train-0.ddpm", "train-1.ddpm", "train-2.ddpm"]
    assert [picture.shape for picture in dataset] == [(SIDE, SIDE, 3)] * total  # type: ignore[attr-defined]
    assert values(dataset) == list(range(total))
    assert values(Archives([shards / "train-2.ddpm", str(shards / "train-1.ddpm")])) == [*range(27, 41), *range(23, 27)]
    assert values(Archives(str(shards / "train-[01].ddpm"))) == list(range(27))
    assert int(dataset[np.int64(-1)].max()) == total - 1
    for outside in (total, -total - 1):
        with pytest.raises(IndexError, match=f"index {outside} of a data set of {total}"):
            dataset[outside]


def test_patterns_reach_into_folders(shards: Path, tmp_path: Path) -> None:
    for name in ("b/c", "a"):
        (tmp_path / name).mkdir(parents=True)
        shutil.copy(shards / "train-1.ddpm", tmp_path / name / "x.ddpm")
    assert [path.parent.name for path in Archives(tmp_path / "**" / "*.ddpm").files] == ["a", "c"]


def test_a_name_with_the_characters_of_a_pattern_is_a_file(shards: Path, tmp_path: Path) -> None:
    shutil.copy(shards / "train-1.ddpm", tmp_path / "train-[x].ddpm")
    assert values(Archives(str(tmp_path / "train-[x].ddpm"))) == list(range(23, 27))


def test_an_access_decodes_one_block_and_keeps_it(dataset: Archives) -> None:
    assert dataset.blocks.tolist() == [*np.arange(23) // 5, *[5] * 4, *(6 + np.arange(14) // 5)]
    assert dataset.decoded_blocks == 0
    for index in (7, 5, 9, 6, 8):
        assert int(dataset[index].max()) == index
    assert dataset.decoded_blocks == 1
    for index in (4, 23, 40, 9, 26, 39):
        assert int(dataset[index].max()) == index
    assert dataset.decoded_blocks == 4
    assert values(dataset) == list(range(len(dataset)))
    assert dataset.decoded_blocks == BLOCKS


def test_memory_is_bounded_in_pixels_and_the_block_used_last_goes_last(shards: Path) -> None:
    block = PER_BLOCK * SIDE * SIDE
    dataset = Archives(shards, cached_pixels=2 * block)
    for index in (0, 5, 1, 10, 2, 6):  # blocks 0, 1, 0, 2 (1 goes), 0, 1 (2 goes)
        dataset[index]
    assert dataset.decoded_blocks == 4
    dataset[3]
    dataset[7]
    assert dataset.decoded_blocks == 4
    narrow = Archives(shards, cached_pixels=0)
    for index in (0, 1, 2, 5, 0):
        narrow[index]
    assert narrow.decoded_blocks == 3


def test_pictures_are_the_users_own(dataset: Archives) -> None:
    dataset[3][:] = 99
    assert int(dataset[3].max()) == 3


def test_modes_come_as_stored_or_as_rgb(tmp_path: Path) -> None:
    photo = Image.open(PHOTO).resize((20, 12))
    deep = np.arange(240, dtype=np.uint16).reshape(12, 20)
    modes = {"grey.png": "L", "palette.png": "P", "alpha.png": "RGBA"}
    images: dict[str, Any] = {name: photo.convert(mode) for name, mode in modes.items()}
    path = tmp_path / "x.ddpm"
    path.write_bytes(ddpm_codec.encode_archive({**images, "deep.png": deep}, model="none"))
    stored = Archives(path)
    assert [stored[index].shape for index in range(4)] == [(12, 20), (12, 20), (12, 20, 4), (12, 20)]
    assert np.array_equal(stored[3], deep)
    rgb = Archives(path, rgb=True)
    for index, image in enumerate(images.values()):
        assert np.array_equal(rgb[index], np.asarray(image.convert("RGB")))
        assert rgb[index].flags.writeable
    with pytest.raises(ddpm_codec.InputError, match=rf"{path}: picture deep.png: .* more than 8 bits"):
        rgb[3]


def test_transform_and_target(shards: Path) -> None:
    def label(info: PictureInfo) -> str:
        return info.name[:3]

    assert Archives(shards, transform=np.sum)[2] == 2 * SIDE * SIDE * 3
    assert Archives(shards, transform=np.max, target=label)[30] == (30, "030")
    picture, found = Archives(shards, target=label)[1]
    assert (picture.shape, found) == ((SIDE, SIDE, 3), "001")


def test_progressive_files_and_single_pictures_are_pictures_of_their_own(modelled: Path, tmp_path: Path) -> None:
    small = noisy_picture(7, 24, 40)
    (tmp_path / "b.ddpm").write_bytes(ddpm_codec.encode(small, progressive=True, model=EXACT, steps=8))
    (tmp_path / "c.ddpm").write_bytes(ddpm_codec.encode(small[::-1], model="none"))
    shutil.copy(modelled, tmp_path / "a.ddpm")
    for model in (EXACT, str(EXACT), ddpm_codec.open_model(EXACT, device="cpu")):
        dataset = Archives(tmp_path, model=model)
        assert len(dataset) == 8
        assert dataset.blocks.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
        assert np.array_equal(dataset[5], noisy_picture(5, NOISE, NOISE))
        assert np.array_equal(dataset[6], small)
        assert np.array_equal(dataset[7], small[::-1])
        assert dataset.decoded_blocks == 3
    assert dataset.names[6] == "b.png"


def test_a_picture_in_several_blocks_is_one(blocks_file: tuple[Path, Path]) -> None:
    folder, path = blocks_file
    dataset = Archives(path)
    names = list(dataset.names)
    big, grey = names.index("big.png"), names.index("grey.png")
    for index, name in enumerate(names):
        assert np.array_equal(dataset[index], np.asarray(Image.open(folder / name)))
    alone = np.bincount(dataset.blocks)[dataset.blocks] == 1
    assert alone[big]
    assert alone[grey]
    assert dataset.decoded_blocks == ddpm_codec.info(path).blocks > dataset.blocks.max() + 1


def test_damage_is_found_on_access_and_named(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    data = bytearray((shards / "train-0.ddpm").read_bytes())
    data[data.index(b"BLCK", data.index(b"BLCK") + 1) + 40] ^= 1
    path.write_bytes(data)
    dataset = Archives(path)
    line = rf"^{path}: picture 006\.png: block 1 is damaged \(its checksum is wrong\)$"
    with pytest.raises(ddpm_codec.FormatError, match=line):
        dataset[6]
    assert [int(dataset[index].max()) for index in (0, 11, 22)] == [0, 11, 22]
    path.write_bytes(data[:-200])
    with pytest.raises(ddpm_codec.FormatError, match=f"^{path}: .*cut short"):
        Archives(path)


def noisy_archive(path: Path, first: int) -> None:
    """Write four pictures in blocks of their own, larger than what Python reads ahead."""
    pictures = {f"{index}.png": noisy_picture(first + index, 64, 64) for index in range(4)}
    path.write_bytes(ddpm_codec.encode_archive(pictures, model="none", block_pixels=1))


def test_files_that_changed_since_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    noisy_archive(path, 0)
    opened, pickled = Archives(path), pickle.dumps(Archives(path))
    assert np.array_equal(opened[0], noisy_picture(0, 64, 64))
    os.utime(path, (1, 1))
    assert np.array_equal(pickle.loads(pickled)[1], noisy_picture(1, 64, 64))
    # Written into the very file that is open: its blocks do not fit their checksums any more.
    noisy_archive(path, 10)
    for dataset in (opened, pickle.loads(pickled)):
        with pytest.raises(ddpm_codec.InputError, match=rf"^{path}: picture 3\.png: the file has changed since"):
            dataset[3]
    assert np.array_equal(Archives(path)[3], noisy_picture(13, 64, 64))


def test_files_of_another_kind_than_before_are_refused(tmp_path: Path) -> None:
    path, small = tmp_path / "x.ddpm", noisy_picture(7, 24, 40)
    noisy_archive(path, 0)
    archive = Archives(path)
    path.write_bytes(ddpm_codec.encode(small, progressive=True, model=EXACT, steps=8))
    with pytest.raises(ddpm_codec.InputError, match=r"picture 0\.png: the file has changed since"):
        archive[0]
    progressive = Archives(path, model=EXACT)
    path.write_bytes(ddpm_codec.encode(small[::-1], progressive=True, model=EXACT, steps=8))
    with pytest.raises(ddpm_codec.InputError, match=r"picture x\.png: the file has changed since"):
        progressive[0]
    path.unlink()
    with pytest.raises(ddpm_codec.InputError, match=rf"^{path}: picture x\.png: cannot be read \(No such file"):
        progressive[0]


def test_a_missing_model_is_named(modelled: Path, tmp_path: Path) -> None:
    with pytest.raises(ddpm_codec.ModelError, match=rf"^{modelled}: was coded with model \w+\.\.\., which is not"):
        Archives(modelled)
    with pytest.raises(ddpm_codec.ModelError, match=f"^{modelled}: .* is another model"):
        Archives(modelled, model=FLOAT)
    model = tmp_path / "model.safetensors"
    shutil.copy(EXACT, model)
    dataset = Archives(modelled, model=model)
    model.unlink()
    with pytest.raises(ddpm_codec.ModelError, match=rf"^{modelled}: picture 3\.png: .*no such model"):
        dataset[3]
    with pytest.raises(TypeError, match="a model is a name"):
        Archives(modelled, model=3)  # type: ignore[arg-type]


def test_sources_that_mean_nothing_are_refused(shards: Path, tmp_path: Path) -> None:
    one = shards / "train-0.ddpm"
    for sources, line in (
        ([], "no archives given"),
        (tmp_path, f"{tmp_path}: the folder has no .ddpm files"),
        (str(tmp_path / "*.ddpm"), r"no file matches this pattern"),
        ([shards, one], f"{one}: is given twice"),
        (tmp_path / "none.ddpm", "cannot be read"),
        (TINY, f"{TINY}: is not a .ddpm file"),
        ("", "empty"),
    ):
        with pytest.raises(ddpm_codec.DdpmCodecError, match=line):
            Archives(sources)
    for option, value in (("cached_pixels", -1), ("cached_pixels", 1.5), ("threads", 0), ("device", "tpu")):
        with pytest.raises(ddpm_codec.InputError, match=option):
            Archives(one, **{option: value})  # type: ignore[arg-type]
    with pytest.raises(ddpm_codec.FormatError, match=f"^{one}: .*pixels"):
        Archives(one, max_pixels=100)


def test_more_files_than_may_be_open(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        shutil.copy(shards / f"train-{number % 3}.ddpm", tmp_path / f"{number}.ddpm")
    monkeypatch.setattr(reading, "_OPEN_FILES", 2)
    dataset = Archives(tmp_path, cached_pixels=0)
    open_before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    starts = np.flatnonzero(np.diff(dataset.blocks, prepend=-1))
    assert [int(dataset[index].max()) for index in starts] == [0, 5, 10, 15, 20, 23, 27, 32, 37] * 3
    if open_before:
        assert len(os.listdir("/proc/self/fd")) <= open_before + 2


def test_a_pickled_data_set_has_neither_open_files_nor_pictures(shards: Path) -> None:
    dataset = Archives(shards)
    fresh = len(pickle.dumps(dataset))
    first = values(dataset)
    assert len(pickle.dumps(dataset)) == fresh
    other = pickle.loads(pickle.dumps(dataset))
    assert (other.decoded_blocks, dataset.decoded_blocks) == (0, BLOCKS)
    assert values(other) == first
