"""An exact pixel decoder as p(x_0 | z_0) for bounds: the very frequencies that its coder uses."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.coding.pixel_laws import MEAN16_BITS, PRECISION, Laws, frequency, pixel_laws
from ddpm_codec.diffusion.pixel_likelihood import PixelParameters, TrunkMaps
from ddpm_codec.errors import InputError
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.integer import MEAN_BITS, PICTURE_BITS
from ddpm_codec.units import GREY_PER_UNIT

SAME_LEVEL = 1e-4
"""Levels this close in log-SNR are the same."""

SIDES = 4
_MIDDLE = 127.5


@dataclass(frozen=True, kw_only=True)
class TabledPixelParameters(PixelParameters):
    """Distributions that tables give; their shapes of tail are rows, and no weights and ratios.

    Attributes:
        laws: means, scales and rows, [B, H, W, 3].
        tails: the table of tails.
        inverse_scales: 2^26 over sigma.
    """

    laws: Laws
    tails: NDArray[np.int64]
    inverse_scales: NDArray[np.int64]

    def log_likelihood(self, x_0: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return ln(frequency / 2^24) of every sub-pixel of x_0, [B, 3, H, W]."""
        counts = frequency(_channels_last(_greys(x_0)).astype(np.int64), self.laws, self.tails, self.inverse_scales)
        return _channels_first(np.log(counts / 2.0**PRECISION), x_0.device).to(dtype)


class ExactPixelLikelihood:
    """A :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood` over the crossings of an exact decoder.

    z_0 is rounded to 1/64 of a grey level, as pictures of an exact network are; the mask ends at the picture.

    Args:
        executor: the decoder.
        log_snr: of its crossings; no others can be asked for.
    """

    def __init__(self, executor: PixelDecoderExecutor, log_snr: tuple[float, ...]) -> None:
        self._executor, self._levels = executor, np.array(log_snr)

    def trunk(self, z_0: Tensor, log_snr: Tensor) -> TrunkMaps:
        """See :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood`.

        Raises:
            InputError: pictures at several levels, or at one that is no crossing.
        """
        return self._maps(z_0, log_snr)[0]

    def parameters_given(self, z_0: Tensor, log_snr: Tensor, x_0: Tensor) -> tuple[PixelParameters, TrunkMaps]:
        """See :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood`.

        Raises:
            InputError: as for :meth:`trunk`.
        """
        maps, mean, features, level = self._maps(z_0, log_snr)
        greys = _greys(x_0)
        decoder = self._executor.parameters
        v = self._executor.sums(mean, features, greys, level)
        height, width = greys.shape[2:]
        cropped = _channels_last(mean[..., :height, :width])
        laws = pixel_laws(v, cropped, _channels_last(greys), decoder.law_heads(level))
        sigma = 2.0**26 / decoder.inverse_scales[laws.scale] / GREY_PER_UNIT
        return TabledPixelParameters(
            mean=_channels_first((laws.mean16 / 2.0**MEAN16_BITS - _MIDDLE) / GREY_PER_UNIT, z_0.device),
            log_variance=_channels_first(2.0 * np.log(sigma), z_0.device),
            laws=laws,
            tails=decoder.tails,
            inverse_scales=decoder.inverse_scales,
        ), maps

    def _maps(self, z_0: Tensor, log_snr: Tensor) -> tuple[TrunkMaps, NDArray[np.int32], NDArray[np.uint8], int]:
        """Return the maps in model values, their integers, and the level."""
        wanted = float(log_snr[0])
        level = int(np.abs(self._levels - wanted).argmin())
        if not bool((log_snr == log_snr[0]).all()) or abs(self._levels[level] - wanted) > SAME_LEVEL:
            raise InputError(f"an exact pixel decoder takes batches at one of its crossings; got log-SNR {wanted:g}")
        picture = torch.round(z_0.double() * (GREY_PER_UNIT * 2**PICTURE_BITS)).to(torch.int64).cpu().numpy()
        height, width = picture.shape[2:]
        picture = np.pad(picture, ((0, 0), (0, 0), (0, -height % SIDES), (0, -width % SIDES)), mode="edge")
        mean, features = self._executor.trunk(picture, level)
        of_features = torch.from_numpy(features[:, :height, :width].astype(np.float64)).permute(0, 3, 1, 2)
        unit = float(self._executor.parameters.heads.residual_multiplier[level])
        scale = torch.full((len(picture), 1, 1, 1), 2.0**23 / unit / GREY_PER_UNIT, dtype=torch.float64)
        means = torch.from_numpy(mean[..., :height, :width]).double() / (GREY_PER_UNIT * 2**MEAN_BITS)
        maps = TrunkMaps(means.to(z_0.device), of_features.to(z_0.device), scale.to(z_0.device))
        return maps, mean, features, level


def _greys(x_0: Tensor) -> NDArray[np.uint8]:
    """Return grey levels 0..255 of model values."""
    greys = torch.round(x_0.double() * GREY_PER_UNIT + _MIDDLE)
    return greys.clamp(0.0, 255.0).to(torch.uint8).cpu().numpy()


def _channels_last(values: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.moveaxis(values, 1, -1)


def _channels_first(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 1))).to(device)
