"""Frozen models: the networks, chains, prior and calibration that code files.

The networks are exact (integers, the same on every device) or in floating point (weights, for research).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.device import preferred_dtype
from ddpm_codec.diffusion.chain import Chain, even_chain
from ddpm_codec.diffusion.crossing import SAME_LEVEL, log_snr_at, pinned_chain
from ddpm_codec.diffusion.measurement import Calibration, VarianceKind
from ddpm_codec.diffusion.noise_level import log_snr_from_sigma
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.diffusion.variance import variances_of
from ddpm_codec.errors import ModelError
from ddpm_codec.models.protocol import BoundSetting, Schedule
from ddpm_codec.nn.codec_net import CodecNet, CodecNetConfig
from ddpm_codec.nn.denoiser import CodecDenoiser, MixedPrecision
from ddpm_codec.nn.exact.bound import ExactBoundDenoiser
from ddpm_codec.nn.exact.decoder_bound import ExactPixelLikelihood
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.exact.executor import ExactDenoiser, make_executor
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.nn.integer import FloatIntegerDenoiser, IntegerDenoiser

Key = tuple[int, int]
"""Of a chain: index of its crossing, and K."""


@dataclass(frozen=True)
class FrozenModel:
    """A denoiser, and a pixel decoder or none, with everything that a codec needs beside them.

    With a pixel decoder there are chains above each of its crossings. Level 0 of such a chain is the crossing, where the
    denoiser is never asked; the others are levels that it has tables for. Without one, all chains are those of crossing 0,
    and the denoiser decodes their level 0 itself.

    Attributes:
        name: short name.
        description: one line.
        config: of the network.
        transform: name of W.
        weights: of a network in floating point, kernels in float16; empty where the network is exact.
        sigmas: for each (crossing, K), the noise standard deviations sigma = 1 / sqrt(snr) of the chain's K + 1 levels
            in model values, cleanest first.
        default_steps: K of the default chain.
        tile: default side of tiles in pixels.
        prior_mean: mean of each coefficient of W x_0, [D].
        prior_variance: its variance, [D].
        grid_log_snr: candidate levels of the calibration, [G].
        class_mse: mean squared error of each coefficient class at each candidate level, [G, D].
        training: how it was made; free-form, informative.
        exact: the exact network, or None.
        rows: for each (crossing, K), the rows of the exact network's tables that the levels of the chain have, cleanest
            first; beside a pixel decoder those of levels 1 to K alone.
        tables: SHA-256 of the coding tables that an exact model was made with.
        decoder: the exact pixel decoder, with one row of tables a crossing, or None.
        crossings: noise at each crossing, standard deviations in grey levels, increasing; empty without a decoder.
        default_crossing: index of the crossing of the default chain.
        progressive_crossing: index of the crossing of progressive files.
        progressive_steps: K of their chain; None: as the size of a picture wants.
    """

    name: str
    description: str
    config: CodecNetConfig
    transform: str
    weights: dict[str, Tensor]
    sigmas: dict[Key, tuple[float, ...]]
    default_steps: int
    tile: int
    prior_mean: NDArray[np.float64]
    prior_variance: NDArray[np.float64]
    grid_log_snr: NDArray[np.float64]
    class_mse: NDArray[np.float64]
    training: dict[str, Any] = field(default_factory=dict)
    exact: ExactParameters | None = None
    rows: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    tables: str = ""
    decoder: ExactPixelDecoder | None = None
    crossings: tuple[float, ...] = ()
    default_crossing: int = 0
    progressive_crossing: int = 0
    progressive_steps: int | None = None

    @property
    def arithmetic(self) -> str:
        """``exact`` or ``float``."""
        return "float" if self.exact is None else "exact"

    def integer_denoiser(
        self, steps: int | None, crossing: int | None, device: torch.device, dtype: str
    ) -> IntegerDenoiser:
        """Return the denoiser over the levels of the chain of ``steps`` steps above a crossing (default: the model's own).

        Args:
            steps: K.
            crossing: index of the crossing.
            device: where it runs.
            dtype: of a network in floating point; an exact one has none.

        Raises:
            ModelError: no such chain, or weights that do not fit.
        """
        key = self._key(steps, crossing)
        if self.exact is not None:
            first = 0 if self.decoder is None else 1
            return ExactDenoiser(make_executor(self.exact, device), self.rows[key], first)
        log_snr = tuple(log_snr_from_sigma(self.sigmas[key]).tolist())
        return FloatIntegerDenoiser(MixedPrecision(self.denoiser(device), dtype), log_snr, device)

    def pixel_decoder_executor(self, device: torch.device) -> PixelDecoderExecutor | None:
        """Return the exact pixel decoder on ``device``; None where the model has none."""
        return None if self.decoder is None else PixelDecoderExecutor(self.decoder, device)

    def pixel_likelihood(self, device: torch.device) -> ExactPixelLikelihood | None:
        """Return p(x_0 | z_0) at the crossings, with the frequencies of the coder; None without a pixel decoder."""
        executor = self.pixel_decoder_executor(device)
        if executor is None:
            return None
        return ExactPixelLikelihood(executor, tuple(log_snr_at(own) for own in self.crossings))

    def bound_denoiser(self, device: torch.device, dtype: str) -> Denoiser:
        """Return the denoiser for bounds: of an exact model, over its levels alone and with the integers of its coder.

        Raises:
            ModelError: weights that do not fit.
        """
        if self.exact is None:
            return MixedPrecision(self.denoiser(device), dtype)
        rows = tuple(range(self.exact.levels))
        return ExactBoundDenoiser(make_executor(self.exact, device), rows, tuple(self.grid_log_snr.tolist()))

    def chain_steps(self, user_steps: int | None) -> int | None:
        """Return ``user_steps``: users of a codec model count K."""
        return user_steps

    def user_steps(self, chain_steps: int) -> int:
        """Return K."""
        return chain_steps

    def has_chain(self, steps: int, crossing: int | None = None) -> bool:
        """Return whether there is a chain of so many steps above a crossing."""
        return (self.default_crossing if crossing is None else crossing, steps) in self.sigmas

    def bound_setting(
        self,
        steps: int | None,
        schedule: Schedule | None,
        variance: VarianceKind | None,
        crossing: int | None = None,
        crossing_log_snr: float | None = None,
    ) -> BoundSetting:
        """Return chain, transform, prior and variances of a bound; ``variance`` None is ``predicted``.

        See :meth:`ddpm_codec.models.protocol.CodecModel.bound_setting`.

        Raises:
            InputError: no level of the model lies above the crossing.
            ModelError: there is no such chain.
        """
        calibration = Calibration(self.grid_log_snr, self.class_mse)
        if crossing_log_snr is not None:
            chain = self._chain_above(crossing_log_snr, steps, schedule, calibration)
        elif schedule == "even":
            chain = self.even_chain(steps, crossing)
        else:
            chain = Chain.from_sigmas(self.chain_sigmas(steps, crossing))
        transform = by_name(self.transform)
        used = variance or "predicted"
        variances = variances_of(used, transform, calibration, chain.log_snr)
        prior = PriorModel(self.prior_mean, self.prior_variance)
        return BoundSetting(chain, transform, prior, variances, schedule or "dp", used)

    def _chain_above(
        self, crossing_log_snr: float, steps: int | None, schedule: Schedule | None, calibration: Calibration
    ) -> Chain:
        """Return the chain of the lowest bound above a crossing, or the one of even steps with its ends."""
        wanted = self._steps_above(crossing_log_snr) if steps is None else steps
        chain = pinned_chain(crossing_log_snr, wanted, calibration, PriorModel(self.prior_mean, self.prior_variance))
        if schedule != "even":
            return chain
        even = even_chain(crossing_log_snr, chain.log_snr[-1], wanted)
        return Chain((crossing_log_snr, *self._nearest(even.log_snr[1:])))

    def _steps_above(self, crossing_log_snr: float) -> int:
        """Return how many levels of the default chain are noisier than a crossing: the evaluations that are left."""
        default = log_snr_from_sigma(self.chain_sigmas())
        return max(1, int((default < crossing_log_snr - SAME_LEVEL).sum()))

    def bound_dtype(self, device: torch.device) -> str:
        """Return ``exact``, or what the device computes fastest in."""
        return self.arithmetic if self.exact is not None else preferred_dtype(device)

    def even_chain(self, steps: int | None = None, crossing: int | None = None) -> Chain:
        """Return the chain of even steps between the ends of :meth:`chain_sigmas`; an exact model's nearest levels.

        Raises:
            ModelError: there is no such chain.
        """
        own = Chain.from_sigmas(self.chain_sigmas(steps, crossing))
        even = even_chain(own.log_snr[0], own.log_snr[-1], own.steps).log_snr
        first = even[:1] if self.decoder is not None else ()
        return Chain((*first, *self._nearest(even[len(first) :])))

    def _nearest(self, log_snr: tuple[float, ...]) -> tuple[float, ...]:
        """Return the levels nearest to ``log_snr`` that the network can be asked at."""
        if self.exact is None:
            return log_snr
        nearest = [int(np.abs(self.grid_log_snr - level).argmin()) for level in log_snr]
        return tuple(self.grid_log_snr[nearest].tolist())

    def chain_sigmas(self, steps: int | None = None, crossing: int | None = None) -> tuple[float, ...]:
        """Return the sigmas of the chain of ``steps`` steps above a crossing (default: the model's own).

        Raises:
            ModelError: there is no such chain.
        """
        return self.sigmas[self._key(steps, crossing)]

    def _key(self, steps: int | None, crossing: int | None) -> Key:
        """Return the key of a chain.

        Raises:
            ModelError: there is no such chain.
        """
        key = (
            self.default_crossing if crossing is None else crossing,
            self.default_steps if steps is None else steps,
        )
        if key not in self.sigmas:
            known = sorted(own for index, own in self.sigmas if index == key[0])
            if not known:
                own = f"{len(self.crossings)} crossings" if self.crossings else "no pixel decoder, so only crossing 0"
                raise ModelError(f"model {self.name} has no crossing {key[0]}; it has {own}")
            raise ModelError(f"model {self.name} has no chain of {key[1]} steps; it has {known[0]} to {known[-1]}")
        return key

    def denoiser(self, device: torch.device) -> CodecDenoiser:
        """Return the network in floating point, in eval mode on ``device``.

        Raises:
            ModelError: the weights do not fit the network, or there are none since it is exact.
        """
        if self.exact is not None:
            raise ModelError(f"model {self.name} is exact and has no floating-point weights")
        try:
            # Without memory, so that no initial weights are drawn from the caller's generator.
            with torch.device("meta"):
                denoiser = CodecDenoiser(CodecNet(self.config))
            weights = {key: value.to(torch.float32, copy=True) for key, value in self.weights.items()}
            denoiser.load_state_dict(weights, assign=True)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"model {self.name}: weights do not match the network ({_last_line(error)})") from error
        return denoiser.place(device).eval().requires_grad_(False)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
