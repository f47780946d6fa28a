"""The configuration: what it takes, what it refuses, and that it re-reads equal."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.errors import InputError
from ddpm_codec.nn.ddpm_unet import UNet
from ddpm_codec.training.config import MAX_STEPS, TrainConfig
from ddpm_codec.training.ddpm_settings import process_of, unet_of

ROOT = Path(__file__).resolve().parents[2]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(data=texts, lr=st.floats(1e-9, 1e9), seed=st.integers(0, (1 << 63) - 1), flip=st.booleans())
def test_saved_configuration_reads_equal(
    data: str, lr: float, seed: int, flip: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = TrainConfig(data=(data,) if data else (), lr=lr, seed=seed, flip=flip)
    path = tmp_path_factory.getbasetemp() / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert TrainConfig.from_sources(path, {}) == config


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("batch = 16\nlr = 1\ntrain_steps = 7\n")
    config = TrainConfig.from_sources(tmp_path / "c.toml", {"train_steps": 9, "batch": None, "data": "x"})
    assert config == TrainConfig(data=("x",), batch=16, lr=1.0, train_steps=9)
    assert TrainConfig.from_sources(None, {}) == TrainConfig()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nonsense", 1),
        ("train_steps", "many"),
        ("train_steps", 1.5),
        ("train_steps", True),
        ("steps", MAX_STEPS + 1),
        ("lr", "fast"),
        ("lr", False),
        ("flip", 1),
        ("data", 3),
        ("data", ["a", 3]),
        ("crossings", [3.2, 0.0]),
        ("crossings", [True]),
        ("tail", "square"),
        ("mean_weight", 0.7),
        ("train_steps", None),
        *[(key, 0) for key in ("crop", "batch", "train_steps", "steps", "log_every", "validate_every")],
        ("checkpoint_every", 0),
        ("validation_images", 0),
        *[("lr", value) for value in (0.0, -1.0, math.nan, math.inf)],
        ("log_snr_min", -math.inf),
        *[("seed", value) for value in (-1, 1 << 63)],
        ("ema", 1.0),
        ("clean_share", -0.1),
        ("warmup", -1),
        ("holdout", -1),
        ("clean_weight", -0.5),
        ("crop", 20),
        ("batch", 1),
        ("log_snr_min", 20.0),
        ("size", "huge"),
        ("transform", "fft"),
        ("optimizer", "sgd"),
        ("device", "tpu"),
        ("dtype", "int8"),
        ("data", "a\udcff"),
    ],
)
def test_bad_values_are_one_line_that_names_the_key(key: str, value: Any) -> None:  # noqa: ANN401
    with pytest.raises(InputError, match=rf"\A[^\n]*{key}[^\n]*\Z"):
        TrainConfig.from_dict({key: value})


def test_a_batch_of_one_is_fine_without_clean_images() -> None:
    assert TrainConfig(batch=1, clean_share=0.0).batch == 1


@pytest.mark.parametrize("content", [b"steps = ", b"\xff\xfe", b"[a]\nb = 1", None])
def test_unreadable_files(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"\A[^\n]+\Z"):
        TrainConfig.from_sources(path, {})


def test_every_key_is_documented() -> None:
    documented = {line.partition(":")[0].strip() for line in (TrainConfig.__doc__ or "").splitlines()}
    assert {field.name for field in dataclasses.fields(TrainConfig)} <= documented


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("configs/*.toml")) + sorted(ROOT.glob("models/*.toml")), ids=lambda f: f.stem
)
def test_configurations_that_come_with_the_project(file: Path) -> None:
    config = TrainConfig.from_sources(file, {})
    if file.parent.name == "configs":
        assert f"`{file.name}`" in (ROOT / "configs" / "README.md").read_text()
        with torch.device("meta"):
            network = UNet(unet_of(config))
        assert network.config.learned_range == (config.variance == "learned-range")
        assert config.crop % network.config.stride == 0
        assert process_of(config).timesteps == config.timesteps
