"""A small network, calibrated, and its exact twin."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact import ends, passes
from ddpm_codec.nn.exact.freeze import freeze
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.nn.integer import PICTURE_BITS
from ddpm_codec.training.calibration import calibrate, measure_reach, run_at_levels
from tests.toy_models import toy_denoiser

GRID = np.array([10.0, 6.0, 2.0, -2.0])


def crops() -> torch.Tensor:
    """Return smooth pictures in model values, [8, 3, 16, 24]."""
    coarse = torch.rand((8, 3, 2, 3), generator=torch.Generator().manual_seed(4)) - 0.5
    smooth: torch.Tensor = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
    return smooth


def noisy(level: int, batch: int = 2) -> NDArray[np.int64]:
    """Return crops noised to a level of GRID, in the integers of a picture."""
    x_0 = crops()[:batch].numpy()
    noise = np.random.default_rng(level).normal(0.0, np.exp(-0.5 * GRID[level]), x_0.shape)
    picture: NDArray[np.int64] = np.rint((x_0 + noise) * 127.5 * 2**PICTURE_BITS).astype(np.int64)
    return picture


def _calibrated() -> CodecDenoiser:
    denoiser = toy_denoiser()
    calibrate(denoiser, crops(), torch.from_numpy(GRID).float(), lambda: 0.0)
    wide = denoiser.net.layers()["before.0.first"].quantizer
    assert wide is not None
    wide.wide.fill_(1.0)
    wide.step.div_(32.0)
    return denoiser


@pytest.fixture
def calibrated() -> CodecDenoiser:
    """Return the small denoiser with the steps of its quantisers; one of its layers is wide."""
    return _calibrated()


@pytest.fixture(scope="session")
def parameters() -> ExactParameters:
    """Return its exact network, made once: its arrays cannot be written to."""
    denoiser = _calibrated()
    levels = torch.from_numpy(GRID).float()
    exact = freeze(denoiser, GRID, measure_reach(denoiser.net, lambda: run_at_levels(denoiser, crops(), levels)))
    _make_read_only(exact)
    return exact


def interpret(patch: pytest.MonkeyPatch) -> None:
    """Let compiled functions run as they are written."""
    for module in (passes, ends):
        functions = {name: value.py_func for name, value in vars(module).items() if hasattr(value, "py_func")}
        assert functions
        for name, function in functions.items():
            patch.setattr(module, name, function)


def _make_read_only(part: object) -> None:
    if isinstance(part, np.ndarray):
        part.flags.writeable = False
    elif isinstance(part, dict):
        for value in part.values():
            _make_read_only(value)
    elif dataclasses.is_dataclass(part):
        _make_read_only(vars(part))
