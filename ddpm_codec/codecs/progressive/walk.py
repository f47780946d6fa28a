"""The order in which a progressive file tells a picture: step by step, patch by patch, part by part.

Encoder and decoder walk the same way. What a :class:`Walk` holds at any time is all that a decoder of the file up to there
knows.
"""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.progressive.part import cut_classes, part_classes
from ddpm_codec.codecs.progressive.patch import Patch, plan_patches
from ddpm_codec.codecs.progressive.patch_state import PatchState
from ddpm_codec.codecs.progressive.steps import Latents, ProgressiveChain, StepLaw
from ddpm_codec.coding.allocation import Classes
from ddpm_codec.coding.codebook import Labels, gaussian_labels

Ints = NDArray[np.int64]

_NOISE_KEY = 1 << 63


class Walk:
    """Where a file stands, and what is known there.

    Args:
        chain: the chain.
        height: of the padded picture.
        width: of the padded picture.
        last: level at which the walk ends.

    Attributes:
        level: of the latents that are known of the whole picture; K + 1 is nothing.
        latents: these, [D, h, w].
        done: the best guess of y_0, in units of latents, for each patch of the step from this level that is complete.
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
        self._parts: list[tuple[int, int]] = []

    @property
    def finished(self) -> bool:
        """Whether the last level is known."""
        return self.level == self.last

    @property
    def at_level_end(self) -> bool:
        """Whether nothing is known yet of the step from the present level."""
        return not self.done and self._open is None

    @property
    def at(self) -> Patch:
        """The patch in progress."""
        return self.patches[len(self.done)]

    def law(self, patch: int) -> StepLaw:
        """Return p of the step from the present level for a patch, without jumps."""
        where = self.patches[patch]
        if self.level > self.chain.steps:
            return self.chain.first_law((self.shape[0], *where.blocks))
        return self.chain.law(self.latents, where, self.level)

    def patch(self) -> PatchState:
        """Return what is known of the patch in progress."""
        if self._open is None:
            law = self.law(len(self.done))
            count = law.mean.size
            noise = gaussian_labels(_NOISE_KEY | self.level << 32 | len(self.done), count)
            self._open = PatchState(law, noise, np.zeros(count, np.bool_), law.mean)
            self._parts = cut_classes(law.flat_classes())
        return self._open

    def part(self) -> Classes:
        """Return the classes of the part that comes next."""
        state = self.patch()
        return part_classes(state.law.flat_classes(), self._parts[0])

    def put(self, order: Ints, labels: Labels, law: StepLaw) -> None:
        """Take what was sent of the next part: dimensions, their labels, and p with its jumps."""
        state = self.patch()
        new, known = state.labels.copy(), state.known.copy()
        new[order], known[order] = labels, True
        self._open = PatchState(law, new, known, state.plain)
        del self._parts[0]
        if not self._parts:
            self._close_patch()

    def open_state(self) -> PatchState | None:
        """Return the patch in progress if any part of it is known."""
        return self._open if self._open is not None and self._open.known.any() else None

    def sampled(self, patch: int) -> Latents:
        """Return the latents of the level below of a patch that is done."""
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
        """Take the latents of the whole picture at the level below."""
        self.latents = latents
        self._next_level()

    def _next_level(self) -> None:
        self.level -= 1
        self.done = []
