"""The interface of a model, as bounds and codecs use it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.measurement import VarianceKind
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood
from ddpm_codec.diffusion.prediction import Denoiser
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.diffusion.variance import Variances
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.integer import IntegerDenoiser

Schedule = Literal["dp", "even"]
"""How the levels of a chain are chosen: by dynamic programming, or evenly."""


@dataclass(frozen=True)
class BoundSetting:
    """What the reverse process of a model is made of beside its denoiser.

    Attributes:
        chain: the levels.
        transform: W, in which the steps are diagonal.
        prior: p(x_T).
        variances: of the steps and of L_0.
        schedule: how the levels were chosen.
        variance: which variances these are.
    """

    chain: Chain
    transform: BlockTransform
    prior: PriorModel
    variances: Variances
    schedule: Schedule
    variance: VarianceKind


class CodecModel(Protocol):
    """A denoiser with the chains, the prior and the variances that go with it.

    Frozen codec models (:class:`~ddpm_codec.models.frozen.FrozenModel`) are one kind, trained DDPMs
    (:class:`~ddpm_codec.models.ddpm_model.DdpmModel`) the other.

    A model with a pixel decoder has chains above each of its crossings, and level 0 of a chain is the crossing. Methods
    take the crossing as an index into :attr:`crossings`, None being the model's own; a model without a pixel decoder
    has chains of crossing 0 alone, whose level 0 is decoded by a factorised L_0.
    """

    @property
    def name(self) -> str:
        """Short name."""
        ...

    @property
    def transform(self) -> str:
        """Name of W that it codes in."""
        ...

    @property
    def tile(self) -> int:
        """Default side of tiles in pixels."""
        ...

    @property
    def arithmetic(self) -> str:
        """``exact`` or ``float``."""
        ...

    @property
    def tables(self) -> str:
        """SHA-256 of the coding tables that an exact model was made with."""
        ...

    @property
    def prior_mean(self) -> NDArray[np.float64]:
        """Mean of each coefficient of W x_0, [D]."""
        ...

    @property
    def prior_variance(self) -> NDArray[np.float64]:
        """Its variance, [D]."""
        ...

    @property
    def crossings(self) -> tuple[float, ...]:
        """Noise at which its pixel decoder can take over, standard deviations in grey levels; empty without one."""
        ...

    @property
    def default_crossing(self) -> int:
        """Index of the crossing of files and bounds where nobody asks for another."""
        ...

    @property
    def progressive_crossing(self) -> int:
        """The same for progressive files."""
        ...

    @property
    def progressive_steps(self) -> int | None:
        """K of the chain of progressive files; None: as the size of a picture wants."""
        ...

    def chain_steps(self, user_steps: int | None) -> int | None:
        """Return K, the reverse steps of a chain, for the number of steps that a user asks for; None stays None.

        Users of a codec model count K; users of a DDPM count timesteps, K + 1 of them.

        Raises:
            ModelError: too few for a chain.
        """
        ...

    def user_steps(self, chain_steps: int) -> int:
        """Return the number of steps as a user counts it, for a chain of K = ``chain_steps``."""
        ...

    def has_chain(self, steps: int, crossing: int | None = None) -> bool:
        """Return whether there is a chain of so many steps above a crossing."""
        ...

    def chain_sigmas(self, steps: int | None = None, crossing: int | None = None) -> tuple[float, ...]:
        """Return the noise of the levels of the chain of ``steps`` steps that codes, cleanest first, in model values.

        Args:
            steps: K; None: the model's own.
            crossing: index of the crossing that is level 0; None: the model's own.

        Raises:
            ModelError: there is no such chain.
        """
        ...

    def bound_setting(
        self,
        steps: int | None,
        schedule: Schedule | None,
        variance: VarianceKind | None,
        crossing: int | None = None,
        crossing_log_snr: float | None = None,
    ) -> BoundSetting:
        """Return what a bound over ``steps`` steps is made of; None is what the model prefers.

        Args:
            steps: K.
            schedule: how levels are chosen.
            variance: of the steps.
            crossing: index of one of the model's own crossings.
            crossing_log_snr: level of a crossing of another pixel decoder. That is the chain's cleanest level, whatever
                levels the model has: the network is never asked there.

        Raises:
            InputError: the model has no variances of that kind, or no level above the crossing.
            ModelError: there is no such chain.
        """
        ...

    def bound_dtype(self, device: torch.device) -> str:
        """Return the arithmetic of bounds: ``exact``, ``bf16`` or ``float32``."""
        ...

    def bound_denoiser(self, device: torch.device, dtype: str) -> Denoiser:
        """Return the denoiser for bounds.

        Raises:
            ModelError: weights that do not fit.
        """
        ...

    def integer_denoiser(
        self, steps: int | None, crossing: int | None, device: torch.device, dtype: str
    ) -> IntegerDenoiser:
        """Return the denoiser that codes, over the levels of the chain of ``steps`` steps above a crossing.

        That of a model with a pixel decoder must not be asked at level 0: an exact one has no tables there.

        Raises:
            ModelError: no such chain, or weights that do not fit.
        """
        ...

    def pixel_decoder_executor(self, device: torch.device) -> PixelDecoderExecutor | None:
        """Return the exact pixel decoder, for all crossings, on ``device``; None where the model has none."""
        ...

    def pixel_likelihood(self, device: torch.device) -> PixelLikelihood | None:
        """Return p(x_0 | z_0) at its crossings for bounds, the integers of its coder; None where the model has none."""
        ...
