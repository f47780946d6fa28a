"""What ``ddpm-codec bpd`` reports."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ddpm_codec.diffusion.bound import BoundTerms


@dataclass(frozen=True, eq=False)
class BoundReport(BoundTerms):
    """The bound of each image, term by term, and how it was computed.

    Attributes:
        facts: ``steps`` (K as the user counts it: of a DDPM its timesteps), ``evaluations`` of the denoiser per image,
            ``schedule``, ``variance``, ``seconds``, ``images_per_second``, ``model``, ``device``, ``dtype``; with a pixel
            decoder also ``decoder``, ``decoder_dtype`` and ``crossing`` (noise in grey levels); ``changed``, a ``path`` and
            ``what`` for every image that was not bounded as its file has it; ``left_out``, ``path`` and ``reason`` of what
            is not a picture in the folder.
    """

    facts: dict[str, Any] = field(default_factory=dict)

    def step_rows(self, most: int = 50) -> list[tuple[str, float]]:
        """Return the mean bits/dim of each step, cleanest first; more than ``most`` steps are summed in as many runs."""
        means = self.diffusion_bpd.mean(axis=0)
        edges = np.unique(np.rint(np.linspace(0, len(means), min(most, len(means)) + 1)).astype(int)).tolist()
        return [
            (str(first + 1) if last == first + 1 else f"{first + 1}-{last}", float(means[first:last].sum()))
            for first, last in pairwise(edges)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return means over images, each counting the same, the standard error of the total, and the facts."""
        return self.to_dict() | self.facts
