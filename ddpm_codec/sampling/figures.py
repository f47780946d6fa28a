"""Figures drawn from a model: samples, the way to them, samples that share a latent, mixtures of two pictures.

A figure is a list of pictures in reading order. Every picture has its own random numbers, which depend on the seed and on its
position in the figure only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import q_sample
from ddpm_codec.diffusion.measurement import image_generators
from ddpm_codec.diffusion.pictures import Pixels
from ddpm_codec.sampling.sampler import Sampler, from_pixels, to_pixels

_ROW = 1 << 32
"""Random numbers of row n begin at picture n times this, so that rows do not share them."""


@dataclass(frozen=True)
class Canvas:
    """The tools that figures are drawn with.

    Attributes:
        sampler: the reverse process.
        height: of a picture in pixels.
        width: of a picture in pixels.
        seed: of all random numbers.
        batch: pictures per network evaluation.
    """

    sampler: Sampler
    height: int
    width: int
    seed: int
    batch: int

    def generators(self, first: int, count: int) -> list[torch.Generator]:
        """Return the random numbers of pictures ``first`` to ``first + count - 1``."""
        return image_generators(self.seed, first, count)

    def parts(self, count: int) -> Iterator[slice]:
        """Cut ``count`` pictures into batches."""
        for first in range(0, count, self.batch):
            yield slice(first, min(first + self.batch, count))


class Figure(Protocol):
    """A figure and its layout."""

    @property
    def columns(self) -> int:
        """Pictures side by side."""
        ...

    @property
    def pictures(self) -> int:
        """Pictures in the figure."""
        ...

    @property
    def samples(self) -> int:
        """Pictures that are drawn from the model down to level 0."""
        ...

    @property
    def places(self) -> Sequence[int]:
        """Indices of the levels that it shows, noisiest first."""
        ...

    def evaluations(self, noisiest: int) -> int:
        """Return the number of network evaluations of a picture; ``noisiest`` is the index of level T."""
        ...

    def draw(self, canvas: Canvas) -> Pixels:
        """Return the pictures of each frame, uint8 [frames, pictures, H, W, 3]; a still picture has one frame."""
        ...


@dataclass(frozen=True)
class _Samples:
    """Samples from x_T down to level 0, with x0_mean at ``places`` on the way."""

    count: int
    places: Sequence[int] = (0,)

    @property
    def samples(self) -> int:
        """All."""
        return self.count

    def evaluations(self, noisiest: int) -> int:
        """See :class:`Figure`."""
        return self.count * (noisiest + 1)

    def _visits(self, canvas: Canvas) -> Pixels:
        """Return x0_mean at each place, [places, count, H, W, 3]."""
        frame_of = {place: frame for frame, place in enumerate(self.places)}
        shown = np.empty((len(self.places), self.count, canvas.height, canvas.width, 3), dtype=np.uint8)
        sampler = canvas.sampler
        for part in canvas.parts(self.count):
            generators = canvas.generators(part.start, part.stop - part.start)
            x_t = sampler.draw_prior(generators, canvas.height, canvas.width)
            for visit in sampler.walk(x_t, sampler.noisiest, generators):
                if visit.place in frame_of:
                    shown[frame_of[visit.place], part] = to_pixels(visit.x0_mean)
        return shown


@dataclass(frozen=True)
class Grid(_Samples):
    """Samples; with several frames, x0_mean on the way to them.

    Attributes:
        count: samples.
        places: levels of the frames; the last one is 0.
    """

    @property
    def columns(self) -> int:
        """Enough for a square."""
        return int(np.ceil(np.sqrt(self.count)))

    @property
    def pictures(self) -> int:
        """One per sample."""
        return self.count

    def draw(self, canvas: Canvas) -> Pixels:
        """See :class:`Figure`."""
        return self._visits(canvas)


@dataclass(frozen=True)
class Progressive(_Samples):
    """The way to each sample: a row each, x0_mean at several levels in its columns.

    Attributes:
        count: samples.
        places: levels of the columns.

    Source: Ho et al. 2020, fig. 6.
    """

    @property
    def columns(self) -> int:
        """One per level."""
        return len(self.places)

    @property
    def pictures(self) -> int:
        """One per sample and level."""
        return self.count * len(self.places)

    def draw(self, canvas: Canvas) -> Pixels:
        """See :class:`Figure`."""
        frames = self._visits(canvas)
        return frames.swapaxes(0, 1).reshape(1, self.pictures, *frames.shape[2:])


@dataclass(frozen=True)
class _Rows(ABC):
    """One row per level, ``columns`` pictures wide, of which ``count`` are drawn."""

    count: int
    places: Sequence[int]

    @property
    @abstractmethod
    def columns(self) -> int:
        """Pictures of a row."""

    @property
    def pictures(self) -> int:
        """All rows."""
        return self.columns * len(self.places)

    @property
    def samples(self) -> int:
        """The drawn pictures of all rows."""
        return self.count * len(self.places)


@dataclass(frozen=True)
class Shared(_Rows):
    """Draws x_0 ~ p(x_0 | x_t) from one x_t: one row per level, with x_t in the first column.

    The x_t of all rows belong to one trajectory from x_T.

    Attributes:
        count: draws per row.
        places: levels t of the rows.

    Source: Ho et al. 2020, fig. 7.
    """

    @property
    def columns(self) -> int:
        """x_t and the draws."""
        return self.count + 1

    def evaluations(self, noisiest: int) -> int:
        """See :class:`Figure`."""
        return noisiest - min(self.places) + 1 + self.count * sum(place + 1 for place in self.places)

    def draw(self, canvas: Canvas) -> Pixels:
        """See :class:`Figure`."""
        shown = np.empty((len(self.places), self.columns, canvas.height, canvas.width, 3), dtype=np.uint8)
        for row, (place, x_t) in enumerate(self._latents(canvas)):
            shown[row, 0] = to_pixels(x_t)[0]
            for part in canvas.parts(self.count):
                generators = canvas.generators((row + 1) * _ROW + part.start, part.stop - part.start)
                copies = x_t.expand(len(generators), *x_t.shape[1:])
                drawn = canvas.sampler.finish(copies, place, generators)
                shown[row, 1 + part.start : 1 + part.stop] = to_pixels(drawn)
        return shown.reshape(1, self.pictures, *shown.shape[2:])

    def _latents(self, canvas: Canvas) -> list[tuple[int, Tensor]]:
        """Return each level with its x_t, [1, 3, H, W], noisiest first."""
        generators = canvas.generators(0, 1)
        x_t = canvas.sampler.draw_prior(generators, canvas.height, canvas.width)
        found = []
        for visit in canvas.sampler.walk(x_t, canvas.sampler.noisiest, generators):
            if visit.place in self.places:
                found.append((visit.place, visit.x_t))
            if visit.place == min(self.places):
                break
        return found


@dataclass(frozen=True)
class Interpolation(_Rows):
    """Two pictures mixed in x_t: one row per level, with the pictures themselves in the first and last column.

        x_t = (1 - lambda) x_t(first) + lambda x_t(second),   lambda from 0 to 1.

    The noise of both pictures and of the steps is the same for all mixtures and rows.

    Attributes:
        pair: the pictures, [2, H, W, 3].
        count: mixtures per row, including lambda = 0 and 1.
        places: levels t of the rows.

    Source: Ho et al. 2020, fig. 8 and 9.
    """

    pair: Pixels

    @property
    def columns(self) -> int:
        """The mixtures between the pictures."""
        return self.count + 2

    def evaluations(self, noisiest: int) -> int:
        """See :class:`Figure`."""
        del noisiest
        return self.count * sum(place + 1 for place in self.places)

    def draw(self, canvas: Canvas) -> Pixels:
        """See :class:`Figure`."""
        shown = np.empty((len(self.places), self.columns, canvas.height, canvas.width, 3), dtype=np.uint8)
        shown[:, 0], shown[:, -1] = self.pair
        sampler = canvas.sampler
        x_0 = from_pixels(self.pair, sampler.device)
        noise = sampler.noise_like(x_0, canvas.generators(0, 2))
        shares = torch.linspace(0.0, 1.0, self.count, dtype=torch.float64, device=sampler.device)
        for row, place in enumerate(self.places):
            first, second = q_sample(x_0, x_0.new_tensor(sampler.chain.log_snr[place]), noise)
            for part in canvas.parts(self.count):
                share = shares[part, None, None, None]
                generators = [generator for _ in range(len(share)) for generator in canvas.generators(2, 1)]
                drawn = sampler.finish((1.0 - share) * first + share * second, place, generators)
                shown[row, 1 + part.start : 1 + part.stop] = to_pixels(drawn)
        return shown.reshape(1, self.pictures, *shown.shape[2:])
