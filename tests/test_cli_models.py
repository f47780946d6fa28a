"""``ddpm-codec models`` and ``export``: what ships, and how another comes to be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.models.registry import DEFAULT, model_id
from ddpm_codec.training import calibration
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.run import train
from tests.helpers import PHOTO, Run, same

KEYS = {
    "name",
    "id",
    "path",
    "bytes",
    "parameters",
    "macs_per_pixel_per_level",
    "decoder_macs_per_pixel",
    "crossings",
    "crossing",
    "progressive_steps",
    "progressive_crossing",
    "steps",
    "macs_per_pixel_total",
    "description",
}


def test_json_lists_what_ships_within_its_limits(run: Run) -> None:
    code, out, err = run("models", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    models = {model["name"]: model for model in json.loads(out)["models"]}
    assert {"cifar10", DEFAULT} <= set(models)
    for model in models.values():
        assert set(model) == KEYS
        assert model["id"] == model_id(Path(model["path"]))
        assert model["bytes"] <= 12_000_000
        assert model["macs_per_pixel_total"] <= 2_500_000
        assert 4 <= model["steps"] <= 12


def test_people_see_a_table(run: Run) -> None:
    code, out, err = run("models")
    assert (code, err) == (0, "")
    rows = out.splitlines()
    assert rows[0].split()[:3] == ["name", "crossing", "steps"]
    models = json.loads(run("models", "--json")[1])["models"]
    assert all(model["name"] in out and model["id"][:12] in out for model in models)
    assert len(rows) == 1 + len(models)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps, beside its pictures."""
    folder = tmp_path_factory.mktemp("checkpoint")
    pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    np.save(folder / "pictures.npy", pictures)
    values = {"data": str(folder / "pictures.npy"), "output": str(folder / "run"), "size": "tiny", "device": "cpu"}
    numbers = {"holdout": 2, "crop": 16, "batch": 2, "train_steps": 2, "warmup": 1, "steps": 4, "validation_images": 2}
    train(TrainConfig.from_dict({**values, **numbers, "dtype": "float32"}))
    return folder / "run"


def test_a_checkpoint_becomes_a_model_that_codes(
    checkpoint: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Enough to calibrate what has learnt nothing.
    monkeypatch.setattr(calibration, "CROP_PIXELS", 1 << 12)
    monkeypatch.setattr(calibration, "SAMPLES", 400)
    model, small = tmp_path / "own.safetensors", tmp_path / "small.pt"
    code, out, _ = run("export", checkpoint, "-o", model, "--limit", 4, "--description", "for a test", "--json")
    assert (code, out.count("\n")) == (0, 1)
    row = json.loads(out)
    assert set(row) == KEYS
    assert (row["name"], row["description"], row["id"]) == ("own", "for a test", model_id(model))
    code, out, err = run("export", checkpoint, "-o", small, "--json")
    assert (code, json.loads(out)) == (0, {"checkpoint": str(small)})
    for output in (model, small):
        code, out, err = run("export", checkpoint, "-o", output)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"{output}: already exists" in err
    picture = tmp_path / "picture.png"
    Image.open(PHOTO).crop((0, 0, 80, 64)).save(picture)
    code, out, _ = run("encode", picture, "-o", tmp_path / "x.ddpm", "--model", model, "--verify", "--json")
    assert code == 0
    # Two steps teach a network nothing, so the fallback may be smaller; either way the picture comes back.
    assert json.loads(out)["model"] in ("own", None)
    assert run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png", "--model", model)[0] == 0
    assert same(picture, tmp_path / "x.png")


def test_what_is_no_checkpoint_is_one_line_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    for source in ("bad.pt", "missing.pt"):
        for output in ("own.safetensors", "own.pt"):
            code, out, err = run("export", tmp_path / source, "-o", tmp_path / output, "--json")
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert source in err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_a_reduced_checkpoint_is_exported_with_images_named_for_it(checkpoint: Path, run: Run, tmp_path: Path) -> None:
    small, model = tmp_path / "small.pt", tmp_path / "model.safetensors"
    assert run("export", checkpoint, "-o", small)[0] == 0
    code, out, err = run("export", small, "-o", model, "--float")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "does not name its training images" in err
    pictures = checkpoint.parent / "pictures.npy"
    words = ("--data", pictures, "--data", pictures, "--limit", 4, "--json")
    assert run("export", small, "-o", model, "--float", *words)[0] == 0
    assert run("bpd", pictures, "--model", model, "--limit", 2, "--json")[0] == 0
