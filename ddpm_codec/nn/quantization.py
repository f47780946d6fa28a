"""Training with the integers that coding will use: activations of one or two bytes, weights of one.

Rounding has no gradient, so the backward pass takes it for the identity inside the range and for a constant outside
(straight-through estimator; Bengio et al. 2013, Jacob et al. 2018). Steps are fixed numbers from a calibration, one per
channel: the scale of a channel is folded into the kernels that read it, so that integers alone meet in a convolution.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_codec.nn.masked_conv import MaskedConv

LOBE = 0.375
"""The least value of the hard-swish is minus this."""

BYTE = 255
"""Largest activation of one byte."""

WIDE = 8191
"""Largest activation of two bytes: 13 bits, which is what a residual stream carries."""

WEIGHT_LIMIT = 127


class _RoundClamp(torch.autograd.Function):
    """Round half to even and clamp; the gradient passes where nothing was clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:  # noqa: ANN401 - torch gives it no type
        ctx.save_for_backward((x >= low) & (x <= high))
        return x.round().clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - as above
        (inside,) = ctx.saved_tensors
        # A product with booleans is several times slower.
        return torch.where(inside, gradients[0], 0.0), None, None


def _round_clamp(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return _RoundClamp.apply(x, low, high)  # type: ignore[no-any-return, no-untyped-call]


def round_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes everywhere.

    For what is within its limits anyway: clamped values, and weights over their own steps. Clamping those would cut off
    the largest weight of a channel, the one that sets the step: float division makes it 127 or the next number above.
    """
    return x + (x.round() - x).detach()


class Quantizer(nn.Module):
    """q = clamp(round(y / step), low, high) with one step per channel, in float.

    Args:
        channels: of y.
        signed: y is a residual stream, and q in -128..127; else y is an activation, and q + zero point in 0..255, or in
            0..8191 where the layer is wide.
    """

    step: Tensor
    wide: Tensor

    def __init__(self, channels: int, *, signed: bool = False) -> None:
        super().__init__()
        self.signed = signed
        self.register_buffer("step", torch.zeros(channels, dtype=torch.float32))
        self.register_buffer("wide", torch.zeros(1, dtype=torch.float32))

    @property
    def largest(self) -> int:
        """Number of values less one."""
        return WIDE if self.wide.item() else BYTE

    def most(self) -> Tensor:
        """Return :attr:`largest` as a tensor, [1]: to read a number out of one breaks a compiled network in two."""
        return BYTE + (WIDE - BYTE) * self.wide

    def zero_point(self, step: Tensor) -> Tensor:
        """Return what stands for y = 0 in bytes, for steps of any shape: the hard-swish never falls below byte 0."""
        return torch.full_like(step, 128.0) if self.signed else torch.ceil(LOBE / step)

    def quantize(self, y: Tensor, step: Tensor) -> Tensor:
        """Return q for y and steps whose shapes broadcast."""
        low = -self.zero_point(step)
        return _round_clamp(y / step, low, low + self.most())

    def forward(self, y: Tensor) -> Tensor:
        """Return q for y [B, C, h, w]."""
        return self.quantize(y.float(), self.step[:, None, None])


def weight_steps(weight: Tensor) -> Tensor:
    """Return the step of each output channel's weights, [O]: the largest of them becomes 127."""
    return (weight.detach().abs().amax(dim=(1, 2, 3)) / WEIGHT_LIMIT).clamp_min(1e-12)


def quantized_conv(conv: nn.Conv2d, y: Tensor, quantizer: Quantizer | None, *, wide: bool) -> Tensor:
    """Convolve as integers will.

    Args:
        conv: the layer.
        y: its input, [B, C, h, w].
        quantizer: of the input; None for an input that is all but exact.
        wide: whether the quantiser gives integers above 256.

    Returns:
        float32, as ``conv(y)`` up to quantisation.
    """
    weight = conv.kernel() if isinstance(conv, MaskedConv) else conv.weight
    if quantizer is not None:
        y, weight = quantizer(y), weight * quantizer.step[:, None, None]
    steps = weight_steps(weight)[:, None, None, None]
    rounded = round_through(weight / steps)
    # Integers up to 256 are exact in bfloat16, wider ones are not.
    exact = quantizer is not None and not wide
    with torch.autocast(y.device.type, enabled=exact and torch.is_autocast_enabled(y.device.type)):
        out = functional.conv2d(y, rounded, None, conv.stride, conv.padding).float()
    bias = conv.bias
    if bias is None:
        raise TypeError("a layer of the codec network has no bias")
    return torch.addcmul(bias[:, None, None], out, steps.view(-1, 1, 1))


STREAM_LIMIT = 4095
"""Largest magnitude of a residual stream, in its units."""

LARGEST_OFFSET = 2046

LARGEST_SHIFT = 16
"""Largest p of a step 2^p in the ladder of a stream's unit (see :mod:`ddpm_codec.nn.exact.parameters`)."""


def unit_offset(reciprocal: Tensor) -> Tensor:
    """Return 4 in integer units of 1 / ``reciprocal``: an even number from 2 to 2046, per channel."""
    return (2.0 * torch.round(2.0 * reciprocal)).clamp(2.0, LARGEST_OFFSET)
