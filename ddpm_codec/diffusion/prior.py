"""The prior p(x_T): the first message, L_T.

A Gaussian of the data, one mean and variance per coefficient class of W, diffused to the noisiest level:

    p(y_T) = N( sqrt(alpha_bar_T) mean, alpha_bar_T variance + 1 - alpha_bar_T ),   y = W x.

This is what a denoiser that sees nothing would say, so L_T is the KL of a reverse step from snr = 0 to snr_T. The
standard normal of Ho et al. is the member with mean 0 and variance 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.gaussian import step_kl_nats
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import InputError


@dataclass(frozen=True, eq=False)
class PriorModel:
    """Mean and variance of W x_0, in model values, one of each per coefficient class.

    Attributes:
        mean: [D] float64.
        variance: [D] float64, positive.

    Raises:
        InputError: where the shapes differ, a value is not finite, or a variance is not positive.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.variance.shape:
            shapes = f"{self.mean.shape} and {self.variance.shape}"
            raise InputError(f"a prior needs a mean and a variance of shape [D]; got {shapes}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.variance).all()):
            raise InputError("a prior needs finite means and variances")
        if not (self.variance > 0.0).all():
            raise InputError("a prior needs positive variances")

    @classmethod
    def standard(cls, dims: int) -> Self:
        """Return p(x_T) = N(0, 1) at every level, for D = ``dims`` (Ho et al. 2020, sec. 2)."""
        return cls(np.zeros(dims), np.ones(dims))

    @classmethod
    def fit(cls, batches: Iterable[Tensor], transform: BlockTransform) -> Self:
        """Return the mean and variance of W x_0 over pictures.

        Args:
            batches: model values, each [B, 3, H, W].
            transform: W.

        Raises:
            InputError: where there is no picture, or a class never varies.
        """
        count = 0
        total = np.zeros(transform.dims)
        squares = np.zeros(transform.dims)
        for x_0 in batches:
            y_0 = transform.forward(x_0.double())
            count += y_0.shape[0] * y_0.shape[2] * y_0.shape[3]
            total += y_0.sum(dim=(0, 2, 3)).cpu().numpy()
            squares += y_0.square().sum(dim=(0, 2, 3)).cpu().numpy()
        if count == 0:
            raise InputError("cannot fit a prior: no pictures")
        mean = total / count
        return cls(mean, squares / count - mean**2)


def prior_kl_nats(y_0: Tensor, log_snr: float, prior: PriorModel) -> Tensor:
    """Return KL( q(y_T | y_0) || p(y_T) ) summed over the dimensions of each image, in nats.

    With d = snr_T, mean m and variance w of the prior: 1/2 [ ln(1 + d w) + (1 + d (y_0 - m)^2) / (1 + d w) - 1 ].

    Args:
        y_0: coefficients W x_0, [B, D, h, w].
        log_snr: level T.
        prior: mean and variance per class.

    Returns:
        Nats per image, [B] float64.

    Raises:
        InputError: where the prior is of another D.
    """
    if y_0.shape[1] != len(prior.mean):
        raise InputError(f"the prior has {len(prior.mean)} coefficient classes, the transform {y_0.shape[1]}")
    mean, variance = (
        torch.from_numpy(values).to(y_0.device)[None, :, None, None] for values in (prior.mean, prior.variance)
    )
    snr = torch.tensor(log_snr, dtype=torch.float64, device=y_0.device).exp()
    return step_kl_nats(y_0.double() - mean, variance.log(), snr).sum(dim=(1, 2, 3))
