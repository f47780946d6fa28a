"""Where this codec's own curves come from: the picture after each section of a file, and its cost so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.picture import Picture

RECONSTRUCTIONS: Final = ("mean", "sample", "flow")
"""How a picture is reconstructed from a partial file."""


class MilestoneLike(Protocol):
    """A state of the progressive decoder."""

    @property
    def label(self) -> str:
        """Its name, the same for every picture."""

    @property
    def file_bytes(self) -> int | None:
        """Length in bytes of the shortest prefix of the file that shows it; None on the theoretical curve."""

    @property
    def bits(self) -> float:
        """Bits of that prefix; on the theoretical curve, the sum of the KL divergences of the chain so far."""

    @property
    def pictures(self) -> Mapping[str, NDArray[np.uint8]]:
        """The picture, [H, W, 3], by reconstruction."""


class CurveSource(Protocol):
    """Returns the milestones of one picture by increasing rate. Sent to other processes, so it must pickle."""

    def __call__(
        self, picture: Picture, *, model: str, device: str, steps: int | None, reconstructions: Sequence[str]
    ) -> Sequence[MilestoneLike]:
        """Return the milestones of ``picture`` under a chain of ``steps`` steps (None: the model's own)."""


@dataclass(frozen=True)
class Sources:
    """The two curves of this codec.

    Attributes:
        real: prefixes of a file; the last is the whole lossless file.
        ideal: the same chain at its theoretical rate.
    """

    real: CurveSource
    ideal: CurveSource


def codec_sources() -> Sources:
    """Return the curves of the codec itself."""
    from ddpm_codec.rate_distortion.milestones import ideal_milestones, real_milestones

    return Sources(real_milestones, ideal_milestones)
