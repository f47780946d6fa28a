"""A trained DDPM as bounds and codecs see it: timesteps, chains among them, variances, coding in floating point.

Users count the timesteps of such a model, as the papers do: a chain of K timesteps costs K network evaluations, K - 1 for the
reverse steps and the last one for L_0; K = T is the whole process.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.diffusion.chain import Chain, LevelTable, fixed_transition, select_chain, transition_from_mse
from ddpm_codec.diffusion.crossing import levels_above
from ddpm_codec.diffusion.measurement import Calibration, VarianceKind
from ddpm_codec.diffusion.noise_level import log_snr_from_sigma, sigma_from_log_snr
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.process import ReverseProcess, ReverseVariance
from ddpm_codec.diffusion.transform import colour_frequency_8x8, identity
from ddpm_codec.diffusion.variance import CalibratedVariances, ProcessVariances, Variances
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.models.ddpm_denoiser import DdpmDenoiser
from ddpm_codec.models.protocol import BoundSetting, Schedule
from ddpm_codec.nn.ddpm_unet import UNet
from ddpm_codec.nn.integer import FloatIntegerDenoiser, IntegerDenoiser

CODING_LEVELS = 24
"""Levels of the chain that codes, where the user does not say."""

CODED_LOG_SNR = (-12.0, 11.5)
"""Where a chain that codes may begin and end. Noisier than that, L_T of any prior is below 1e-5 bits/dim, and latents soon
leave the coder's range; cleaner than 0.4 grey levels, a Gaussian step pays for not knowing that grey levels are whole."""

CANDIDATES = 400
"""So many timesteps more than wanted are those among which a chain is chosen: choosing costs their square."""


