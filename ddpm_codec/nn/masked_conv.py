"""Convolutions that see earlier pixels alone, in raster order."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaskedConv(nn.Conv2d):
    """A convolution that sees the pixels above and to the left.

    Args:
        inputs: channels.
        outputs: channels.
        side: of the kernel, odd.
        own: whether it sees the pixel itself; of features yes, of pixel values never.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, side: int, *, own: bool) -> None:
        super().__init__(inputs, outputs, side, padding=side // 2)
        self.register_buffer("mask", causal_mask(side, own=own), persistent=False)
        with torch.no_grad():
            self.weight.mul_(self.mask)

    def _load_from_state_dict(self, *arguments: Any) -> None:  # noqa: ANN401 - torch's own signature
        """Load, and keep what is masked away at zero: other readers of the weight need no mask."""
        super()._load_from_state_dict(*arguments)
        with torch.no_grad():
            self.weight.mul_(self.mask.to(self.weight.device))

    def kernel(self) -> Tensor:
        """Return the weights, zero where masked."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [B, C, H, W]."""
        return functional.conv2d(x, self.kernel(), self.bias, padding=self.padding)


def causal_mask(side: int, *, own: bool) -> Tensor:
    """Return 1 for what comes earlier in raster order (and the pixel itself where ``own``), [side, side]."""
    mask = torch.zeros(side, side, dtype=torch.float32)
    mask[: side // 2] = 1.0
    mask[side // 2, : side // 2 + own] = 1.0
    return mask
