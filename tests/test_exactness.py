"""One file, whatever made it: threads, batches, kernels, instruction sets, processes and devices change no byte."""

import json
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
    Image.fromarray(noisy_picture(7, 64, 96)).save(path)
    return path


@pytest.fixture(scope="module")
def coded(picture: Path) -> bytes:
    """Its file, coded here."""
    path = picture.with_suffix(".ddpm")
    assert encode_files([picture], path, model=str(EXACT), tile=32).net_dims > 0
    return path.read_bytes()


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


@pytest.fixture(scope="module")
def progressive(picture: Path) -> Path:
    """Its progressive file, messages and tiles, coded here; and what a level of it shows here, ``sample.png``."""
    path = picture.with_name("progressive.ddpm")
    encode_progressive_files([picture], path, steps=8, register_bits=8, tile=32, fallback=False, model=EXACT)
    decode_file(path, path.with_name("sample.png"), model=EXACT, level=4, reconstruction="sample")
    return path


def same_pixels(a: Path, b: Path) -> bool:
    with Image.open(a) as before, Image.open(b) as after:
        return before.tobytes() == after.tobytes()


def run_elsewhere(environment: dict[str, str], *commands: list[str | Path]) -> None:
    """Run commands one after the other, all in one new process: it takes longer to start than any of them to run."""
    place = os.environ | environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'cli'}"}
    script = (
        "import json, sys; from ddpm_codec_cli.main import main; "
        "sys.exit(any([main(words) for words in json.loads(sys.argv[1])]))"
    )
    words = json.dumps([[*map(str, command), "--model", str(EXACT)] for command in commands])
    done = subprocess.run([sys.executable, "-c", script, words], env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "place",
    [pytest.param(place, marks=[pytest.mark.slow] if place == "one thread" else []) for place in PLACES],
)
def test_another_process_writes_the_same_bytes_and_reads_them(
    place: str, picture: Path, coded: bytes, archive: tuple[Path, bytes], progressive: Path, tmp_path: Path
) -> None:
    """Both kinds of file; and of an archive the same pictures go to the fallback, for which costs are compared."""
    folder, archived = archive
    run_elsewhere(
        PLACES[place],
        ["decode", picture.with_suffix(".ddpm"), "-o", tmp_path / "x.png"],
        ["encode", picture, "-o", tmp_path / "noise.ddpm", "--tile", "32"],
        ["encode", folder, "-o", tmp_path / "set.ddpm"],
        ["decode", progressive, "-o", tmp_path / "whole.png"],
        ["decode", progressive, "-o", tmp_path / "sample.png", "--level", "4", "--reconstruction", "sample"],
    )
    assert same_pixels(picture, tmp_path / "x.png")
    assert (tmp_path / "noise.ddpm").read_bytes() == coded
    assert (tmp_path / "set.ddpm").read_bytes() == archived
    assert same_pixels(picture, tmp_path / "whole.png")
    assert same_pixels(progressive.with_name("sample.png"), tmp_path / "sample.png")


def _one_by_one(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(executor.CHUNK_PIXELS, "cpu", 1)


def _all_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(executor.CHUNK_PIXELS, "cpu", 1 << 30)


def _in_small_columns(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kernels, "pick_kernels", lambda _: "float32")
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
    encode_files([picture], tmp_path / "noise.ddpm", model=str(EXACT), tile=32)
    assert (tmp_path / "noise.ddpm").read_bytes() == coded


def test_without_onednn(picture: Path, coded: bytes, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # Where torch was built without other devices, it warns of their flags.
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            assert kernels.pick_kernels(torch.device("cpu")) == "float32"
            encode_files([picture], tmp_path / "noise.ddpm", model=str(EXACT), tile=32)
    assert (tmp_path / "noise.ddpm").read_bytes() == coded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_read_each_other(picture: Path, coded: bytes, tmp_path: Path) -> None:
    encode_files([picture], tmp_path / "noise.ddpm", model=str(EXACT), tile=32, device="cuda")
    assert (tmp_path / "noise.ddpm").read_bytes() == coded
    for device in ("cpu", "cuda"):
        decode_file(tmp_path / "noise.ddpm", tmp_path / f"{device}.png", model=EXACT, device=device)
        assert same_pixels(picture, tmp_path / f"{device}.png")
