"""An exact network as a denoiser for bounds, with the same numbers that its coder uses."""

import numpy as np
import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import alpha_bar
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.errors import InputError
from ddpm_codec.nn.exact.executor import ExactDenoiser, Executor
from ddpm_codec.nn.integer import MEAN_BITS, PICTURE_BITS, log_variances
from ddpm_codec.units import GREY_PER_UNIT

_SAME_LEVEL = 1e-4


class ExactBoundDenoiser:
    """A :class:`~ddpm_codec.diffusion.prediction.Denoiser` over the levels of an exact network.

    Args:
        executor: the network.
        rows: levels of its tables.
        log_snr: what they stand for; no others can be asked for.
    """

    def __init__(self, executor: Executor, rows: tuple[int, ...], log_snr: tuple[float, ...]) -> None:
        self._denoiser = ExactDenoiser(executor, rows)
        self._levels = np.array(log_snr)

    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from x_t [B, 3, H, W], all at one level.

        Raises:
            InputError: pictures at several levels, or at one without tables.
        """
        wanted = float(log_snr[0])
        level = int(np.abs(self._levels - wanted).argmin())
        if not bool((log_snr == log_snr[0]).all()) or abs(self._levels[level] - wanted) > _SAME_LEVEL:
            raise InputError(f"an exact model takes batches at one of its own levels; got log-SNR {wanted:g}")
        z = x_t.double() / alpha_bar(log_snr.double()).sqrt()[:, None, None, None]
        picture = torch.round(z * (GREY_PER_UNIT * 2**PICTURE_BITS)).to(torch.int64).cpu().numpy()
        pixels, coefficients = self._denoiser.both(picture, level)
        return Prediction(
            x0_mean=torch.from_numpy(pixels.mean).to(x_t) / (GREY_PER_UNIT * 2**MEAN_BITS),
            coef_log_var=torch.from_numpy(log_variances()[coefficients.log_var_index]).to(x_t),
            pixel_log_var=torch.from_numpy(log_variances()[pixels.log_var_index]).to(x_t),
        )
