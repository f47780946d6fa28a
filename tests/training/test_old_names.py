"""What was stored before ``train_steps`` existed, when ``steps`` was the length of a run and ``levels`` was K, still opens.

``old_config.toml`` is such a configuration as ``ddpm-codec train`` wrote it into the folder of a run, complete.
"""

import dataclasses
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_codec.errors import InputError
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.export import export_model
from ddpm_codec.training.export_checkpoint import export_checkpoint
from ddpm_codec.training.export_options import ExportOptions
from ddpm_codec.training.run import forked_config, train
from ddpm_codec_cli.main import main

Make = Callable[..., TrainConfig]
OLD = Path(__file__).with_name("old_config.toml")
MODELS = Path(__file__).resolve().parents[2] / "models"


def in_old_names(config: dict[str, Any]) -> dict[str, Any]:
    names = {"steps": "levels", "train_steps": "steps"}
    return {names.get(key, key): value for key, value in config.items()}


def make_old(checkpoint: Path) -> None:
    """Give the configuration of a checkpoint its old names, as far as stored ones had them."""
    content = torch.load(checkpoint, weights_only=True)
    content["config"] = in_old_names(content["config"])
    torch.save(content, checkpoint)


def test_the_configuration_of_an_old_run() -> None:
    old = tomllib.loads(OLD.read_text())
    config = TrainConfig.from_sources(OLD, {})
    assert (config.steps, config.train_steps) == (old["levels"], old["steps"]) == (11, 9000)
    assert config == TrainConfig.from_stored(old)
    new = tomllib.loads(config.to_toml())
    # Keys that came later have their defaults.
    assert in_old_names(new) == old | {"data": new["data"], "skip_small": False, "augment_saturation": 0.0}
    assert TrainConfig.from_stored(new) == TrainConfig.from_dict(new) == config


def test_options_over_an_old_configuration_have_todays_names() -> None:
    config = TrainConfig.from_sources(OLD, {"steps": 4, "train_steps": 7})
    assert (config.steps, config.train_steps) == (4, 7)


@pytest.mark.parametrize("weights", sorted(MODELS.glob("*.pt")), ids=lambda path: path.stem)
def test_the_weights_that_come_with_the_project(weights: Path) -> None:
    stored = torch.load(weights, weights_only=True)["config"]
    config = load_checkpoint(weights).config
    if "train_steps" not in stored:
        assert (config.steps, config.train_steps) == (stored["levels"], stored["steps"])
    # A run at a constant rate is configured for a million, and stopped.
    assert 1000 < config.train_steps <= 1_000_000
    assert config.steps in (11, 12, 16)


def test_an_old_run_resumes_forks_starts_others_and_is_exported(tiny: Make, tmp_path: Path) -> None:
    config = tiny(size="tiny", train_steps=3, steps=5, decay=0.0)
    whole = train(tiny(size="tiny", train_steps=4, steps=5, decay=0.0, output=str(tmp_path / "whole")), progress=False)
    path = train(config, progress=False)
    make_old(path)
    config_file = path.with_name("config.toml")
    old = TrainConfig.from_sources(config_file, {}).to_toml().replace("\nsteps = ", "\nlevels = ")
    config_file.write_text(old.replace("\ntrain_steps = ", "\nsteps = "))
    assert load_checkpoint(path).config == config

    fork = forked_config(path.parent, {"output": str(tmp_path / "fork"), "train_steps": 4})
    assert (fork.steps, fork.train_steps) == (5, 4)
    train(fork, progress=False)
    starts = dataclasses.replace(config, init_from=str(path), output=str(tmp_path / "next"), train_steps=1)
    assert load_checkpoint(train(starts, progress=False)).step == 1
    export_checkpoint(path, tmp_path / "small.pt")
    assert load_checkpoint(tmp_path / "small.pt").config.steps == 5
    model = export_model(path, tmp_path / "m.safetensors", ExportOptions("m", limit=2, exact=False))
    assert (model.default_steps, model.training["steps"]) == (5, 3)

    # The same command goes on, from the old configuration that it had written.
    assert main(["train", "--config", str(config_file), "--train-steps", "4"]) == 0
    for run in (path, tmp_path / "fork" / "last.pt"):
        found, expected = load_checkpoint(run), load_checkpoint(whole)
        assert found.step == 4
        assert all(torch.equal(value, expected.ema[key]) for key, value in found.ema.items())


@pytest.mark.parametrize("length", [2000, 12])
def test_a_file_whose_steps_could_be_either_is_refused(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'size = "tiny"\nsteps = {length}\n')
    words = ["train", "x", "-o", str(tmp_path / "run"), "--config", str(path)]
    # An option says what is meant by itself, and not what the file means.
    for more in ([], ["--train-steps", "5"]):
        assert main([*words, *more]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert f"c.toml: steps = {length} without train_steps is ambiguous: rename it to train_steps if" in err
    assert not (tmp_path / "run").exists()
    path.write_text(f"train_steps = {length}\nsteps = 3\n")
    assert TrainConfig.from_sources(path, {}) == TrainConfig(train_steps=length, steps=3)


def test_a_file_with_names_of_both_kinds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("train_steps = 900\nlevels = 11\n")
    with pytest.raises(InputError, match=r"\Aunknown key 'levels'; did you mean 'steps'\?\Z"):
        TrainConfig.from_sources(tmp_path / "c.toml", {})


def test_the_length_of_a_run_as_steps_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "x", "-o", str(tmp_path / "run"), "--steps", "50000"]) == 1
    assert capsys.readouterr().err.endswith(
        "steps = 50000: at most 100 steps of the chain (the length of a run is train_steps)\n"
    )
