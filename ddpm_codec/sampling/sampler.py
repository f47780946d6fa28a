"""The reverse process run from x_T, or from any x_t, down to a picture."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.codecs.pixels.coder import PixelCoder
from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.gaussian import alpha_bar, sigma2
from ddpm_codec.diffusion.measurement import draw_noise
from ddpm_codec.diffusion.pictures import Pixels, to_grey_levels, to_model_values
from ddpm_codec.diffusion.prediction import Denoiser, Prediction
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.integer import PICTURE_BITS
from ddpm_codec.sampling.steps import StepRule
from ddpm_codec.units import GREY_PER_UNIT

Generators = list[torch.Generator]
"""One per picture, on the CPU, so that pictures depend neither on the batch nor on the device."""


class Visit(NamedTuple):
    """A level on the way down.

    Attributes:
        place: index of the level in its chain, 0 the cleanest.
        x_t: float64, [B, 3, H, W].
        x0_mean: the denoiser's mean of x_0 given x_t, float64, the same shape; at the crossing of a pixel decoder what
            :class:`CrossingEnd` makes of x_t.
    """

    place: int
    x_t: Tensor
    x0_mean: Tensor


@dataclass(frozen=True)
class CrossingEnd:
    """How pictures end at a crossing: by a draw from p(x_0 | z_0), or with its mean m_0.

    Attributes:
        coder: the pixel decoder at that crossing.
        draws: draw, rather than show m_0.
    """

    coder: PixelCoder
    draws: bool

    def __call__(self, x_t: Tensor, log_snr: float, generators: Generators) -> Tensor:
        """Return x_0 or m_0 for x_t at the crossing, model values, float64 [B, 3, H, W]; H and W multiples of 4.

        Args:
            x_t: float64, [B, 3, H, W].
            log_snr: of the crossing.
            generators: of the draws, one per picture.
        """
        z_0 = x_t / alpha_bar(torch.tensor(log_snr, dtype=torch.float64)).sqrt().item()
        picture = torch.round(z_0 * (GREY_PER_UNIT * 2**PICTURE_BITS)).to(torch.int64).cpu().numpy()
        if not self.draws:
            return to_model_values(self.coder.given(picture).mean(), x_t.device, torch.float64)
        shape = (picture.shape[2], picture.shape[3])
        # One by one: pictures that share a stream would depend on the batch.
        drawn = [
            self.coder.given(picture[index : index + 1]).sample(shape, np.random.PCG64(_seed(generator)))
            for index, generator in enumerate(generators)
        ]
        return to_model_values(np.concatenate(drawn), x_t.device, torch.float64)


@dataclass(frozen=True)
class Sampler:
    """A denoiser with a chain, a prior and a sampling rule.

    Attributes:
        denoiser: called with x_t in float32.
        chain: the levels.
        transform: W, in which the prior is given.
        prior: p(x_T).
        rule: makes x_s from x_t.
        device: of the pictures.
        name: of the model, for messages.
        evaluated: called after each network evaluation with the number of pictures in it, like ``tqdm.update``.
        end: what makes the picture at level 0, where that is the crossing of a pixel decoder; None: the denoiser.
    """

    denoiser: Denoiser
    chain: Chain
    transform: BlockTransform
    prior: PriorModel
    rule: StepRule
    device: torch.device
    name: str = "model"
    evaluated: Callable[[int], object] | None = None
    end: CrossingEnd | None = None

    @property
    def noisiest(self) -> int:
        """Index of level T."""
        return self.chain.steps

    def draw_prior(self, generators: Generators, height: int, width: int) -> Tensor:
        """Draw x_T ~ p(x_T), float64 [B, 3, H, W], one picture per generator.

        Each coefficient class of W x has mean sqrt(alpha_bar_T) m and variance alpha_bar_T w + 1 - alpha_bar_T.
        """
        level = torch.tensor(self.chain.log_snr[-1], dtype=torch.float64)
        signal, noise = alpha_bar(level).item(), sigma2(level).item()
        mean, variance = (self._classes(values) for values in (self.prior.mean, self.prior.variance))
        drawn = self.transform.forward(self.noise_like(self._pictures(len(generators), height, width), generators))
        return self.transform.inverse(signal**0.5 * mean + (signal * variance + noise).sqrt() * drawn)

    def noise_like(self, pictures: Tensor, generators: Generators) -> Tensor:
        """Return standard normal noise like ``pictures`` in float64, drawn picture by picture on the CPU."""
        return draw_noise(pictures.double(), generators)

    def walk(self, x_t: Tensor, place: int, generators: Generators) -> Iterator[Visit]:
        """Sample from level ``place`` down to level 0 and yield every level visited, both included.

        The sample is the x0_mean of the last level, the mean of the decoder L_0, shown without its noise as in Ho et al. 2020
        (end of sec. 3.3). At the crossing of a pixel decoder it is what :attr:`end` makes of x_t.

        Args:
            x_t: at level ``place``, [B, 3, H, W].
            place: index of the level.
            generators: of the noise of the steps.

        Raises:
            ModelError: the output of the denoiser is not finite.
        """
        x_t = x_t.double()
        levels = self.chain.log_snr
        for t in range(place, -1, -1):
            if t == 0 and self.end is not None:
                yield Visit(0, x_t, self.end(x_t, levels[0], generators))
                self._count(len(x_t))
                return
            prediction = self._predict(x_t, levels[t])
            yield Visit(t, x_t, prediction.x0_mean.double())
            if t:
                draw = partial(self.noise_like, x_t, generators)
                x_t = self.rule(x_t, prediction, levels[t - 1], levels[t], draw)

    def finish(self, x_t: Tensor, place: int, generators: Generators) -> Tensor:
        """Return x_0 at the end of :meth:`walk`, float64 [B, 3, H, W]."""
        for visit in self.walk(x_t, place, generators):
            last = visit.x0_mean
        return last

    def _predict(self, x_t: Tensor, log_snr: float) -> Prediction:
        level = torch.full((len(x_t),), log_snr, dtype=torch.float32, device=self.device)
        with torch.no_grad():
            prediction = self.denoiser(x_t.float(), level)
        if not torch.isfinite(prediction.x0_mean).all():
            raise ModelError(f"{self.name}: the output of the network is not finite at log-SNR {log_snr:g}")
        self._count(len(x_t))
        return prediction

    def _count(self, pictures: int) -> None:
        if self.evaluated is not None:
            self.evaluated(pictures)

    def _pictures(self, count: int, height: int, width: int) -> Tensor:
        return torch.empty((count, 3, height, width), dtype=torch.float64, device=self.device)

    def _classes(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values).to(self.device)[None, :, None, None]


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(1 << 62, (), generator=generator))


def to_pixels(x: Tensor) -> Pixels:
    """Return model values [B, 3, H, W] as the nearest grey levels, uint8 [B, H, W, 3]."""
    return to_grey_levels(x.permute(0, 2, 3, 1).contiguous())


def from_pixels(pixels: Pixels, device: torch.device) -> Tensor:
    """Return grey levels [B, H, W, 3] as model values, float64 [B, 3, H, W]."""
    return to_model_values(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), device, torch.float64)
