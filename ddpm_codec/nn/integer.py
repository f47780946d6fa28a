"""The seam between network and entropy coder: denoisers that take and return integers.

Everything outside this protocol is integers, tables, or correctly rounded float64 arithmetic, so a file decodes wherever
the denoiser returns the same integers. :class:`FloatIntegerDenoiser` rounds a floating-point network: the same integers
only in the same environment, which is why a file coded with it carries an environment fingerprint.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.units import GREY_PER_UNIT

PICTURE_BITS = 6
"""Fractional bits of a noisy picture, in grey levels around 127.5."""

MEAN_BITS = 10
"""Fractional bits of a predicted mean, in grey levels around 127.5."""

LOG_VAR_STEPS = 32
"""Variance indices to one unit of log-variance (natural logarithm, model values)."""

LOG_VAR_FLOOR = -20.0
"""Log-variance of index 0."""

LOG_VAR_INDICES = 1024
"""Number of variance indices: log-variances up to 12."""


@dataclass(frozen=True)
class IntegerPrediction:
    """A prediction of x_0 in integers.

    Attributes:
        mean: (x0_mean in grey levels - 127.5) 2**MEAN_BITS, [B, 3, H, W] int64.
        log_var_index: round((log-variance - LOG_VAR_FLOOR) LOG_VAR_STEPS), [B, D, h, w] for the steps or [B, 3, H, W]
            for L_0, int16 in [0, LOG_VAR_INDICES).
    """

    mean: NDArray[np.int64]
    log_var_index: NDArray[np.int16]


class IntegerDenoiser(Protocol):
    """A denoiser over the levels of one chain, level 0 the cleanest."""

    def coefficients(self, picture: NDArray[np.int64], level: int) -> IntegerPrediction:
        """Predict x_0 with the variances of its coefficients from z, (grey - 127.5) 2**PICTURE_BITS, [B, 3, H, W]."""
        ...

    def pixels(self, picture: NDArray[np.int64], level: int) -> IntegerPrediction:
        """Predict x_0 with the variances of its sub-pixels."""
        ...


def log_variances() -> NDArray[np.float64]:
    """Return the log-variance of each index, [LOG_VAR_INDICES], exact multiples of 1 / LOG_VAR_STEPS."""
    return LOG_VAR_FLOOR + np.arange(LOG_VAR_INDICES, dtype=np.float64) / LOG_VAR_STEPS


class ScaledDenoiser(Protocol):
    """A denoiser in floating point that takes z = x_0 + sigma eps, sigma^2 = 1 / snr."""

    def predict_scaled(self, z: torch.Tensor, log_snr: torch.Tensor) -> Prediction:
        """Predict x_0 from z [B, 3, H, W] at levels log_snr [B]."""
        ...


class FloatIntegerDenoiser:
    """An :class:`IntegerDenoiser` that rounds a floating-point network.

    The same call gives the same integers in the same environment. Floating-point sums depend on the batch shape, so
    both directions of a codec must ask for the same pictures in the same batches: a picture alone may differ from the same
    picture in a batch by one unit of the mean or one variance index where a value lies near a half.

    Args:
        denoiser: the network, without gradients.
        log_snr: the chain, cleanest first.
        device: where the network is.
    """

    def __init__(self, denoiser: ScaledDenoiser, log_snr: tuple[float, ...], device: torch.device) -> None:
        self._denoiser = denoiser
        self._log_snr = log_snr
        self._device = device

    def coefficients(self, picture: NDArray[np.int64], level: int) -> IntegerPrediction:
        """See :class:`IntegerDenoiser`."""
        prediction = self._predict(picture, level)
        return IntegerPrediction(_mean(prediction), _index(prediction.coef_log_var))

    def pixels(self, picture: NDArray[np.int64], level: int) -> IntegerPrediction:
        """See :class:`IntegerDenoiser`."""
        prediction = self._predict(picture, level)
        return IntegerPrediction(_mean(prediction), _index(prediction.pixel_log_var))

    @torch.no_grad()
    def _predict(self, picture: NDArray[np.int64], level: int) -> Prediction:
        scale = 1.0 / (GREY_PER_UNIT * 2**PICTURE_BITS)
        z = torch.from_numpy(picture.astype(np.float32)).to(self._device) * scale
        log_snr = torch.full((len(z),), self._log_snr[level], dtype=torch.float32, device=self._device)
        return self._denoiser.predict_scaled(z, log_snr)


def _mean(prediction: Prediction) -> NDArray[np.int64]:
    scaled = torch.round(prediction.x0_mean * (GREY_PER_UNIT * 2**MEAN_BITS))
    limit = 4096.0 * 2**MEAN_BITS
    return scaled.clamp(-limit, limit).cpu().numpy().astype(np.int64)


def _index(log_var: torch.Tensor) -> NDArray[np.int16]:
    scaled = torch.round((log_var - LOG_VAR_FLOOR) * LOG_VAR_STEPS)
    return scaled.clamp(0, LOG_VAR_INDICES - 1).to(torch.int16).cpu().numpy()
