"""``ddpm-codec train``: options, configuration file, what it prints and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpm_codec.nn.codec_net import SIZES, macs_per_pixel
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec_cli.main import main

Make = Callable[..., TrainConfig]


def test_options_lie_over_the_file(tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text(tiny().to_toml())
    output = tmp_path / "other"
    options = ["--train-steps", "2", "--no-flip", "--log-snr-min", "-2.5", "--threads", "1", "--json"]
    assert main(["train", "--config", str(tmp_path / "c.toml"), "-o", str(output), *options]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "checkpoint": str(output / "last.pt"),
        "macs_per_pixel": {"network": macs_per_pixel(SIZES["tiny"])},
        "notes": [],
    }
    assert "multiply-adds per pixel: network 5,232" in captured.err
    expected = tiny(train_steps=2, flip=False, log_snr_min=-2.5, output=str(output))
    assert load_checkpoint(output).config == expected
    assert TrainConfig.from_sources(output / "config.toml", {}) == expected


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["missing", "-o", "run"], "missing: no such file or folder"),
        (["x", "-o", "run", "--lr", "nan"], "lr = nan: should be a finite number"),
        (["x", "-o", "run", "--size", "huge"], "size = 'huge': use one of base, ddpm-256, ddpm-cifar10"),
        (["x", "-o", "run", "--config", "none.toml"], "none.toml: cannot read the configuration"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    arguments: list[str],
    cause: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert cause in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["missing"], ["-o", "run"], []])
def test_what_and_where_have_to_be_named(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    assert "name DATA and --output DIR" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_value_of_the_wrong_kind_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "x", "-o", "y", "--train-steps", "many"]) == 2
    assert "--train-steps" in capsys.readouterr().err
