"""Small pictures, runs of seconds, networks to calibrate, and what two processes do; what is dear is made once."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.training import calibration, decoder_calibration, export, freezing
from ddpm_codec.training.checkpoint import build_denoiser
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.run import train

Make = Callable[..., TrainConfig]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def pictures() -> NDArray[np.uint8]:
    """Return smooth random pictures, [24, 24, 32, 3] uint8."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (24, 3, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    noisy: NDArray[np.uint8] = np.clip(coarse + rng.integers(-9, 10, coarse.shape), 0, 255).astype(np.uint8)
    return noisy


def maker(folder: Path, pictures: NDArray[np.uint8]) -> Make:
    """Return what makes the configuration of a run of seconds in ``folder``; keywords replace its values."""
    np.save(folder / "pictures.npy", pictures)

    def make(**values: Any) -> TrainConfig:  # noqa: ANN401
        defaults = {
            "data": str(folder / "pictures.npy"),
            "output": str(folder / "run"),
            "holdout": 4,
            "size": "tiny",
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
def tiny(tmp_path: Path, pictures: NDArray[np.uint8]) -> Make:
    """Make the configuration of a run of seconds; keywords replace its values."""
    return maker(tmp_path, pictures)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> Make:
    """Make configurations of runs that several tests read."""
    return maker(tmp_path_factory.mktemp("shared"), pictures)


def use_few_crops(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(calibration, "CROP_PIXELS", 1 << 12)
    patch.setattr(calibration, "SAMPLES", 400)
    patch.setattr(decoder_calibration, "CROP_PIXELS", 1 << 12)
    patch.setattr(decoder_calibration, "COST_PIXELS", 1 << 11)
    patch.setattr(export, "REACH_PIXELS", 1 << 11)
    patch.setattr(export, "PRIOR_CROPS", 256)
    patch.setattr(freezing, "TRIAL_PIXELS", 1 << 11)


@pytest.fixture
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on a few crops, as far as runs do it by themselves."""
    use_few_crops(monkeypatch)


def trained(config: TrainConfig) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        use_few_crops(patch)
        return train(config, progress=False)


@pytest.fixture(scope="session")
def float_run(shared: Make) -> Path:
    """The last checkpoint of a run of 12 steps. Tests only read it."""
    config = shared()
    return trained(shared(output=config.output + "-float"))


@pytest.fixture(scope="session")
def rounded_run(shared: Make) -> Path:
    """The same with rounding."""
    config = shared()
    return trained(shared(output=config.output + "-rounded", quantize=True))


@pytest.fixture(scope="session")
def alive_network(shared: Make) -> CodecDenoiser:
    denoiser = build_denoiser(shared(size="small")).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in denoiser.parameters():
        parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return denoiser


@pytest.fixture
def alive(alive_network: CodecDenoiser) -> CodecDenoiser:
    """A network whose residual branches and heads are not zero, as they are before training."""
    return copy.deepcopy(alive_network)


def launch(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run under torchrun; --standalone takes a free port."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [*(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"), *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="session")
def pair(shared: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes saved (:mod:`tests.training.distributed_worker`)."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "config.toml").write_text(shared().to_toml())
    done = launch(str(Path(__file__).with_name("distributed_worker.py")), str(folder / "config.toml"), str(folder))
    assert done.returncode == 0, done.stderr
    return folder
