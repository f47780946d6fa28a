"""The coding order of a progressive file: step by step, patch by patch, message by message.

Encoder and decoder share this code. A :class:`Walk` holds exactly what a decoder knows after the data so far.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.latents import rounded
from ddpm_codec.codecs.progressive.message import cut_classes, message_classes
from ddpm_codec.codecs.progressive.steps import (
    UNIT,
    VALUE_BITS,
    Floats,
    Ints,
    Latents,
    Patch,
    ProgressiveChain,
    StepLaw,
    plan_patches,
)
from ddpm_codec.coding.allocation import Classes
from ddpm_codec.coding.codebook import Labels, gaussian_labels

Mask = NDArray[np.bool_]

_NOISE_KEY = 1 << 63


@dataclass(frozen=True)
class PatchState:
    """State of a patch of the step in progress.

    Attributes:
        law: p(z_s | z_t), with the jumps so far.
        labels: labels of all dimensions, shared noise for those not sent, [N].
        known: whether the label of each dimension was sent, [N].
        plain: the mean of p without jumps, [D, h, w].
    """

    law: StepLaw
    labels: Labels
    known: Mask
    plain: Ints

    def updated_mean(self) -> Latents:
        """Return W x0_mean given z_t and the known dimensions of z_s, in units of latents, [D, h, w].

        A known z_s is an observation of y_0 with gain (1 - a) w / ((1 - a)^2 w + v).
        """
        law = self.law
        weight = 1.0 - law.kept
        gain = weight * law.x0_variance / (weight * weight * law.x0_variance + law.variance)
        # The gain refers to the mean of p without jumps.
        innovation = (law.sample(self.labels) - self.plain) * UNIT
        known = self.known.reshape(law.mean.shape)
        estimate = law.x0_mean + np.where(known, gain[law.index] * innovation, 0.0)
        return rounded(estimate * float(1 << VALUE_BITS)).astype(np.int32)


class Walk:
    """Position in a file, and the decoder's state there.

    Args:
        chain: the chain.
        height: height of the padded picture.
        width: width of the padded picture.
        last: level at which the walk ends.

    Attributes:
        level: level at which the latents of the whole picture are known; K + 1: none yet.
        latents: these latents, [D, h, w].
        done: estimate of y_0, in units of latents, for each completed patch of the step from this level.
    """

    def __init__(self, chain: ProgressiveChain, height: int, width: int, last: int) -> None:
        self.chain, self.last = chain, last
        self.patches: list[Patch] = plan_patches(height, width, chain.transform.block)
        self.shape = chain.latent_shape(height, width)
        self.level = chain.steps + 1
        self.latents: Latents = np.zeros(self.shape, np.int32)
        self.done: list[Latents] = []
        self._next: Latents = np.zeros(self.shape, np.int32)
        self._open: PatchState | None = None
        self._messages: list[tuple[int, int]] = []

    @property
    def finished(self) -> bool:
        """Whether the last level has been reached."""
        return self.level == self.last

    @property
    def at_level_end(self) -> bool:
        """Whether the step from the current level has not begun."""
        return not self.done and self._open is None

    @property
    def at(self) -> Patch:
        """The patch in progress."""
        return self.patches[len(self.done)]

    def law(self, patch: int) -> StepLaw:
        """Return p of the step from the current level for a patch, without jumps."""
        where = self.patches[patch]
        if self.level > self.chain.steps:
            return self.chain.first_law((self.shape[0], *where.blocks))
        return self.chain.law(self.latents, where, self.level)

    def patch(self) -> PatchState:
        """Return the state of the patch in progress."""
        if self._open is None:
            law = self.law(len(self.done))
            count = law.mean.size
            noise = gaussian_labels(_NOISE_KEY | self.level << 32 | len(self.done), count)
            self._open = PatchState(law, noise, np.zeros(count, np.bool_), law.mean)
            self._messages = cut_classes(law.flat_classes())
        return self._open

    def message(self) -> Classes:
        """Return the classes of the next message."""
        state = self.patch()
        return message_classes(state.law.flat_classes(), self._messages[0])

    def put(self, order: Ints, labels: Labels, law: StepLaw) -> None:
        """Apply the next message: dimensions, their labels, and p with its jumps."""
        state = self.patch()
        new, known = state.labels.copy(), state.known.copy()
        new[order], known[order] = labels, True
        self._open = PatchState(law, new, known, state.plain)
        del self._messages[0]
        if not self._messages:
            self._close_patch()

    def open_state(self) -> PatchState | None:
        """Return the patch in progress if any message of it is known."""
        return self._open if self._open is not None and self._open.known.any() else None

    def sampled(self, patch: int) -> Latents:
        """Return the latents of a completed patch at the next lower level."""
        return self._next[self.patches[patch].at]

    def _close_patch(self) -> None:
        state = self.patch()
        self._next[self.at.at] = state.law.sample(state.labels)
        self._open = None
        if len(self.done) + 1 < len(self.patches):
            self.done.append(state.updated_mean())
        else:
            self.latents, self._next = self._next, self.latents
            self._next_level()

    def arrive(self, latents: Latents) -> None:
        """Set the latents of the whole picture at the next lower level."""
        self.latents = latents
        self._next_level()

    def _next_level(self) -> None:
        self.level -= 1
        self.done = []


def draw_level(walk: Walk, y_0: Floats, generator: np.random.Generator) -> float:
    """Go on to the next level by draws from q(z_s | z_t, x_0), as a perfect channel code would; return KL(q || p) in bits.

    Args:
        walk: at the end of a level.
        y_0: W (x_0 - 127.5) of the whole picture in grey levels, [D, h, w].
        generator: of the draws.
    """
    cleaner, bits = np.empty_like(walk.latents), 0.0
    for number, patch in enumerate(walk.patches):
        law = walk.law(number)
        target = law.posterior_mean(walk.latents[patch.at], y_0[patch.at])
        noise = generator.standard_normal(target.shape)
        cleaner[patch.at] = np.rint(target + math.sqrt(law.variance) / UNIT * noise).astype(np.int32)
        bits += float(law.kl_bits(target.reshape(-1)).sum())
    walk.arrive(cleaner)
    return bits
