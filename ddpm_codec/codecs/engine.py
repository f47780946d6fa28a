"""A model made ready to code: on its device, at its chain, with a clock on the network."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.chain import GreyChain
from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.coding.tables import tables_hash
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import ModelError
from ddpm_codec.models.protocol import CodecModel
from ddpm_codec.nn.integer import IntegerDenoiser, IntegerPrediction


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
    """A chain over a timed denoiser, as each codec sees it."""

    lattice: DiffusionLattice
    chain: ProgressiveChain
    clock: TimedDenoiser
    steps: int


def open_engine(model: CodecModel, steps: int | None, device: torch.device, dtype: str) -> Engine:
    """Make ``model`` ready to code over its chain of ``steps`` steps (default: its own).

    Raises:
        ModelError: no such chain, weights that do not fit, or coding tables that are not those of the model.
    """
    sigmas = model.chain_sigmas(steps)
    if model.arithmetic == "exact" and model.tables != tables_hash():
        raise ModelError(
            f"model {model.name} was made with other coding tables (hash {model.tables[:12]}, here {tables_hash()[:12]})"
        )
    clock = TimedDenoiser(model.integer_denoiser(steps, device, dtype))
    chain = GreyChain(clock, by_name(model.transform), sigmas, model.prior_mean, model.prior_variance)
    return Engine(DiffusionLattice(chain), ProgressiveChain(chain), clock, chain.steps)
