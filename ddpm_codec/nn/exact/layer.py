"""A layer of the exact network in torch, on any device: integers held in float32, where every operation on them is exact.

Streams and everything between convolutions are float32 [B, h, w, C] with integer values below 2^24, so that a product, a
sum, a fused multiply-add or a power of two gives the same number on any device; rounding is to even.
"""

import threading
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.nn.exact.kernels import KERNELS, power_of_half, shape_of
from ddpm_codec.nn.exact.parameters import STREAM_LIMIT, T_LIMIT, Convolution

STRIP_VALUES = {"cpu": 1 << 19, "cuda": 1 << 40}
"""Values of a stream that go through a layer at once: between its operations they stay in the cache."""

ROUND = 1.5 * 2.0**23
"""Added to a float32 below 2^22, this rounds it half to even and leaves the integer in the low bits. Streams hold s + ROUND,
so that adding to them rounds by itself."""


class Scratch(threading.local):
    """Reused memory, of each thread its own: fresh pages cost more than the arithmetic on them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._slots: dict[str, Tensor] = {}
        self.bordered: dict[tuple[int, int, int, int], Tensor] = {}

    def take(self, slot: str, shape: torch.Size) -> Tensor:
        """Return float32 memory of a shape; whoever takes the same slot next writes over it."""
        count = shape.numel()
        memory = self._slots.get(slot)
        if memory is None or memory.numel() < count:
            memory = self._slots[slot] = torch.empty(count, dtype=torch.float32, device=self._device)
        return memory[:count].view(shape)


class Layer:
    """One convolution on a device: reads a stream, sums, rescales. Streams come and go with ROUND added."""

    def __init__(self, layer: Convolution, device: torch.device, kernels: str, scratch: Scratch) -> None:
        self._device, self._padding, self._scratch = device, layer.padding, scratch
        self._stride, self._outputs = layer.stride, len(layer.offset)
        reading = layer.reading
        self._wide, self._limit = reading.wide, float(reading.limit)
        down = np.ldexp(1.0, -reading.shift)
        self._zero, self._down = self._vector(reading.zero), self._vector(down)
        self._plain = not reading.half.any()
        self._half, self._top = self._vector((reading.half - ROUND) * down), self._vector(2 * reading.half * down)
        self._bottom = torch.zeros_like(self._top)
        weight = torch.from_numpy(layer.weight.astype(np.int8)).to(device)
        offset = torch.from_numpy(layer.offset.astype(np.int32)).to(device)
        scale = layer.rescaling
        pre_shift = torch.from_numpy(
            (np.zeros_like(layer.offset) if scale is None else scale.pre_shift).astype(np.int32)
        )
        pre_shift = pre_shift.to(device)
        make = KERNELS[kernels]
        self._sum = make(weight, offset, pre_shift, layer.stride, shape_of(layer).limit)
        if self._wide:
            eight = torch.full_like(pre_shift, 8)
            self._lower = make(weight, torch.zeros_like(offset), eight, layer.stride, None)
            self._scale, self._sum_limit = power_of_half(pre_shift), None if scale is None else float(T_LIMIT)
        self._multiplier: list[Tensor] = []
        self._bias: list[Tensor] = []
        if scale is not None:
            up = np.ldexp(1.0, -scale.shift)
            self._multiplier = [self._vector(row * up) for row in scale.multiplier]
            self._bias = [self._vector(row + ROUND) for row in scale.bias]

    def _vector(self, values: NDArray[np.generic]) -> Tensor:
        """Return values of at most 24 significant bits as float32, which holds them exactly."""
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self._device)

    def __call__(self, stream: Tensor, level: int, *, saturate: bool = False) -> Tensor:
        """Return y for a stream [B, h, w, C]; with ``saturate``, within the limits of a stream."""
        row = self._row(level)
        out = self._output(stream)
        for rows, t in self._strips(stream):
            y = torch.addcmul(self._bias[row], t.round_(), self._multiplier[row], out=out[:, rows])
            if saturate:
                _saturate(y)
        return out

    def add_to(self, target: Tensor, stream: Tensor, level: int) -> Tensor:
        """Add y, without bias, to the stream ``target``, in place and within the limits of a stream."""
        multiplier = self._multiplier[self._row(level)]
        for rows, t in self._strips(stream):
            _saturate(target[:, rows].addcmul_(t.round_(), multiplier))
        return target

    def _row(self, level: int) -> int:
        return level if len(self._multiplier) > 1 else 0

    def sums(self, stream: Tensor) -> Tensor:
        """Return clamp(v 2^-pre_shift), not yet rounded."""
        out = self._output(stream)
        for rows, t in self._strips(stream):
            out[:, rows] = t
        return out

    def _output(self, stream: Tensor) -> Tensor:
        batch, height, width, _ = stream.shape
        shape = (batch, height // self._stride, width // self._stride, self._outputs)
        return torch.empty(shape, dtype=torch.float32, device=self._device)

    def _strips(self, stream: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows of the output and their sums, clamp(v 2^-pre_shift), not yet rounded."""
        batch, height, width, channels = stream.shape
        most = STRIP_VALUES[self._device.type] // (batch * width * channels)
        step = max(1, most // self._stride) * self._stride
        for top in range(0, height, step):
            bottom = min(height, top + step)
            first, last = max(0, top - self._padding), min(height, bottom + self._padding)
            border = self._padding - (top - first), self._padding - (last - bottom)
            rows = slice(top // self._stride, bottom // self._stride)
            yield rows, self._sums(stream[:, first:last], border)

    def _sums(self, stream: Tensor, border: tuple[int, int]) -> Tensor:
        """Return the sums of rows of a stream, with so many rows of border above and below."""
        bits = self._read(stream).view(torch.int32)
        if not self._wide:
            return self._sum(self._padded(bits, border))
        lower = self._lower(self._padded(bits, border)).round_()
        upper = torch.bitwise_right_shift(bits, 8, out=self._scratch.take("upper", bits.shape).view(torch.int32))
        v = self._sum(self._padded(upper, border, 8)).addcmul_(lower, self._scale)
        return v if self._sum_limit is None else v.clamp_(-self._sum_limit, self._sum_limit)

    def _read(self, stream: Tensor) -> Tensor:
        """Return q + ROUND."""
        q = torch.sub(stream, ROUND, out=self._scratch.take("q", stream.shape))
        if self._plain:
            torch.addcmul(self._zero, q, self._down, out=q)
        else:
            slope = self._scratch.take("slope", stream.shape)
            torch.addcmul(self._half, stream, self._down, out=slope)
            torch.clamp(slope, self._bottom, self._top, out=slope)
            torch.addcmul(self._zero, q, slope, out=q)
        return q.clamp_(0.0, self._limit).add_(ROUND)

    def _padded(self, bits: Tensor, border: tuple[int, int], shift: int = 0) -> Tensor:
        """Return the lowest byte of ``bits``, bordered by that of the zero point moved by ``shift``."""
        batch, height, width, channels = bits.shape
        above, below = border
        pad = self._padding
        shape = (batch, height + above + below, width + 2 * pad, channels)
        key = id(self), shift, above, below
        out = self._scratch.bordered.get(key)
        if out is None or out.shape != shape:
            # The border stays as it is for as long as pictures have this size.
            value = (self._zero.int() >> shift).to(torch.uint8)
            out = self._scratch.bordered[key] = value.expand(shape).contiguous()
        out[:, above : above + height, pad : pad + width] = bits
        return out


def _saturate(stream: Tensor) -> Tensor:
    return stream.clamp_(ROUND - STREAM_LIMIT, ROUND + STREAM_LIMIT)
