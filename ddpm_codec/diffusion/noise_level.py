r"""A noise level in its two forms: log-SNR, and the standard deviation sigma of the noise in z = x_0 + sigma eps.

    sigma = 1 / sqrt(snr) = exp(-log_snr / 2),      log_snr = -2 ln sigma.

Model files keep the chains that code as sigmas, everything else works with log-SNR. The sigmas of a chain decide the
bytes of a file, so they are converted here and nowhere else. NumPy in float64 for levels, torch for one level per picture.
"""

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Levels = float | Sequence[float] | NDArray[np.float64]


def log_snr_from_sigma(sigma: Levels) -> NDArray[np.float64]:
    """Return -2 ln sigma in float64, the shape of ``sigma`` (model values, positive)."""
    return np.asarray(-2.0 * np.log(np.asarray(sigma, dtype=np.float64)))


@overload
def sigma_from_log_snr(log_snr: Tensor) -> Tensor: ...
@overload
def sigma_from_log_snr(log_snr: Levels) -> NDArray[np.float64]: ...
def sigma_from_log_snr(log_snr: Tensor | Levels) -> Tensor | NDArray[np.float64]:
    """Return exp(-log_snr / 2), model values, the shape of ``log_snr``: a tensor in its dtype, anything else in float64."""
    if isinstance(log_snr, Tensor):
        return torch.exp(-0.5 * log_snr)
    return np.asarray(np.exp(-0.5 * np.asarray(log_snr, dtype=np.float64)))
