"""Reconstructions of a picture from the sections decoded so far.

- ``mean``: x0_mean at the last complete level. Dimensions of the next step that are already known refine it with the gain of
  a linear observation, (1 - a) w / ((1 - a)^2 w + v). Lowest squared error.
- ``sample``: the rest of the chain by ancestral sampling with shared noise (Ho et al. 2020, algorithm 4). Most realistic.
- ``flow``: the rest of the chain by the probability-flow ODE, one Euler step per level (Song et al. 2021, DDIM):
  z_s = x0 + (sigma_s / sigma_t) (z_t - x0).

At level 0, ``sample`` draws from the pixel decoder, tile by tile; ``mean`` and ``flow`` show the mean m_0 of p(x_0 | z_0).

All use integers and single float64 operations, so they are the same on every machine.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.latents import noisy_picture, rounded
from ddpm_codec.codecs.pixel_code import PixelCode
from ddpm_codec.codecs.progressive.ending import TileEnd, surroundings
from ddpm_codec.codecs.progressive.steps import UNIT, VALUE_BITS, Latents, StepLaw
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.coding.codebook import gaussian_labels
from ddpm_codec.errors import InputError
from ddpm_codec.nn import integer

Pixels = NDArray[np.uint8]

MEAN, SAMPLE, FLOW = "mean", "sample", "flow"
RECONSTRUCTIONS: Final = (MEAN, SAMPLE, FLOW)

_ONE = float(1 << VALUE_BITS)
_SAMPLE_KEY = 3 << 62


class Reconstruction:
    """Reconstructs pictures from the state of a walk.

    Args:
        code: p(x_0 | z_0).
        ending: the tiles of the picture, in which ``sample`` draws x_0.
    """

    def __init__(self, code: PixelCode, ending: TileEnd) -> None:
        self._code, self._ending = code, ending

    def picture(self, walk: Walk, how: str) -> Pixels:
        """Reconstruct the picture, [H, W, 3].

        Args:
            walk: state at the end of the file.
            how: one of RECONSTRUCTIONS.

        Raises:
            InputError: unknown reconstruction.
        """
        if how not in RECONSTRUCTIONS:
            raise InputError(f"unknown reconstruction {how!r}; known: {', '.join(RECONSTRUCTIONS)}")
        width, height = self._ending.size
        return self._padded(walk, how)[:height, :width]

    def _padded(self, walk: Walk, how: str) -> Pixels:
        if how == MEAN:
            return _mean(walk) if walk.level else self._pixel_means(walk, walk.latents)
        latents, level = _finished_step(walk, how)
        while level > 0:
            step: Callable[[StepLaw, Latents, int, int], Latents] = _sampled if how == SAMPLE else _flowed(walk, level)
            cleaner = np.empty_like(latents)
            for number, patch in enumerate(walk.patches):
                law = walk.chain.law(latents, patch, level)
                cleaner[patch.at] = step(law, latents[patch.at], level, number)
            latents, level = cleaner, level - 1
        return self._ending.drawn(latents) if how == SAMPLE else self._pixel_means(walk, latents)

    def _pixel_means(self, walk: Walk, z_0: Latents) -> Pixels:
        """Return the mean of p(x_0 | z_0), [H, W, 3]."""
        canvas = _canvas(walk)
        for patch in walk.patches:
            rows, columns = patch.pixels(walk.chain.transform.block)
            height, width = rows.stop - rows.start, columns.stop - columns.start
            rect = Rect(rows.start, columns.start, height, width)
            given, (top, left) = surroundings(walk.chain, self._code, z_0, rect)
            mean = given.mean()[0, :, top : top + height, left : left + width]
            canvas[rows, columns] = mean.transpose(1, 2, 0)
        return canvas


def _mean(walk: Walk) -> Pixels:
    canvas = _canvas(walk)
    opened = walk.open_state()
    for number, patch in enumerate(walk.patches):
        if number < len(walk.done):
            estimate = walk.done[number]
        elif number == len(walk.done) and opened is not None:
            estimate = opened.updated_mean()
        else:
            estimate = rounded(walk.law(number).x0_mean * _ONE).astype(np.int32)
        canvas[patch.pixels(walk.chain.transform.block)] = _to_pixels(walk, estimate)
    return canvas


def _canvas(walk: Walk) -> Pixels:
    block = walk.chain.transform.block
    return np.empty((walk.shape[1] * block, walk.shape[2] * block, 3), np.uint8)


def _finished_step(walk: Walk, how: str) -> tuple[Latents, int]:
    """Return latents of the whole picture; if a step is in progress, its unknown dimensions are filled in."""
    opened = walk.open_state()
    if not walk.level or (not walk.done and opened is None and walk.level <= walk.chain.steps):
        return walk.latents, walk.level
    latents = np.empty(walk.shape, np.int32)
    for number, patch in enumerate(walk.patches):
        if number < len(walk.done):
            latents[patch.at] = walk.sampled(number)
            continue
        state = opened if number == len(walk.done) else None
        law = state.law if state is not None else walk.law(number)
        if how == FLOW and walk.level <= walk.chain.steps:
            filled = _flowed(walk, walk.level)(law, walk.latents[patch.at], walk.level, number)
        else:
            filled = law.sample(_noise(law, walk.level, number))
        if state is not None:
            filled = np.where(state.known.reshape(law.mean.shape), law.sample(state.labels), filled)
        latents[patch.at] = filled
    return latents, walk.level - 1


def _noise(law: StepLaw, level: int, patch: int) -> NDArray[np.int16]:
    return gaussian_labels(_SAMPLE_KEY | level << 32 | patch, law.mean.size)


def _sampled(law: StepLaw, _latents: Latents, level: int, patch: int) -> Latents:
    return law.sample(_noise(law, level, patch))


def _flowed(walk: Walk, level: int) -> Callable[[StepLaw, Latents, int, int], Latents]:
    ratio = float(walk.chain.sigmas[level - 1] / walk.chain.sigmas[level])

    def step(law: StepLaw, latents: Latents, _level: int, _band: int) -> Latents:
        x_0 = law.x0_mean * _ONE
        return rounded(x_0 + ratio * (latents - x_0)).astype(np.int32)

    return step


def _to_pixels(walk: Walk, coefficients: Latents) -> Pixels:
    """Return W^T y + 127.5, rounded, for y of a patch in units of latents, [H, W, 3]."""
    picture = noisy_picture(walk.chain.transform, coefficients[None], UNIT)[0]
    half = 1 << (integer.PICTURE_BITS - 1)
    # 127.5 and the half for rounding make 128.
    grey = (picture + (255 << (integer.PICTURE_BITS - 1)) + half) >> integer.PICTURE_BITS
    return np.ascontiguousarray(np.clip(grey, 0, 255).astype(np.uint8).transpose(1, 2, 0))
