"""Small pictures and a run of seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
            "steps": 12,
            "warmup": 3,
            "levels": 6,
            "device": "cpu",
            "dtype": "float32",
            "checkpoint_every": 4,
            "validate_every": 6,
            "validation_images": 4,
            "log_every": 3,
        }
        return TrainConfig.from_dict(defaults | values)

    return make
