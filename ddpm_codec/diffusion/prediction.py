"""A denoiser's prediction of x_0, and the protocol that bounds and coders use."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """A denoiser's distribution of x_0 given x_t.

    Attributes:
        x0_mean: the mean as a picture in model values, [B, 3, H, W].
        coef_log_var: ln variance of each coefficient of W x_0, [B, D, h, w]: for the reverse steps.
        pixel_log_var: ln variance of each sub-pixel, [B, 3, H, W]: for L_0.
        range_fraction: where a network learned a range of variances, the place f in it of each sub-pixel, [B, 3, H, W]
            (see :mod:`ddpm_codec.diffusion.process`).
    """

    x0_mean: Tensor
    coef_log_var: Tensor
    pixel_log_var: Tensor
    range_fraction: Tensor | None = None


class Denoiser(Protocol):
    """A network that predicts x_0 from x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps."""

    def __call__(self, x_t: Tensor, log_snr: Tensor) -> Prediction:
        """Predict x_0 from pictures x_t [B, 3, H, W] at levels log_snr [B]."""
        ...
