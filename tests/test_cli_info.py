"""``ddpm-codec info``: what a file holds, for people and for programs, whatever its names hold."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ddpm_codec.container import ROUTE_INDEXED, ROUTE_MODEL
from ddpm_codec.models import list_models
from tests.containers import read_archive
from tests.helpers import PHOTO, Run


def test_json_of_a_model_coded_file(photo_file: Path, run: Run) -> None:
    code, out, err = run("info", photo_file, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    facts = json.loads(out)
    model = next(model for model in list_models() if model.name == "photo")
    opened = read_archive(photo_file)
    codec = {ROUTE_MODEL: "bits-back lossless", ROUTE_INDEXED: "indexed lossless"}[opened.images[0].route]
    assert (facts["codec"], facts["model"], facts["model_id"]) == (codec, "photo", model.id[:8])
    assert facts["file_bytes"] == photo_file.stat().st_size
    assert facts["file_bpd"] == pytest.approx(8 * facts["file_bytes"] / (3 * 128 * 128))
    assert (facts["images"], facts["pixels"], facts["blocks"]) == (1, 128 * 128, 1)
    assert facts["coding_steps"] == opened.head.parameters["steps"]
    assert facts["arithmetic"] == "exact"
    assert not [key for key in facts if key.startswith("environment_")]
    assert facts["pictures"] == [
        {"name": PHOTO.name, "width": 128, "height": 128, "mode": "RGB", "coded_by": "model", "metadata": None}
    ]


def test_json_of_a_file_in_floating_point(float_file: Path, run: Run) -> None:
    facts = json.loads(run("info", float_file, "--json")[1])
    assert (facts["arithmetic"], facts["model"]) == ("float", "tiny-float")
    assert facts["environment_device"] in ("cpu", "cuda")


def test_json_of_a_file_without_a_model(run: Run, tmp_path: Path) -> None:
    Image.open(PHOTO).convert("L").save(tmp_path / "a.png", icc_profile=b"profile" * 9)
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "x.ddpm")[0] == 0
    facts = json.loads(run("info", tmp_path / "x.ddpm", "--json")[1])
    assert (facts["codec"], facts["model"], facts["model_id"]) == ("fallback only", None, None)
    assert facts["arithmetic"] is None
    assert not [key for key in facts if key.startswith("environment_")]
    assert facts["pictures"][0] | {"name": ""} == {
        "name": "",
        "width": 128,
        "height": 128,
        "mode": "L",
        "coded_by": "fallback",
        "metadata": "icc",
    }


def test_people_see_facts_and_the_first_rows(run: Run, tmp_path: Path) -> None:
    for index in range(23):
        Image.new("RGB", (4, 3), (index, 0, 0)).save(tmp_path / f"{index:02d}.png")
    assert run("encode", tmp_path, "-o", tmp_path / "x.ddpm")[0] == 0
    code, out, err = run("info", tmp_path / "x.ddpm")
    assert (code, err) == (0, "")
    assert "19.png" in out
    assert "20.png" not in out
    assert "... and 3 more (use --json to see all)" in out
    assert len(json.loads(run("info", tmp_path / "x.ddpm", "--json")[1])["pictures"]) == 23


def test_names_cannot_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    name = "a\x1b[31m\n.png"
    Image.new("L", (2, 2)).save(tmp_path / name)
    assert run("encode", tmp_path / name, "-o", tmp_path / "x.ddpm")[0] == 0
    out = run("info", tmp_path / "x.ddpm")[1]
    assert "a\\x1b[31m\\n.png" in out
    assert "\x1b" not in out
    assert json.loads(run("info", tmp_path / "x.ddpm", "--json")[1])["pictures"][0]["name"] == name


def test_a_damaged_file_is_one_line(photo_file: Path, run: Run, tmp_path: Path) -> None:
    data = bytearray(photo_file.read_bytes())
    block = read_archive(photo_file).blocks[0]
    assert block is not None
    for at in range(0, block.offset - 4, 7):
        bad = bytearray(data)
        bad[at] ^= 4
        (tmp_path / "bad.ddpm").write_bytes(bad)
        code, out, err = run("info", tmp_path / "bad.ddpm", "--json")
        assert (code, out, err.count("\n")) == (1, "", 1), at
        assert err.startswith(f"ddpm-codec: error: {tmp_path / 'bad.ddpm'}: ")
    code, out, err = run("info", tmp_path / "missing.ddpm")
    assert (code, out, err.count("\n")) == (1, "", 1)