@dataclass(frozen=True, eq=False)
class DdpmModel:
    """A :class:`~ddpm_codec.models.protocol.CodecModel` of a U-Net.

    The prior is the standard normal of the papers, and reported bounds have the variances of the papers or calibrated ones.
    Coding needs a calibration: its steps are diagonal in the colour x 8x8 transform, with one variance per coefficient class
    and level.

    Attributes:
        published: network, weights and process.
        calibration: mean squared errors per level and coefficient class of that transform, or None.
    """

    published: Published
    calibration: Calibration | None = None
    _chosen: dict[tuple[int, VarianceKind, int, int], tuple[int, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name."""
        return self.published.name

    @property
    def process(self) -> ReverseProcess:
        """Schedule, kind of output, variance."""
        return self.published.process

    @property
    def transform(self) -> str:
        """Name of W that codes."""
        return "colour-8x8"

    @property
    def sample_size(self) -> int:
        """Side of the pictures that it was trained on."""
        return self.published.sample_size

    @property
    def tile(self) -> int:
        """Side of the pictures that it was trained on, up to a multiple of 8."""
        return -(-self.published.sample_size // 8) * 8

    @property
    def arithmetic(self) -> str:
        """``float``: a U-Net has no integer form."""
        return "float"

    @property
    def tables(self) -> str:
        """Empty: the coding tables are part of the environment that a file records."""
        return ""

    @cached_property
    def prior_mean(self) -> NDArray[np.float64]:
        """Zero, [D]."""
        return PriorModel.standard(colour_frequency_8x8().dims).mean

    @cached_property
    def prior_variance(self) -> NDArray[np.float64]:
        """One, [D]."""
        return PriorModel.standard(colour_frequency_8x8().dims).variance

    @property
    def crossings(self) -> tuple[float, ...]:
        """Empty: a DDPM has a factorised L_0 and no pixel decoder."""
        return ()

    @property
    def default_crossing(self) -> int:
        """0, that of its only chains."""
        return 0

    @property
    def progressive_crossing(self) -> int:
        """0, that of its only chains."""
        return 0

    @property
    def progressive_steps(self) -> int | None:
        """None: as the size of a picture wants."""
        return None

    def chain_steps(self, user_steps: int | None) -> int | None:
        """Return the K of a chain of ``user_steps`` timesteps; None stays None.

        Raises:
            ModelError: fewer than two timesteps.
        """
        if user_steps is not None and user_steps < 2:
            raise ModelError(f"model {self.name}: needs at least 2 timesteps, got {user_steps}")
        return None if user_steps is None else user_steps - 1

    def user_steps(self, chain_steps: int) -> int:
        """Return the timesteps of a chain of so many steps."""
        return chain_steps + 1

    def has_chain(self, steps: int, crossing: int | None = None) -> bool:
        """Return whether there are levels for so many steps; there are no crossings but 0."""
        return not crossing and 1 <= steps < self.process.timesteps

    def chain_sigmas(self, steps: int | None = None, crossing: int | None = None) -> tuple[float, ...]:
        """Return the noise of the chain that codes, cleanest first.

        Raises:
            ModelError: there is no such chain, or no calibration to choose it by.
        """
        self._check_crossing(crossing)
        if self.calibration is None:
            raise ModelError(f"model {self.name}: coding needs a calibration: run `ddpm-codec calibrate` on it")
        wanted = min(CODING_LEVELS, self.process.timesteps) - 1 if steps is None else steps
        if not self.has_chain(wanted):
            raise self._too_many(wanted)
        levels = self.process.schedule.log_snr
        coded = np.flatnonzero((levels >= CODED_LOG_SNR[0]) & (levels <= CODED_LOG_SNR[1]))
        if len(coded) <= wanted:
            raise ModelError(f"model {self.name}: can code with 2 to {len(coded)} timesteps, asked for {wanted + 1}")
        indices = self._select(self.calibration, wanted, "class", int(coded[0]), int(coded[-1]))
        # Rounded, since a schedule that is computed from its formula may differ in the last bit on another processor.
        return tuple(sigma_from_log_snr(np.round(levels[list(indices)], 6)).tolist())

    def bound_setting(
        self,
        steps: int | None,
        schedule: Schedule | None,
        variance: VarianceKind | None,
        crossing: int | None = None,
        crossing_log_snr: float | None = None,
    ) -> BoundSetting:
        """Return chain, transform, prior and variances of a bound.

        Where there is a calibration, ``schedule`` None is ``dp``, and ``variance`` None is ``class``, as in coding, for
        chains that leave timesteps out; else it is the model's own.

        Raises:
            InputError: calibrated variances without a calibration.
            ModelError: there is no such chain, or no calibration to choose it by.
        """
        self._check_crossing(crossing)
        used = schedule or ("dp" if self.calibration is not None else "even")
        most = self.process.timesteps - 1 if crossing_log_snr is None else len(self._above(crossing_log_snr))
        wanted = most if steps is None else steps
        if variance is None:
            few = self.calibration is not None and wanted < most
            coded: VarianceKind = "class" if self.sample_size % colour_frequency_8x8().block == 0 else "level"
            variance = coded if few else "predicted"
        if crossing_log_snr is None:
            chain = self._chain(self._indices(wanted, used, variance))
        else:
            chain = self._chain_above(crossing_log_snr, wanted, used, variance)
        # A single variance a level is the same in every orthonormal basis; only classes need their own W.
        transform = colour_frequency_8x8() if variance == "class" else identity()
        return BoundSetting(
            chain, transform, PriorModel.standard(transform.dims), self._variances(variance), used, variance
        )

    def bound_dtype(self, device: torch.device) -> str:
        """``float32``: what is divided by sqrt(snr) must not be rounded to eight bits first."""
        del device
        return "float32"

    def bound_denoiser(self, device: torch.device, dtype: str) -> DdpmDenoiser:
        """Return the denoiser for bounds, with calibrated variances where there are any."""
        return DdpmDenoiser(self.network(device), self.process, self.calibration, dtype=dtype)

    def integer_denoiser(
        self, steps: int | None, crossing: int | None, device: torch.device, dtype: str
    ) -> IntegerDenoiser:
        """Return the denoiser that codes.

        Raises:
            ModelError: no such chain, or no calibration.
        """
        log_snr = tuple(log_snr_from_sigma(self.chain_sigmas(steps, crossing)).tolist())
        return FloatIntegerDenoiser(self.bound_denoiser(device, dtype), log_snr, device)

    def pixel_decoder_executor(self, device: torch.device) -> None:
        """Return None: a DDPM has no pixel decoder."""
        del device

    def pixel_likelihood(self, device: torch.device) -> None:
        """Return None: a DDPM has no pixel decoder."""
        del device

    def network(self, device: torch.device) -> UNet:
        """Return the U-Net in eval mode on ``device``."""
        # No first weights are drawn, from no one's random state: those of the model take their place.
        with torch.device("meta"):
            network = UNet(self.published.unet)
        network.load_state_dict(self.published.weights, assign=True)
        return network.place(device).eval().requires_grad_(False)

    def _above(self, crossing_log_snr: float) -> NDArray[np.intp]:
        """Return the timesteps that are noisier than a crossing."""
        return levels_above(crossing_log_snr, self.process.schedule.log_snr)

    def _chain_above(self, crossing_log_snr: float, steps: int, schedule: Schedule, variance: VarianceKind) -> Chain:
        """Return a crossing and timesteps above it: all, even, or chosen; the last always belongs to it."""
        above = self._above(crossing_log_snr)
        if not 1 <= steps <= len(above):
            raise ModelError(
                f"model {self.name}: has {len(above)} timesteps above the crossing, "
                f"so --steps can be 2 to {len(above) + 1}; got {steps + 1}"
            )
        levels = np.concatenate([[crossing_log_snr], self.process.schedule.log_snr[above]])
        if steps == len(above):
            return Chain(tuple(levels.tolist()))
        if schedule == "even":
            # A single step goes to the noisiest level, as the prior belongs there.
            places = np.rint(np.linspace(len(above), 1, steps))[::-1].astype(int)
            return Chain((crossing_log_snr, *levels[places].tolist()))
        if self.calibration is None:
            raise self._uncalibrated()
        kind = self.process.variance if variance == "predicted" else variance
        return Chain(tuple(levels[select_timesteps(levels, self.calibration, kind, steps)].tolist()))

    def _chain(self, indices: tuple[int, ...]) -> Chain:
        return Chain(tuple(self.process.schedule.log_snr[list(indices)].tolist()))

    def _indices(self, steps: int, schedule: Schedule, variance: VarianceKind) -> tuple[int, ...]:
        """Return the timesteps of a chain: all, even, or chosen; both ends always belong to it."""
        timesteps = self.process.timesteps
        if not self.has_chain(steps):
            raise self._too_many(steps)
        if steps == timesteps - 1 or schedule == "even":
            return tuple(np.rint(np.linspace(0, timesteps - 1, steps + 1)).astype(int).tolist())
        if self.calibration is None:
            raise self._uncalibrated()
        return self._select(self.calibration, steps, variance, 0, timesteps - 1)

    def _select(
        self, calibration: Calibration, steps: int, variance: VarianceKind, first: int, last: int
    ) -> tuple[int, ...]:
        """Return the best timesteps from ``first`` to ``last``, found once."""
        key = (steps, variance, first, last)
        if key not in self._chosen:
            kind = self.process.variance if variance == "predicted" else variance
            found = select_timesteps(self.process.schedule.log_snr[first : last + 1], calibration, kind, steps)
            self._chosen[key] = tuple((first + found).tolist())
        return self._chosen[key]

    def _check_crossing(self, crossing: int | None) -> None:
        """Refuse the crossings of a pixel decoder.

        Raises:
            ModelError: for any but 0 and None.
        """
        if crossing:
            raise ModelError(f"model {self.name}: has no pixel decoder, so it has no crossing {crossing}")

    def _uncalibrated(self) -> ModelError:
        return ModelError(f"model {self.name}: choosing levels needs a calibration: run `ddpm-codec calibrate` on it")

    def _too_many(self, steps: int) -> ModelError:
        return ModelError(f"model {self.name}: has {self.process.timesteps} timesteps, asked for {steps + 1}")

    def _variances(self, kind: VarianceKind) -> Variances:
        """Return where the variances of a bound come from.

        Raises:
            InputError: calibrated ones without a calibration.
        """
        if kind == "predicted":
            return ProcessVariances(self.process)
        if kind in ("beta", "beta-tilde"):
            return ProcessVariances(ReverseProcess(self.process.schedule, variance=kind))
        if self.calibration is None:
            raise InputError(
                f"variance {kind!r}: model {self.name} has no calibration: run `ddpm-codec calibrate` on it"
            )
        if kind == "class":
            return CalibratedVariances(colour_frequency_8x8(), self.calibration, "class")
        means = Calibration(
            self.calibration.log_snr, self.calibration.mse.mean(axis=1, keepdims=True).repeat(3, axis=1)
        )
        return CalibratedVariances(identity(), means, "level")


def select_timesteps(
    log_snr: NDArray[np.float64], calibration: Calibration, kind: VarianceKind | ReverseVariance, steps: int
) -> NDArray[np.intp]:
    """Return the timesteps of the best chain by dynamic programming, both ends of ``log_snr`` included.

    A step costs what its variance of that kind costs at the calibrated errors; the steps of a learned range are priced like
    those of one optimal variance a level.
    """
    candidates = _candidates(log_snr, steps + CANDIDATES)
    levels = log_snr[candidates]
    mse = np.exp([calibration.log_variance(level, "class") for level in levels.tolist()])
    if kind in ("beta", "beta-tilde"):
        costs = fixed_transition(levels, mse.mean(axis=1), kind)
    else:
        costs = transition_from_mse(levels, mse if kind == "class" else mse.mean(axis=1))
    ends = np.full((2, len(levels)), np.inf)
    ends[0, 0] = ends[1, -1] = 0.0
    chain = select_chain(LevelTable(levels, costs, ends[0], ends[1]), steps)
    return candidates[np.searchsorted(-levels, -np.array(chain.log_snr))]


def _candidates(log_snr: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return about ``count`` timesteps, or all: even in log-SNR, so that none is left out where neighbours lie far apart."""
    if len(log_snr) <= count:
        return np.arange(len(log_snr))
    wanted = np.linspace(log_snr[0], log_snr[-1], count)
    above = np.searchsorted(-log_snr, -wanted).clip(1, len(log_snr) - 1)
    nearer = np.abs(log_snr[above - 1] - wanted) < np.abs(log_snr[above] - wanted)
    found = np.unique(np.where(nearer, above - 1, above))
    # Where timesteps are too far apart to give so many, more of the others make up for it.
    missing = np.setdiff1d(np.arange(len(log_snr)), found)
    rest = missing[:: max(1, len(missing) // max(1, count - len(found)))][: count - len(found)]
    return np.union1d(found, rest)
