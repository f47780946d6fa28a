"""Files that must decode for ever, to the pixels that they were made from, on every machine and with every kernel."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ddpm_codec.files import decode_file, describe_file
from ddpm_codec.nn.exact import kernels
from tests.golden.regenerate import (
    EXACT,
    EXPECTED,
    FILES,
    FLOAT,
    FOLDER,
    PREFIXES,
    PROGRESSIVE,
    pixel_hash,
    regenerate,
    shown,
)


@pytest.fixture(scope="module")
def expected(request: pytest.FixtureRequest) -> dict[str, Any]:
    wanted = request.config.getoption("--regenerate-golden")
    if wanted:
        regenerate(wanted)
    for path in (EXPECTED, PREFIXES, EXACT, FLOAT, *(FOLDER / name for name in (*FILES, *PROGRESSIVE))):
        assert path.is_file(), f"{path} is missing: a golden file is never deleted, only regenerated"
    content: dict[str, Any] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return content


def test_the_models_are_the_ones_that_coded(expected: dict[str, Any]) -> None:
    for kind, path in (("exact", EXACT), ("float", FLOAT)):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["models"][kind]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kernel", ["fastest", "matmul", "float32", "float64"])
def test_golden_files_decode(
    name: str, kernel: str, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel != "fastest":
        if not kernels.is_exact(kernel, "cpu"):
            pytest.skip(f"{kernel} kernels are not exact on this processor, and are not used on it")
        monkeypatch.setattr("ddpm_codec.nn.exact.kernels.pick_kernels", lambda _: kernel)
    output = tmp_path / "out"
    output.mkdir()
    decode_file(FOLDER / name, output, model=None if name == "photo.ddpm" else EXACT)
    found = {path.name: pixel_hash(path) for path in sorted(output.iterdir())}
    assert found == expected["files"][name]


@pytest.mark.parametrize("name", FILES)
def test_golden_files_are_coded_by_an_exact_model(name: str, expected: dict[str, Any]) -> None:
    assert name in expected["files"]
    facts = describe_file(FOLDER / name).to_json()
    assert any(picture["coded_by"] == "model" for picture in facts["pictures"])
    assert facts["model"] == ("photo" if name == "photo.ddpm" else "tiny")
    assert not [key for key in facts if key.startswith("environment_")]


@pytest.mark.parametrize("name", PROGRESSIVE)
@pytest.mark.parametrize("kernel", ["fastest", "float32"])
@pytest.mark.usefixtures("expected")
def test_golden_progressive_files_decode_and_show_the_same_on_the_way(
    name: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel != "fastest":
        monkeypatch.setattr("ddpm_codec.nn.exact.kernels.pick_kernels", lambda _: kernel)
    wanted = json.loads(PREFIXES.read_text(encoding="utf-8"))[name]
    output = tmp_path / "x.png"
    found = {"lossless": shown(FOLDER / name, output)}
    for how in ("mean", "sample", "flow"):
        found[how] = shown(FOLDER / name, output, level=5, reconstruction=how)
    assert found == wanted
