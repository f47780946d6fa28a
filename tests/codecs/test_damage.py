"""Damaged, foreign and hostile files: one line, nothing written, never wrong pixels."""

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_codec import container
from ddpm_codec.errors import (
    DdpmCodecError,
    EnvironmentMismatchError,
    FormatError,
    ModelError,
)
from ddpm_codec.files import decode_file, encode_files
from ddpm_codec.picture import PictureInfo
from tests.containers import archive_writer, read_archive, write_again
from tests.helpers import PHOTO, leftovers, same


def test_a_damaged_block_costs_its_pictures_only(blocks_file: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = blocks_file
    opened = read_archive(path)
    block = opened.blocks[1]
    assert block is not None
    data = bytearray(path.read_bytes())
    data[block.offset + block.length // 2] ^= 1
    bad = tmp_path / "bad.ddpm"
    bad.write_bytes(data)
    with pytest.raises(FormatError, match=r"bad\.ddpm: block 1"):
        decode_file(bad, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert leftovers(tmp_path) == []
    report = decode_file(bad, tmp_path / "some", keep_going=True)
    lost = {line.split(":")[0] for line in report.damaged if line.endswith(": lost")}
    assert lost
    assert report.images == len(opened.images) - len(lost)
    for entry in opened.images:
        written = tmp_path / "some" / entry.info.name
        assert written.exists() != (entry.info.name in lost)
        assert not written.exists() or same(folder / entry.info.name, written)


def test_every_flipped_byte_and_every_cut_is_refused(tmp_path: Path, photo_file: Path) -> None:
    good = photo_file.read_bytes()
    bad = tmp_path / "bad.ddpm"
    rng = np.random.default_rng(2)
    places = sorted({*range(450), *rng.integers(0, len(good), 300).tolist(), *range(len(good) - 20, len(good))})
    for at in places:
        damaged = bytearray(good)
        damaged[at] ^= 1 << int(rng.integers(8))
        bad.write_bytes(damaged)
        with pytest.raises(DdpmCodecError):
            decode_file(bad, tmp_path / "x.png")
        bad.write_bytes(good[:at])
        with pytest.raises(DdpmCodecError):
            decode_file(bad, tmp_path / "x.png")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.ddpm"]


def with_block(source: Path, target: Path, change: Callable[[bytes], bytes]) -> None:
    """Copy a file of one block with another payload and right checksums."""
    opened = read_archive(source)
    write_again(opened, target, payload=change(opened.read_block(0)))


def test_damage_behind_right_checksums_is_refused(tmp_path: Path, photo_file: Path) -> None:
    rng = np.random.default_rng(3)
    bad = tmp_path / "bad.ddpm"
    size = len(read_archive(photo_file).read_block(0))
    for at in [*range(10), *rng.integers(10, size, 3).tolist()]:

        def change(payload: bytes, at: int = at) -> bytes:
            return payload[:at] + bytes([payload[at] ^ int(rng.integers(1, 256))]) + payload[at + 1 :]

        with_block(photo_file, bad, change)
        with pytest.raises(FormatError):
            decode_file(bad, tmp_path / "x.png")
    for length in (0, 1, 5, 9, size - 1):
        with_block(photo_file, bad, itemgetter(slice(length)))
        with pytest.raises(FormatError):
            decode_file(bad, tmp_path / "x.png")
    with_block(photo_file, bad, lambda _: rng.bytes(3000))
    with pytest.raises(FormatError):
        decode_file(bad, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.ddpm"
    info = PictureInfo("a.png", "RGB", (1 << 16, 1 << 15))
    with archive_writer(path) as writer:
        writer.add_block(b"\0\0\1\0\1\4abc")
        writer.finish(container.Head(), [container.ImageEntry(info)])
    with pytest.raises(FormatError, match="pixels"):
        decode_file(path, tmp_path / "x.png")


def test_another_environment_is_refused(
    float_file: Path, float_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "__version__", "9.9")
    with pytest.raises(EnvironmentMismatchError, match=r"torch .* there, 9\.9 here"):
        decode_file(float_file, tmp_path / "x.png", model=float_model)
    assert torch.get_num_threads() == threads


def test_an_unknown_model_is_refused(tmp_path: Path, photo_file: Path) -> None:
    opened = read_archive(photo_file)
    write_again(opened, tmp_path / "x.ddpm", head=replace(opened.head, model_name="other", model_id=bytes(4)))
    with pytest.raises(ModelError, match="not installed"):
        decode_file(tmp_path / "x.ddpm", tmp_path / "x.png")
    with pytest.raises(ModelError, match="no such model"):
        encode_files([PHOTO], tmp_path / "y.ddpm", model="nonesuch")
