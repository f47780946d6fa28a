"""What is known of a patch of a step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.arithmetic import rounded
from ddpm_codec.codecs.progressive.steps import UNIT, VALUE_BITS, Ints, Latents, StepLaw
from ddpm_codec.coding.codebook import Labels

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PatchState:
    """What is known of a patch of the step in progress.

    Attributes:
        law: p(z_s | z_t), with the jumps so far.
        labels: of all dimensions, shared noise where nothing was sent, [N].
        known: dimensions whose labels were sent, [N].
        plain: the mean of p without jumps, [D, h, w].
    """

    law: StepLaw
    labels: Labels
    known: Mask
    plain: Ints

    def updated_mean(self) -> Latents:
        """Return W x0_mean given z_t and the dimensions of z_s that are known, in units of latents, [D, h, w].

        A known z_s is an observation of y_0 whose gain is (1 - a) w / ((1 - a)^2 w + v).
        """
        law = self.law
        weight = 1.0 - law.kept
        gain = weight * law.x0_variance / (weight * weight * law.x0_variance + law.variance)
        # Without jumps, the mean of p is what the gain refers to.
        innovation = (law.sample(self.labels) - self.plain) * UNIT
        known = self.known.reshape(law.mean.shape)
        estimate = law.x0_mean + np.where(known, gain[law.index] * innovation, 0.0)
        return rounded(estimate * float(1 << VALUE_BITS)).astype(np.int32)
