"""The registry: what is there, found by name, by file and by identity, without torch."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_codec.errors import ModelError
from ddpm_codec.models import find_model, list_models, registry
from ddpm_codec.models.header import KEY

ROOT = Path(__file__).resolve().parents[2]


def model_file(name: str) -> bytes:
    """Return a model file with a header alone, which is all that the registry reads."""
    metadata = {
        "format": 3,
        "name": name,
        "description": f"the {name}",
        "parameters": 1000,
        "macs_per_pixel": 50.5,
        "default_steps": 4,
        "crossings": [],
        "default_crossing": 0,
        "progressive_steps": None,
        "progressive_crossing": 0,
    }
    header = json.dumps({"__metadata__": {KEY: json.dumps(metadata)}}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the registry see two models in a folder of its own."""
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    for name in ("beta", "alpha"):
        (zoo / f"{name}.safetensors").write_bytes(model_file(name))
    monkeypatch.setattr(registry, "FOLDER", zoo)
    return zoo


def test_list(folder: Path) -> None:
    models = list_models()
    assert [model.name for model in models] == ["alpha", "beta"]
    content = model_file("alpha")
    assert models[0].to_json() == {
        "name": "alpha",
        "id": hashlib.sha256(content).hexdigest(),
        "path": str(folder / "alpha.safetensors"),
        "bytes": len(content),
        "parameters": 1000,
        "macs_per_pixel_per_level": 50.5,
        "decoder_macs_per_pixel": 0,
        "steps": 4,
        "macs_per_pixel_total": 252.5,
        "crossings": (),
        "crossing": None,
        "progressive_steps": None,
        "progressive_crossing": None,
        "description": "the alpha",
    }


def test_find_by_name_or_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.bin").write_bytes(model_file("own"))
    (tmp_path / "alpha").write_bytes(b"a file of the same name")
    monkeypatch.chdir(tmp_path)
    assert find_model("alpha") == folder / "alpha.safetensors"
    assert find_model("./alpha") == Path("alpha")
    assert find_model("own.bin") == Path("own.bin")
    assert find_model(str(tmp_path / "own.bin")) == tmp_path / "own.bin"


def test_a_folder_is_no_model_by_itself(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"\A[^\n]*is a folder without a model[^\n]*\Z"):
        find_model(str(folder))
    (folder / "model.json").write_text("{}")
    assert find_model(str(folder)) == folder


@pytest.mark.parametrize("name", ["gamma", "../zoo/alpha", "alpha/", "x" * 5000, "nul\0byte", "a\nb"])
def test_unknown_models(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no such model or file; shipped models: alpha, beta\Z"):
        find_model(name)


def test_an_empty_name_is_no_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"\Athe name of the model is empty\Z"):
        find_model("")


def test_an_empty_zoo(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    assert list_models() == []
    with pytest.raises(ModelError, match="shipped models: none"):
        find_model("alpha")


def test_find_by_id(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.bin"
    own.write_bytes(model_file("own"))
    ids = {name: hashlib.sha256(model_file(name)).hexdigest() for name in ("alpha", "own", "gone")}
    assert registry.find_by_id(ids["alpha"]) == folder / "alpha.safetensors"
    assert registry.find_by_id(ids["alpha"], Path("alpha")) == folder / "alpha.safetensors"
    assert registry.find_by_id(ids["own"], own) == own
    with pytest.raises(ModelError, match=rf"model {ids['own'][:16]}\.\.\., which is not installed; pass its file"):
        registry.find_by_id(ids["own"])
    for name in ("gone", "alpha"):
        # The second one ships, but the user says that it is not what the file was coded with.
        with pytest.raises(ModelError, match=rf"model {ids[name][:16]}\.\.\., [^\n]*own\.bin is another model"):
            registry.find_by_id(ids[name], own)
    with pytest.raises(ModelError, match=r"none\.bin: no such model or file"):
        registry.find_by_id(ids["gone"], tmp_path / "none.bin")


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, model_file("x").replace(b"parameters", b"parametres")])
def test_damaged_models_are_one_line(content: bytes, folder: Path) -> None:
    (folder / "alpha.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"\A[^\n]*alpha\.safetensors: [^\n]+\Z"):
        list_models()


def test_listing_and_finding_load_neither_torch_nor_numpy(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ddpm_codec.models import registry;"
        f"registry.FOLDER = Path({str(folder)!r});"
        "assert len(registry.list_models()) == 2; registry.find_by_id(registry.model_id(registry.find_model('alpha')));"
        "sys.exit(' '.join({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) in {(0, ""), (1, "\n")}


def test_what_ships_is_described() -> None:
    for model in list_models():
        assert model.bytes <= 12_000_000
        assert model.macs_per_pixel_total <= 2_500_000
        assert find_model(model.name) == Path(model.path)
