"""Grey levels and model values: x = k / 127.5 - 1."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.units import GREY_MAX, GREY_PER_UNIT

Pixels = NDArray[np.uint8]


def to_model_values(pixels: Pixels, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return grey levels of any shape as model values of the same shape on ``device``."""
    values: Tensor = torch.from_numpy(pixels).to(device).to(dtype) / GREY_PER_UNIT - 1.0
    return values


def to_grey_levels(x: Tensor) -> Pixels:
    """Return model values of any shape as the nearest grey levels of the same shape."""
    grey: Pixels = torch.round((x + 1.0) * GREY_PER_UNIT).clamp(0, GREY_MAX).to(torch.uint8).cpu().numpy()
    return grey
