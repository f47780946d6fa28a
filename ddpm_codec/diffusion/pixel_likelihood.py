"""The autoregressive likelihood p(x_0 | z_0) over sub-pixels, and the protocol that bounds and coders use.

z_0 = x_0 + sigma eps is the picture at the *crossing*, the level at which the chain ends. The last message is

    p(x_0 | z_0) = prod_i p(x_i | x_1 .. x_(i-1), z_0),

pixels in raster order, in each pixel green, then red, then blue. Source: Ho et al. 2020, sec. 3.3, who name a conditional
autoregressive model as the stronger choice for L_0.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood, two_scale_log_likelihood


@dataclass(frozen=True)
class PixelParameters:
    """The discretised distribution of every sub-pixel given all earlier ones, model values, each [B, 3, H, W].

    Attributes:
        mean: of both components.
        log_variance: ln variance of the narrow one.
        wide_logit: ln(w / (1 - w)) of the weight of the wide component; None: there is none.
        wide_log_ratio: ln of its standard deviation over the narrow one's; None likewise.
    """

    mean: Tensor
    log_variance: Tensor
    wide_logit: Tensor | None = None
    wide_log_ratio: Tensor | None = None

    def log_likelihood(self, x_0: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return ln p of every sub-pixel of x_0, [B, 3, H, W], in nats, computed in ``dtype``."""
        x_0, mean, log_variance = x_0.to(dtype), self.mean.to(dtype), self.log_variance.to(dtype)
        if self.wide_logit is None or self.wide_log_ratio is None:
            return gaussian_log_likelihood(x_0, mean, log_variance)
        return two_scale_log_likelihood(
            x_0, mean, log_variance, self.wide_logit.to(dtype), self.wide_log_ratio.to(dtype)
        )


@dataclass(frozen=True)
class TrunkMaps:
    """What a reader of z_0 knows before the first pixel.

    Attributes:
        mean: m_0, the mean of x_0 given z_0 and a picture to look at, model values, [B, 3, H, W].
        features: what the masked network is told about z_0, [B, F, H, W].
        scale: unit of the residuals x_0 - m_0, model values, [B, 1, 1, 1].
    """

    mean: Tensor
    features: Tensor
    scale: Tensor


class PixelLikelihood(Protocol):
    """A p(x_0 | z_0), factorised over sub-pixels in the order of this module."""

    def trunk(self, z_0: Tensor, log_snr: Tensor) -> TrunkMaps:
        """Return what depends on z_0 = x_0 + eps / sqrt(snr) alone, [B, 3, H, W] at levels log_snr [B]."""
        ...

    def parameters_given(self, z_0: Tensor, log_snr: Tensor, x_0: Tensor) -> tuple[PixelParameters, TrunkMaps]:
        """Return the distributions of all sub-pixels of x_0 at once, and the maps that they were made with.

        Those of a sub-pixel depend on z_0 and on earlier sub-pixels of x_0 alone.
        """
        ...
