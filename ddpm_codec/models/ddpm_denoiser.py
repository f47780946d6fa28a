"""A U-Net and its process as a denoiser: the adapter between published networks and the bounds and codecs here.

The U-Net predicts eps, x_0, v or x_{t-1}; the adapter returns x0_mean (clipped to the range of data if the process says so)
with a variance of x_0: one per level and coefficient class if the model was calibrated on training pictures, else that of
beta, 1 - alpha_bar. The fraction f of a learned range is returned beside it, for
:class:`~ddpm_codec.diffusion.variance.ProcessVariances`.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ddpm_codec.diffusion.gaussian import alpha_bar, sigma2
from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.nn.ddpm_unet import UNet


class DdpmDenoiser:
    """A :class:`~ddpm_codec.diffusion.prediction.Denoiser` around a :class:`UNet`, without gradients, on its device.

    Pictures whose sides are no multiples of the network's stride are continued by their last row and column, and the
    prediction is cut back.

    Args:
        network: in eval mode.
        process: what its output means.
        calibration: of the variances; None: those of beta.
        block: side of the blocks of the calibration's transform, 1 for the identity.
        dtype: ``float32``, or ``bf16`` for autocast.
    """

    def __init__(
        self,
        network: UNet,
        process: ReverseProcess,
        calibration: Calibration | None = None,
        *,
        block: int = 8,
        dtype: str = "float32",
    ) -> None:
        self.network, self.process = network, process
        self._calibration, self._block, self._dtype = calibration, block, dtype
        self._device = next(network.parameters()).device

    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from x_t [B, C, H, W] at levels log_snr [B], in the dtype of x_t around a network in float32."""
        inputs, levels = x_t.to(self._device), log_snr.to(self._device)
        mean, fraction = self.output(inputs, levels)
        x0_mean = self.process.x0_mean(mean, inputs, levels.to(inputs.dtype))
        if self.process.clip:
            x0_mean = x0_mean.clamp(-1.0, 1.0)
        coefficient, pixel = self._log_variances(levels, x0_mean)
        return Prediction(x0_mean, coefficient, pixel, fraction)

    def predict_scaled(self, z: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from z = x_0 + sigma eps, [B, C, H, W], sigma^2 = 1 / snr."""
        return self(z * alpha_bar(log_snr.float()).sqrt()[:, None, None, None], log_snr)

    @torch.no_grad()
    def output(self, x_t: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the network's output for x_t [B, C, H, W] and f of a learned range, the same shape, or None.

        The network computes in float32; what is made of its output is in the dtype of x_t, or float32 where that is narrower.
        """
        height, width = x_t.shape[2:]
        stride = self.network.config.stride
        down, right = -height % stride, -width % stride
        padded = functional.pad(x_t, (0, right, 0, down), mode="replicate") if down or right else x_t
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == "bf16"):
            output: Tensor = self.network(padded.float(), self.process.timestep(log_snr))
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        return self.process.split(output.to(dtype)[:, :, :height, :width])

    def _log_variances(self, log_snr: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln variances of coefficients [B, D, h, w] and of sub-pixels [B, C, H, W], both broadcast views."""
        images, channels, height, width = like.shape
        block = self._block
        shape = (images, channels * block * block, height // block, width // block)
        if self._calibration is None:
            values = sigma2(log_snr).log().float()[:, None, None, None]
            return values.expand(shape), values.expand(like.shape)
        # Batches are mostly of one level.
        levels, places = np.unique(self._inside(log_snr), return_inverse=True)
        rows = np.array([self._calibration.log_variance(level, "class") for level in levels.tolist()])
        classes = torch.from_numpy(rows[places]).float().to(like.device)
        pixel = classes.exp().mean(dim=1).log()
        return classes[:, :, None, None].expand(shape), pixel[:, None, None, None].expand(like.shape)

    def _inside(self, log_snr: Tensor) -> list[float]:
        """Return the levels, moved to the calibrated range where rounding to single precision took them out of it."""
        if self._calibration is None:
            return []
        most, least = float(self._calibration.log_snr[0]), float(self._calibration.log_snr[-1])
        levels = log_snr.double().cpu().tolist()
        near = [min(max(level, least), most) for level in levels]
        return [b if math.isclose(a, b, abs_tol=1e-4) else a for a, b in zip(levels, near, strict=True)]
