"""Floating point decodes where it was coded, and nowhere else."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddpm_codec.codecs import fingerprint
from ddpm_codec.codecs.fingerprint import Fingerprint, check_fingerprint, take_fingerprint
from ddpm_codec.device import preferred_dtype
from ddpm_codec.errors import EnvironmentMismatchError, FormatError
from ddpm_codec.files import decode_file
from tests.containers import read_archive, write_again

CPU = torch.device("cpu")


def with_fingerprint(source: Path, target: Path, change: Callable[[Fingerprint], object]) -> None:
    """Copy a file of one block, with another environment in its head."""
    opened = read_archive(source)
    values = dict(opened.head.fingerprint)
    change(values)
    write_again(opened, target, head=replace(opened.head, fingerprint=values))


def test_the_same_place_has_the_same_fingerprint() -> None:
    taken = take_fingerprint(CPU, "float32")
    assert taken == take_fingerprint(CPU, "float32")
    check_fingerprint(taken, dict(taken), "x.ddpm")
    assert taken["torch"] == torch.__version__
    assert taken["threads"] == torch.get_num_threads()
    assert taken["device"] == "cpu"


def test_the_line_names_the_file_and_everything_that_differs() -> None:
    here = take_fingerprint(CPU, "float32")
    there = here | {"torch": "1.0", "hardware": "abacus"}
    del there["coder"]
    with pytest.raises(EnvironmentMismatchError) as caught:
        check_fingerprint(there, here, "x.ddpm")
    line = str(caught.value)
    assert line.startswith("x.ddpm: coded in floating point in another environment")
    assert f"torch 1.0 there, {here['torch']} here" in line
    assert f"hardware abacus there, {here['hardware']} here" in line
    assert "coder unknown there" in line
    assert "dtype" not in line
    assert "\n" not in line


@pytest.mark.parametrize("key", sorted(set(take_fingerprint(CPU, "float32")) - {"device", "dtype", "threads"}))
def test_each_value_that_differs_is_refused(key: str, float_file: Path, float_model: Path, tmp_path: Path) -> None:
    with_fingerprint(float_file, tmp_path / "x.ddpm", lambda values: values.update({key: "other"}))
    with pytest.raises(EnvironmentMismatchError, match=f"{key} other there"):
        decode_file(tmp_path / "x.ddpm", tmp_path / "x.png", model=float_model)
    assert [path.name for path in tmp_path.iterdir()] == ["x.ddpm"]


def test_a_processor_without_the_arithmetic_differs_in_its_features(
    float_file: Path, float_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_features", lambda: "none")
    with pytest.raises(EnvironmentMismatchError, match="detail"):
        decode_file(float_file, tmp_path / "x.png", model=float_model)
    monkeypatch.setattr(fingerprint, "_processor", lambda: "abacus")
    with pytest.raises(EnvironmentMismatchError, match=r"detail .*; hardware .* there, abacus here"):
        decode_file(float_file, tmp_path / "x.png", model=float_model)


def test_threads_are_taken_over_and_given_back(float_file: Path, float_model: Path, tmp_path: Path) -> None:
    recorded = read_archive(float_file).head.fingerprint["threads"]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(int(recorded) + 1)
        decode_file(float_file, tmp_path / "x.png", model=float_model)
        assert torch.get_num_threads() == int(recorded) + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_a_file_of_a_gpu_is_refused_without_one(float_file: Path, float_model: Path, tmp_path: Path) -> None:
    with_fingerprint(float_file, tmp_path / "x.ddpm", lambda values: values.update(device="cuda", hardware="H"))
    with pytest.raises(EnvironmentMismatchError, match="device cuda there, cpu here"):
        decode_file(tmp_path / "x.ddpm", tmp_path / "x.png", model=float_model)


@pytest.mark.parametrize(
    ("key", "value"),
    [("device", "abacus"), ("dtype", "int3"), ("threads", 0), ("threads", 1 << 20), ("threads", "many"), ("dtype", 1)],
)
def test_an_environment_that_cannot_be_is_damage(
    key: str, value: int | str, float_file: Path, float_model: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    with_fingerprint(float_file, tmp_path / "x.ddpm", lambda values: values.update({key: value}))
    with pytest.raises(FormatError, match=r"x\.ddpm: the environment fingerprint is damaged"):
        decode_file(tmp_path / "x.ddpm", tmp_path / "x.png", model=float_model)
    with_fingerprint(float_file, tmp_path / "y.ddpm", lambda values: values.pop(key))
    with pytest.raises(FormatError, match=r"y\.ddpm: the environment fingerprint is damaged"):
        decode_file(tmp_path / "y.ddpm", tmp_path / "y.png", model=float_model)
    assert torch.get_num_threads() == threads


def test_the_preferred_arithmetic_is_one_that_decoding_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert preferred_dtype(CPU) in ("bf16", "float32")
    assert preferred_dtype(torch.device("cuda")) == "bf16"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert preferred_dtype(CPU) == "float32"


def test_an_exact_file_records_no_environment(photo_file: Path) -> None:
    assert read_archive(photo_file).head.fingerprint == {}


def test_kinds_of_arithmetic_are_not_mixed(
    photo_file: Path, float_file: Path, float_model: Path, tmp_path: Path
) -> None:
    with_fingerprint(float_file, tmp_path / "x.ddpm", lambda values: values.clear())
    with pytest.raises(FormatError, match=r"x\.ddpm: was coded with exact arithmetic, but its model is float"):
        decode_file(tmp_path / "x.ddpm", tmp_path / "x.png", model=float_model)
    here = take_fingerprint(CPU, "float32")
    with_fingerprint(photo_file, tmp_path / "y.ddpm", lambda values: values.update(here))
    with pytest.raises(FormatError, match=r"y\.ddpm: was coded with float arithmetic, but its model is exact"):
        decode_file(tmp_path / "y.ddpm", tmp_path / "y.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.ddpm", "y.ddpm"]
