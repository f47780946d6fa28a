"""A model made ready to code: on its device, at its chain, with a clock on the network."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import InputError
from ddpm_codec.nn.frozen import FrozenModel
from ddpm_codec.nn.integer import FloatIntegerDenoiser, IntegerDenoiser, IntegerPrediction


class TimedDenoiser:
    """An :class:`IntegerDenoiser` that adds up the seconds spent in another."""

    def __init__(self, inner: IntegerDenoiser) -> None:
        self._inner = inner
        self.seconds = 0.0

    def coefficients(self, picture: NDArray[np.int64], level: int) -> IntegerPrediction:
        """See :class:`IntegerDenoiser`."""
        started = time.perf_counter()
        prediction = self._inner.coefficients(picture, level)
        self.seconds += time.perf_counter() - started
        return prediction

    def pixels(self, picture: NDArray[np.int64], level: int) -> IntegerPrediction:
        """See :class:`IntegerDenoiser`."""
        started = time.perf_counter()
        prediction = self._inner.pixels(picture, level)
        self.seconds += time.perf_counter() - started
        return prediction


@dataclass(frozen=True)
class Engine:
    """A lattice model over a timed denoiser."""

    lattice: DiffusionLattice
    clock: TimedDenoiser
    steps: int


def resolve_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: cuda was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: torch sees no CUDA device here")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def open_engine(model: FrozenModel, steps: int | None, device: torch.device, dtype: str) -> Engine:
    """Make ``model`` ready to code over its chain of ``steps`` steps (default: its own).

    Raises:
        ModelError: no such chain, or weights that do not fit.
    """
    sigmas = model.chain_sigmas(steps)
    log_snr = tuple(float(value) for value in -2.0 * np.log(np.array(sigmas)))
    clock = TimedDenoiser(FloatIntegerDenoiser(model.denoiser(device), log_snr, dtype))
    lattice = DiffusionLattice(clock, by_name(model.transform), sigmas, model.prior_mean, model.prior_variance)
    return Engine(lattice, clock, len(sigmas) - 1)
