"""One file, whatever made it: threads, batches, kernels, instruction sets, processes and devices change no byte."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions
from ddpm_codec.files import decode_file, encode_files, encode_progressive_files
from ddpm_codec.nn.exact import executor, kernels
from tests.golden.regenerate import EXACT, noisy_picture

ROOT = Path(__file__).resolve().parents[1]
PLACES: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "2"},
    "no byte instructions": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oldest instructions": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    },
}
"""Environments of a process. Under the last two oneDNN's sums of bytes saturate, and other kernels take over; under the last
one numpy's functions give other bits."""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of six tiles."""
    path = tmp_path_factory.mktemp("picture") / "noise.png"
    Image.fromarray(noisy_picture(7, 128, 192)).save(path)
    return path


@pytest.fixture(scope="module")
def coded(picture: Path) -> bytes:
    """Its file, coded here."""
    path = picture.with_suffix(".ddpm")
    assert encode_files([picture], path, model=str(EXACT), tile=64).net_dims > 0
    return path.read_bytes()


def command(environment: dict[str, str], *words: str | Path) -> None:
    place = os.environ | environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'cli'}"}
    line = [sys.executable, "-m", "ddpm_codec_cli", *map(str, words)]
    done = subprocess.run(line, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_another_process_writes_the_same_bytes_and_reads_them(
    place: str, picture: Path, coded: bytes, tmp_path: Path
) -> None:
    command(PLACES[place], "encode", picture, "-o", tmp_path / "x.ddpm", "--model", EXACT, "--tile", "64")
    assert (tmp_path / "x.ddpm").read_bytes() == coded
    command(PLACES[place], "decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png", "--model", EXACT)
    with Image.open(picture) as before, Image.open(tmp_path / "x.png") as after:
        assert before.tobytes() == after.tobytes()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder of pictures of which the model serves some, and its file, coded here."""
    folder = tmp_path_factory.mktemp("archive") / "set"
    folder.mkdir()
    for seed in range(7):
        Image.fromarray(noisy_picture(seed, 64, 64)).save(folder / f"noise{seed}.png")
    rng = np.random.default_rng(5)
    for index in (2, 5):
        # Eight colours at random: for the model noise, for the fallback three bits a pixel.
        palette = rng.integers(0, 256, (8, 3), dtype=np.uint8)
        Image.fromarray(palette[rng.integers(0, 8, (64, 64))]).save(folder / f"noise{index}b.png")
    path = folder.with_suffix(".ddpm")
    assert 2 <= encode_files([folder], path, model=str(EXACT)).fallback_images < 7
    return folder, path.read_bytes()


@pytest.mark.parametrize("place", PLACES)
def test_another_process_chooses_the_same_pictures_of_an_archive(
    place: str, archive: tuple[Path, bytes], tmp_path: Path
) -> None:
    """Whether the model or the fallback has a picture is decided by what each would cost."""
    folder, expected = archive
    command(PLACES[place], "encode", folder, "-o", tmp_path / "set.ddpm", "--model", EXACT)
    assert (tmp_path / "set.ddpm").read_bytes() == expected


def _one_by_one(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(executor.CHUNK_PIXELS, "cpu", 1)


def _all_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(executor.CHUNK_PIXELS, "cpu", 1 << 30)


def _in_small_columns(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(executor, "pick_kernels", lambda _: "float32")
    patch.setitem(kernels.MAX_COLUMN_BYTES, "cpu", 1 << 12)


@pytest.mark.parametrize("change", [_one_by_one, _all_at_once, _in_small_columns])
def test_batches_and_kernels(
    change: Callable[[pytest.MonkeyPatch], None],
    picture: Path,
    coded: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(monkeypatch)
    encode_files([picture], tmp_path / "x.ddpm", model=str(EXACT), tile=64)
    assert (tmp_path / "x.ddpm").read_bytes() == coded


def test_without_onednn(picture: Path, coded: bytes, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # Where torch was built without other devices, it warns of their flags.
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            assert kernels.pick_kernels(torch.device("cpu")) == "float32"
            encode_files([picture], tmp_path / "x.ddpm", model=str(EXACT), tile=64)
    assert (tmp_path / "x.ddpm").read_bytes() == coded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_read_each_other(picture: Path, coded: bytes, tmp_path: Path) -> None:
    encode_files([picture], tmp_path / "x.ddpm", model=str(EXACT), tile=64, device="cuda")
    assert (tmp_path / "x.ddpm").read_bytes() == coded
    for device in ("cpu", "cuda"):
        decode_file(tmp_path / "x.ddpm", tmp_path / f"{device}.png", model=EXACT, device=device)
        with Image.open(picture) as before, Image.open(tmp_path / f"{device}.png") as after:
            assert before.tobytes() == after.tobytes()


@pytest.fixture(scope="module")
def progressive(picture: Path) -> Path:
    """Its progressive file, indices and bridge, coded here."""
    path = picture.with_name("progressive.ddpm")
    options = ProgressiveOptions(steps=8, register_bits=8, tail_level=2, tile=64)
    encode_progressive_files([picture], path, options, model=EXACT)
    return path


@pytest.mark.parametrize("place", PLACES)
def test_another_process_reads_progressive_files_and_shows_the_same_on_the_way(
    place: str, picture: Path, progressive: Path, tmp_path: Path
) -> None:
    for name, words in {"whole": [], "sample": ["--level", "4", "--reconstruction", "sample"]}.items():
        decode_file(
            progressive,
            tmp_path / f"{name}-here.png",
            model=EXACT,
            level=4 if words else None,
            reconstruction="sample" if words else None,
        )
        command(PLACES[place], "decode", progressive, "-o", tmp_path / f"{name}.png", "--model", EXACT, *words)
        with Image.open(tmp_path / f"{name}-here.png") as here, Image.open(tmp_path / f"{name}.png") as there:
            assert here.tobytes() == there.tobytes()
    with Image.open(picture) as before, Image.open(tmp_path / "whole.png") as after:
        assert before.tobytes() == after.tobytes()
