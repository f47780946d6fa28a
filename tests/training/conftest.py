"""Small pictures, a run of seconds, and networks to calibrate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.training import calibration, export, freezing
from ddpm_codec.training.checkpoint import build_denoiser
from ddpm_codec.training.config import TrainConfig


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
    """Return smooth random pictures, [24, 24, 32, 3] uint8."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (24, 3, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noisy: NDArray[np.uint8] = np.clip(coarse + rng.integers(-9, 10, coarse.shape), 0, 255).astype(np.uint8)
    return noisy


@pytest.fixture
def tiny(tmp_path: Path, pictures: NDArray[np.uint8]) -> Callable[..., TrainConfig]:
    """Make the configuration of a run of seconds; keywords replace its values."""
    np.save(tmp_path / "pictures.npy", pictures)

    def make(**values: Any) -> TrainConfig:  # noqa: ANN401
        defaults = {
            "data": str(tmp_path / "pictures.npy"),
            "output": str(tmp_path / "run"),
            "holdout": 4,
            "size": "small",
            "crop": 16,
            "batch": 8,
            "train_steps": 12,
            "warmup": 3,
            "steps": 6,
            "device": "cpu",
            "dtype": "float32",
            "checkpoint_every": 4,
            "validate_every": 6,
            "validation_images": 4,
            "log_every": 3,
        }
        return TrainConfig.from_dict(defaults | values)

    return make


@pytest.fixture
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on a few crops, as far as runs do it by themselves."""
    monkeypatch.setattr(calibration, "CROP_PIXELS", 1 << 12)
    monkeypatch.setattr(export, "REACH_PIXELS", 1 << 12)
    monkeypatch.setattr(freezing, "TRIAL_PIXELS", 1 << 11)


@pytest.fixture
def alive(tiny: Callable[..., TrainConfig]) -> CodecDenoiser:
    """A network whose residual branches and heads are not zero, as they are before training."""
    denoiser = build_denoiser(tiny()).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in denoiser.parameters():
        parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return denoiser
