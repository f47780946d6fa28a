"""Our own folders: what is written is read, and what is broken is named in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.errors import ModelError
from ddpm_codec.models.checkpoints.calibration import CALIBRATION, CLASSES, calibration_bytes, read_calibration
from ddpm_codec.models.checkpoints.opening import read_folder, weights_id
from ddpm_codec.models.opening import open_folder
from ddpm_codec.models.registry import model_id
from tests.ddpm_folders import random_ddpm, write_folder

ONE_LINE = r"\A[^\n]*{}[^\n]*\Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(random_ddpm(), tmp_path / "model")


def some_errors() -> Calibration:
    return Calibration(np.array([9.0, 2.0, -5.0]), np.linspace(0.01, 1.0, 3 * CLASSES).reshape(3, CLASSES))


@pytest.mark.parametrize("variance", ["beta", "beta-tilde", "learned-range"])
@pytest.mark.parametrize("output", ["eps", "x0", "v", "previous"])
def test_a_folder_holds_the_whole_model(tmp_path: Path, output: Any, variance: Any) -> None:  # noqa: ANN401
    model = random_ddpm(output=output, variance=variance, timesteps=7, clip=False)
    found = read_folder(write_folder(model, tmp_path / "model"))
    assert (found.name, found.unet, found.sample_size) == (model.name, model.unet, 16)
    assert (found.process.output, found.process.variance, found.process.clip) == (output, variance, False)
    np.testing.assert_array_equal(found.process.schedule.log_alpha_bar, model.process.schedule.log_alpha_bar)
    assert found.weights.keys() == model.weights.keys()
    assert all(torch.equal(value, model.weights[key]) for key, value in found.weights.items())
    assert weights_id(found) == weights_id(model)


def test_a_plain_state_dict_of_torch(folder: Path) -> None:
    tensors = load_file(folder / "weights.safetensors")
    (folder / "weights.safetensors").unlink()
    torch.save(tensors, folder / "weights.pt")
    assert weights_id(read_folder(folder)) == weights_id(random_ddpm())


def test_identities_differ_with_what_matters() -> None:
    models = [
        random_ddpm(),
        random_ddpm(seed=1),
        random_ddpm(timesteps=21),
        random_ddpm(output="v"),
        random_ddpm(variance="beta-tilde"),
    ]
    assert len({weights_id(model) for model in models}) == len(models)


def change_config(key: str, value: Any) -> Callable[[Path], None]:  # noqa: ANN401
    def change(folder: Path) -> None:
        config = json.loads((folder / "model.json").read_text())
        if value is None:
            del config[key]
        else:
            config[key] = value
        (folder / "model.json").write_text(json.dumps(config))

    return change


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "weights.safetensors")
        change(tensors)
        save_file(tensors, folder / "weights.safetensors")

    return apply


def cut(name: str, length: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:length])

    return apply


class Bomb:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.path, "boom")


def plant(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    torch.save({"stem.weight": Bomb(folder / "exploded")}, folder / "weights.pt")


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda folder: (folder / "model.json").unlink(), "contains no model"),
    "config cut": (cut("model.json", 40), r"model\.json: not a JSON"),
    "config a list": (lambda folder: (folder / "model.json").write_text("[]"), r"model\.json: not a JSON object"),
    "other format": (change_config("format", "x"), "format 'x'"),
    "key missing": (change_config("prediction", None), "'prediction' is missing"),
    "unknown output": (change_config("prediction", "score"), "output = 'score'"),
    "field unknown": (change_config("unet", {"depth": 3}), "unknown field 'depth'"),
    "field of other kind": (change_config("unet", {"blocks": "two"}), "blocks = 'two'"),
    "unet no object": (change_config("unet", 3), r"model\.json"),
    "channels": (change_config("unet", {"channels": 1}), "channels = 1"),
    "size": (change_config("sample_size", -4), "sample_size = -4"),
    "range": (change_config("variance", "learned-range"), "learned-range"),
    "weights missing": (lambda folder: (folder / "weights.safetensors").unlink(), "cannot read the weights"),
    "weights cut": (cut("weights.safetensors", 5000), r"weights\.safetensors: damaged"),
    "weights empty": (cut("weights.safetensors", 0), r"weights\.safetensors: damaged"),
    "schedule missing": (change_weights(lambda t: t.pop("log_alpha_bar")), "'log_alpha_bar' is missing"),
    "schedule rising": (change_weights(lambda t: t.update(log_alpha_bar=-t["log_alpha_bar"])), "decreasing"),
    "weight missing": (change_weights(lambda t: t.pop("stem.bias")), "'stem.bias' is missing"),
    "weight left over": (change_weights(lambda t: t.update(more=torch.ones(1))), "unexpected weight 'more'"),
    "weight of other shape": (
        change_weights(lambda t: t.update({"stem.bias": torch.ones(5)})),
        r"'stem\.bias' has shape \(5,\), expected \(16,\)",
    ),
    "weight not finite": (
        change_weights(lambda t: t.update({"stem.bias": torch.full((16,), torch.nan)})),
        r"'stem\.bias' must hold finite",
    ),
    "a pickle that acts": (plant, "without running code"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_broken_is_named_in_one_line(folder: Path, fault: str) -> None:
    spoil, words = BROKEN[fault]
    spoil(folder)
    with pytest.raises(ModelError, match=ONE_LINE.format(words)):
        open_folder(folder)
    assert not (folder / "exploded").exists()


def test_a_calibration_is_read_back(folder: Path) -> None:
    identity = weights_id(random_ddpm())
    assert read_calibration(folder, identity) is None
    assert open_folder(folder).calibration is None
    (folder / CALIBRATION).write_bytes(calibration_bytes(some_errors(), identity, 5, "data"))
    found = open_folder(folder).calibration
    assert found is not None
    np.testing.assert_array_equal(found.log_snr, some_errors().log_snr)
    np.testing.assert_array_equal(found.mse, some_errors().mse)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: calibration_bytes(c, "other", 5, ""), "other weights"),
        (lambda c: calibration_bytes(c, "own", 5, "")[:300], "damaged"),
        (lambda c: calibration_bytes(Calibration(c.log_snr[::-1], c.mse), "own", 5, ""), "levels must decrease"),
        (
            lambda c: calibration_bytes(Calibration(c.log_snr, c.mse[:, :3]), "own", 5, ""),
            r"got \[3\] and \[3, 3\]",
        ),
        (lambda c: calibration_bytes(Calibration(c.log_snr, c.mse * np.nan), "own", 5, ""), "not finite"),
        (lambda c: calibration_bytes(Calibration(c.log_snr, -c.mse), "own", 5, ""), "errors be positive"),
    ],
)
def test_calibrations_that_do_not_fit(folder: Path, spoil: Callable[[Calibration], bytes], words: str) -> None:
    (folder / CALIBRATION).write_bytes(spoil(some_errors()))
    with pytest.raises(ModelError, match=ONE_LINE.format(words)):
        read_calibration(folder, "own")


def test_the_same_calibration_is_the_same_file(tmp_path: Path) -> None:
    """Whatever the hash seed of the process: files that were coded with it name it by its bytes."""
    calibration = Calibration(np.array([2.0, 1.0]), np.ones((2, CLASSES)))
    here = calibration_bytes(calibration, "w", 5, "data")
    # safetensors draws a new seed for every table that it hashes with.
    assert all(calibration_bytes(calibration, "w", 5, "data") == here for _ in range(32))
    program = (
        "import sys, numpy as np\n"
        "from ddpm_codec.diffusion.measurement import Calibration\n"
        "from ddpm_codec.models.checkpoints.calibration import CLASSES, calibration_bytes\n"
        "calibration = Calibration(np.array([2.0, 1.0]), np.ones((2, CLASSES)))\n"
        "sys.stdout.buffer.write(calibration_bytes(calibration, 'w', 5, 'data'))\n"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment).stdout
    assert there == here
    assert len(here) > 2 * CLASSES * 8


def as_torch_file(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "weights.safetensors")
    (folder / "weights.safetensors").unlink()
    change(tensors)
    torch.save(tensors, folder / "weights.pt")


def test_parameters_are_tensors(folder: Path) -> None:
    as_torch_file(folder, lambda t: t.update({key: torch.nn.Parameter(value) for key, value in t.items()}))
    assert not any(value.requires_grad for value in read_folder(folder).weights.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.update({"stem.bias": torch.empty(16, device="meta")}),
            r"weights\.pt: tensor 'stem\.bias' is not a plain",
        ),
        (
            lambda t: t.update({"stem.bias": torch.ones(16).to_sparse()}),
            r"weights\.pt: tensor 'stem\.bias' is not a plain",
        ),
        (
            lambda t: t.update(log_alpha_bar=t["log_alpha_bar"] * 1j),
            r"'log_alpha_bar' is missing or not floating point",
        ),
        (lambda t: t["log_alpha_bar"].mul_(1e300), r"ends at a log-SNR of"),
    ],
)
def test_strange_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], words: str) -> None:
    as_torch_file(folder, change)
    with pytest.raises(ModelError, match=ONE_LINE.format(words)):
        read_folder(folder)


def test_only_the_files_of_a_model_make_its_name(folder: Path) -> None:
    before = model_id(folder)
    (folder / "results.json").write_text("{}")
    (folder / "runs").mkdir()
    (folder / "runs" / "last.pt").write_bytes(b"x")
    assert model_id(folder) == before
    (folder / CALIBRATION).write_bytes(calibration_bytes(some_errors(), "own", 5, "data"))
    assert model_id(folder) != before
