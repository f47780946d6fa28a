"""From network outputs to a prediction of x_0: preconditioning of the codec network.

With z = x_t / sqrt(alpha_bar) = x_0 + sigma eps, sigma^2 = 1 / snr, and a nominal data variance s^2 = 1/4,

    x0_mean = c_skip z + c_out f,   c_skip = s^2 / (s^2 + sigma^2),   c_out = sigma s / sqrt(s^2 + sigma^2),

and the network reads z / sqrt(s^2 + sigma^2), so that its input and its heads are of order one at every level; the
log-variances are relative to c_out^2. Source: Karras et al. 2022 (EDM), table 1.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from ddpm_codec.diffusion.gaussian import alpha_bar
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.nn.codec_net import CodecNet

DATA_VARIANCE = 0.25
PIXEL_LOG_VAR_RANGE = (-12.0, 6.0)
COEF_LOG_VAR_RANGE = (-14.0, 6.0)


def _image_axes(level: Tensor) -> Tensor:
    return level[:, None, None, None]


class Preconditioning(NamedTuple):
    """The factors of a level, each [B, 1, 1, 1].

    Attributes:
        c_in: of z, 1 / sqrt(s^2 + sigma^2), before the network.
        c_skip: of z beside the network's output.
        c_out_squared: square of the output's unit.
    """

    c_in: Tensor
    c_skip: Tensor
    c_out_squared: Tensor

    @property
    def c_out(self) -> Tensor:
        """Unit of the network's output."""
        return self.c_out_squared.sqrt()


def preconditioning(log_snr: Tensor) -> Preconditioning:
    """Return the factors of levels [B], as in the module's equation."""
    noise_variance = torch.exp(-log_snr)
    total = DATA_VARIANCE + noise_variance
    c_out_squared = DATA_VARIANCE * noise_variance / total
    return Preconditioning(_image_axes(total.rsqrt()), _image_axes(DATA_VARIANCE / total), _image_axes(c_out_squared))


class CodecDenoiser(nn.Module):
    """A :class:`~ddpm_codec.diffusion.prediction.Denoiser` around a :class:`CodecNet`."""

    def __init__(self, net: CodecNet) -> None:
        super().__init__()
        self.net = net

    def place(self, device: torch.device) -> Self:
        """Move to ``device``, kernels in the order that its convolutions read fastest; return self."""
        self.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def forward(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from x_t [B, 3, H, W] (variance preserving) at levels log_snr [B]."""
        return self.predict_scaled(x_t / _image_axes(alpha_bar(log_snr).sqrt()), log_snr)

    def predict_scaled(self, z: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from z = x_0 + sigma eps, [B, 3, H, W]: numerically the safer form for clean levels."""
        scaling = preconditioning(log_snr)
        inputs = (z * scaling.c_in).contiguous(memory_format=torch.channels_last)
        mean, pixel, coefficient = self.net(inputs, log_snr)
        log_scale = scaling.c_out_squared.log()
        return Prediction(
            x0_mean=scaling.c_skip * z + scaling.c_out * mean.float(),
            coef_log_var=log_scale + coefficient.float().clamp(*COEF_LOG_VAR_RANGE),
            pixel_log_var=log_scale + pixel.float().clamp(*PIXEL_LOG_VAR_RANGE),
        )


class MixedPrecision:
    """A denoiser evaluated without gradients under autocast, on its own device.

    Args:
        denoiser: in eval mode.
        dtype: ``bf16``, or ``float32`` for no autocast.
    """

    def __init__(self, denoiser: CodecDenoiser, dtype: str) -> None:
        self._denoiser, self._dtype = denoiser, dtype
        self._device = next(denoiser.parameters()).device

    @torch.no_grad()
    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from x_t [B, 3, H, W] at levels log_snr [B]; float64 comes back as float32."""
        inputs, levels = x_t.float().to(self._device), log_snr.float().to(self._device)
        with self._autocast():
            return self._denoiser(inputs, levels)  # type: ignore[no-any-return]

    @torch.no_grad()
    def predict_scaled(self, z: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from z = x_0 + sigma eps, [B, 3, H, W]."""
        with self._autocast():
            return self._denoiser.predict_scaled(z, log_snr)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == "bf16")
