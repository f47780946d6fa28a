"""Sampling from the folder of a DDPM: its timesteps, its size, its learned range."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.own import own_files
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.nn.ddpm_unet import UNet, UNetConfig
from ddpm_codec.sampling.run import SampleOptions, sample_pictures

TIMESTEPS = 20


@pytest.fixture(params=[False, True], ids=["beta", "learned-range"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tiny network with random weights."""
    learned = bool(request.param)
    config = UNetConfig(widths=(8, 16), blocks=1, groups=4, time_channels=8, learned_range=learned)
    weights = {key: 0.1 * torch.randn_like(value) + (value == 1.0) for key, value in UNet(config).state_dict().items()}
    schedule = NoiseSchedule.linear_beta(TIMESTEPS, 1e-3, 0.4)
    process = ReverseProcess(schedule, "eps", "learned-range" if learned else "beta")
    (tmp_path / "model").mkdir()
    for name, content in own_files(Published("tiny", config, weights, process, sample_size=16)).items():
        (tmp_path / "model" / name).write_bytes(content)
    return tmp_path / "model"


def test_all_timesteps_by_default_and_fewer_on_demand(folder: Path) -> None:
    output = folder.parent / "x.npy"
    calls: list[tuple[int, int]] = []
    options = SampleOptions(str(folder), count=5, device="cpu", batch=1)
    report = sample_pictures(output, options, progress=lambda done, total: calls.append((done, total)))
    assert (report["steps"], report["evaluations"], report["size"]) == (TIMESTEPS, 5 * TIMESTEPS, [16, 16])
    # 1024 pixels at a time are four pictures of 16x16; the fifth goes alone.
    done = [4 * (k + 1) for k in range(TIMESTEPS)] + [4 * TIMESTEPS + k + 1 for k in range(TIMESTEPS)]
    assert calls == [(count, 5 * TIMESTEPS) for count in done]
    assert np.load(output).std() > 1.0
    report = sample_pictures(output, SampleOptions(str(folder), count=3, steps=5), overwrite=True)
    assert (report["steps"], report["evaluations"]) == (5, 15)


def test_pictures_of_any_size_in_the_identity(folder: Path) -> None:
    report = sample_pictures(folder.parent / "x.npy", SampleOptions(str(folder), count=1, steps=2, size=(13, 9)))
    assert report["size"] == [13, 9]
    assert np.load(folder.parent / "x.npy").shape == (1, 9, 13, 3)


def test_what_the_model_has_not_is_refused(folder: Path) -> None:
    for options in (SampleOptions(steps=TIMESTEPS + 1), SampleOptions(steps=1), SampleOptions(variance="class")):
        with pytest.raises((InputError, ModelError), match="tiny"):
            sample_pictures(folder.parent / "x.png", SampleOptions(**{**vars(options), "model": str(folder)}))
    assert not (folder.parent / "x.png").exists()
