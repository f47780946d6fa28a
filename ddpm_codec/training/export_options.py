"""How models are exported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm_codec.errors import InputError
from ddpm_codec.training.chain_choice import LONGEST_ABOVE

LONGEST_CHAIN = 32
"""Largest K of a model; it has a chain of every length up to this."""


@dataclass(frozen=True)
class ExportOptions:
    """How a denoiser is frozen.

    Attributes:
        name: of the model.
        description: one line for ``ddpm-codec models``.
        data: calibration images; empty: the validation images of the run, else its training images. They also replace the
            training images of a reduced checkpoint (:mod:`ddpm_codec.training.export_checkpoint`), which does not name them.
        decoder: checkpoint or run of a pixel decoder, which takes over at its crossings; None: the model has none.
        crossing: of the default chain, in grey levels of noise; None: that of the smallest bound.
        steps: K of the default chain; None: with a decoder that of the smallest bound, at most 4; else that of the training
            objective.
        progressive_crossing: the same for progressive files.
        progressive_steps: K of their chain.
        limit: number of random crops to calibrate on.
        crop: side of those crops; None: that of training.
        tile: default side of tiles.
        exact: integers, the same on every device; else floating point, for research.
        skip_small: leave images out that are smaller than the crops or cannot be read, as a run with ``skip_small`` does.
        device: to calibrate on.

    Raises:
        InputError: options that do not fit each other.
    """

    name: str
    description: str = ""
    data: Sequence[str] = ()
    decoder: Path | None = None
    crossing: float | None = None
    steps: int | None = None
    progressive_crossing: float | None = None
    progressive_steps: int | None = None
    limit: int = 256
    crop: int | None = None
    tile: int = 256
    exact: bool = True
    skip_small: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        longest = LONGEST_CHAIN if self.decoder is None else LONGEST_ABOVE
        for name, steps in (("steps", self.steps), ("progressive steps", self.progressive_steps)):
            if steps is not None and not 1 <= steps <= longest:
                raise InputError(f"{name} = {steps}: must be between 1 and {longest}")
        if self.decoder is not None and not self.exact:
            raise InputError("a model with a pixel decoder is exact; leave the decoder out for floating point")
        for name in ("crossing", "progressive_crossing", "progressive_steps"):
            if self.decoder is None and getattr(self, name) is not None:
                raise InputError(f"{name.replace('_', ' ')} = {getattr(self, name):g}: needs a pixel decoder")
