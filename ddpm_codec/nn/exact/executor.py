"""The exact network in torch: integers held in float32 and float64, where every operation on them is exact.

Streams and everything between convolutions are float32 [B, h, w, C] with integer values below 2^24, so that a product, a
sum, a fused multiply-add or a power of two gives the same number on any device; rounding is to even. Only the heads take
float64. Tests compare it with an implementation in int64.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ddpm_codec.nn.exact.kernels import KERNELS, Shape, first_exact, pick_kernels, power_of_half
from ddpm_codec.nn.exact.parameters import (
    COEFFICIENT_INDEX_RANGE,
    INDEX_SHIFT,
    MEAN_SHIFT,
    PICTURE_REACH,
    PICTURE_SHIFT,
    PIXEL_INDEX_RANGE,
    STREAM_LIMIT,
    T_LIMIT,
    Array,
    Convolution,
    ExactParameters,
)
from ddpm_codec.nn.integer import LOG_VAR_INDICES, IntegerPrediction

CHUNK_PIXELS = {"cpu": 1 << 16, "cuda": 1 << 22}
"""Pixels that go through the network at once: on a CPU as many as its caches like."""

STRIP_VALUES = {"cpu": 1 << 19, "cuda": 1 << 40}
"""Values of a stream that go through a layer at once: between its operations they stay in the cache."""

_ROUND = 1.5 * 2.0**23
"""Added to a float32 below 2^22, this rounds it half to even and leaves the integer in the low bits. Streams hold s + _ROUND,
so that adding to them rounds by itself."""


class _Scratch:
    """Reused memory: fresh pages cost more than the arithmetic on them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._slots: dict[str, Tensor] = {}

    def take(self, slot: str, shape: torch.Size) -> Tensor:
        """Return float32 memory of a shape; whoever takes the same slot next writes over it."""
        count = shape.numel()
        memory = self._slots.get(slot)
        if memory is None or memory.numel() < count:
            memory = self._slots[slot] = torch.empty(count, dtype=torch.float32, device=self._device)
        return memory[:count].view(shape)


class _Layer:
    """One convolution on a device: reads a stream, sums, rescales. Streams come and go with _ROUND added."""

    def __init__(self, layer: Convolution, device: torch.device, kernels: str, scratch: _Scratch) -> None:
        self._device, self._padding, self._scratch = device, layer.padding, scratch
        self._stride, self._outputs = layer.stride, len(layer.offset)
        reading = layer.reading
        self._wide, self._limit = reading.wide, float(reading.limit)
        down = np.ldexp(1.0, -reading.shift)
        self._zero, self._down = self._vector(reading.zero), self._vector(down)
        self._plain = not reading.half.any()
        self._half, self._top = self._vector((reading.half - _ROUND) * down), self._vector(2 * reading.half * down)
        self._bottom = torch.zeros_like(self._top)
        weight = torch.from_numpy(layer.weight.astype(np.int8)).to(device)
        offset = torch.from_numpy(layer.offset.astype(np.int32)).to(device)
        scale = layer.rescaling
        pre_shift = torch.from_numpy(
            (np.zeros_like(layer.offset) if scale is None else scale.pre_shift).astype(np.int32)
        )
        pre_shift = pre_shift.to(device)
        make = KERNELS[kernels]
        self._sum = make(weight, offset, pre_shift, layer.stride, _shape(layer).limit)
        if self._wide:
            eight = torch.full_like(pre_shift, 8)
            self._lower = make(weight, torch.zeros_like(offset), eight, layer.stride, None)
            self._scale, self._sum_limit = power_of_half(pre_shift), None if scale is None else float(T_LIMIT)
        self._bytes: dict[tuple[int, int, int], Tensor] = {}
        self._multiplier: list[Tensor] = []
        self._bias: list[Tensor] = []
        if scale is not None:
            up = np.ldexp(1.0, -scale.shift)
            self._multiplier = [self._vector(row * up) for row in scale.multiplier]
            self._bias = [self._vector(row + _ROUND) for row in scale.bias]

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
        """Return q + _ROUND."""
        q = torch.sub(stream, _ROUND, out=self._scratch.take("q", stream.shape))
        if self._plain:
            torch.addcmul(self._zero, q, self._down, out=q)
        else:
            slope = self._scratch.take("slope", stream.shape)
            torch.addcmul(self._half, stream, self._down, out=slope)
            torch.clamp(slope, self._bottom, self._top, out=slope)
            torch.addcmul(self._zero, q, slope, out=q)
        return q.clamp_(0.0, self._limit).add_(_ROUND)

    def _padded(self, bits: Tensor, border: tuple[int, int], shift: int = 0) -> Tensor:
        """Return the lowest byte of ``bits``, bordered by that of the zero point moved by ``shift``."""
        batch, height, width, channels = bits.shape
        above, below = border
        pad = self._padding
        shape = (batch, height + above + below, width + 2 * pad, channels)
        out = self._bytes.get((shift, above, below))
        if out is None or out.shape != shape:
            # The border stays as it is for as long as pictures have this size.
            value = (self._zero.int() >> shift).to(torch.uint8)
            out = self._bytes[shift, above, below] = value.expand(shape).contiguous()
        out[:, above : above + height, pad : pad + width] = bits
        return out


class ExactExecutor:
    """An exact network on a device.

    Args:
        parameters: checked.
        device: where to run.
        kernels: a key of KERNELS; None: the fastest that are exact here.
    """

    def __init__(self, parameters: ExactParameters, device: torch.device, kernels: str | None = None) -> None:
        shapes = {_shape(layer) for layer in parameters.layers.values()}
        self.kernels = kernels or first_exact(pick_kernels(device), device, shapes)
        self.device = device
        self._config = parameters.config
        scratch = _Scratch(device)
        self._layers = {
            name: _Layer(_reordered(name, layer), device, self.kernels, scratch)
            for name, layer in parameters.layers.items()
        }
        self._heads = {
            name: torch.from_numpy(values.astype(np.float64)).to(device)
            for name, values in vars(parameters.heads).items()
        }

    @torch.no_grad()
    def predict(
        self, picture: Tensor, level: int, *, pixels: bool, coefficients: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Apply the network to a picture int64 [B, 3, H, W].

        Args:
            picture: (grey - 127.5) 2**PICTURE_BITS.
            level: row of the tables.
            pixels: whether the variance indices of sub-pixels are wanted.
            coefficients: whether those of coefficients are.

        Returns:
            (mean [B, 3, H, W], variance index of sub-pixels [B, 3, H, W], of coefficients [B, D, H/8, W/8]), float64.
        """
        # A caller's autocast would round the integers of matrix products.
        with torch.autocast(self.device.type, enabled=False):
            return self._evaluate(picture, level, pixels, coefficients)

    def _evaluate(
        self, picture: Tensor, level: int, pixels: bool, coefficients: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        picture, outer = self._body(picture, level)
        heads, base = self._heads, self._heads["index_base"][level]
        v = self._layers["pixel_head"].sums(outer).double()
        skip = _unshuffle(picture * heads["mean_skip"][level])
        mean = torch.addcmul(skip, v[..., :12], heads["mean_multiplier"][level])
        of_pixels = of_coefficients = None
        if pixels:
            index = _round_shift(v[..., 12:] * heads["pixel_multiplier"], INDEX_SHIFT).clamp_(*PIXEL_INDEX_RANGE)
            of_pixels = _to_picture(index.add_(base).clamp_(0, LOG_VAR_INDICES - 1))
        if coefficients:
            sums = self._layers["variance_second"].sums(self._layers["variance_first"](outer, level)).double()
            logs = torch.addcmul(heads["coefficient_bias"][level], sums, heads["coefficient_multiplier"])
            index = _round_shift(logs, INDEX_SHIFT).clamp_(*COEFFICIENT_INDEX_RANGE)
            of_coefficients = index.add_(base).clamp_(0, LOG_VAR_INDICES - 1).permute(0, 3, 1, 2)
        return _to_picture(_round_shift(mean, MEAN_SHIFT)), of_pixels, of_coefficients

    def _body(self, picture: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Return (the clamped picture in float64, the outer stream)."""
        picture = picture.clamp(-PICTURE_REACH, PICTURE_REACH).double()
        scaled = _round_shift(picture * self._heads["picture_multiplier"][level], PICTURE_SHIFT)
        # The stem reads 16 bits; clamped a little beyond, float32 holds all that matters.
        read = _unshuffle(scaled.clamp_(-65536.0, 65536.0).add_(_ROUND).float())
        outer = self._layers["stem"](read, level, saturate=True)
        for index in range(self._config.outer_blocks):
            outer = self._block(f"before.{index}", outer, level)
        inner = self._layers["down"](outer, level, saturate=True)
        for index in range(self._config.mid_blocks):
            inner = self._block(f"middle.{index}", inner, level)
        batch, height, width, _ = inner.shape
        # Outputs of `up` are ordered (row, column, channel), see _reordered: a spread-out pixel is a view.
        spread = outer.view(batch, height, 2, width, 2, -1).transpose(2, 3)
        gathered = spread.reshape(batch, height, width, -1)
        self._layers["up"].add_to(gathered, inner, level)
        spread.copy_(gathered.view(spread.shape))
        for index in range(self._config.outer_blocks):
            outer = self._block(f"after.{index}", outer, level)
        return picture, outer

    def _block(self, name: str, stream: Tensor, level: int) -> Tensor:
        inner = self._layers[f"{name}.first"](stream, level)
        return self._layers[f"{name}.second"].add_to(stream, inner, level)


class ExactDenoiser:
    """An :class:`~ddpm_codec.nn.integer.IntegerDenoiser`: an exact network over the levels of one chain.

    Args:
        executor: the network.
        rows: its level for each level of the chain from ``first`` on, cleanest first.
        first: level of the chain below which a pixel decoder takes over: there is nothing to ask for.
    """

    def __init__(self, executor: ExactExecutor, rows: tuple[int, ...], first: int = 0) -> None:
        self._executor, self._rows = executor, dict(enumerate(rows, first))

    def coefficients(self, picture: Array, level: int) -> IntegerPrediction:
        """See :class:`~ddpm_codec.nn.integer.IntegerDenoiser`."""
        mean, _, index = self._predict(picture, level, pixels=False, coefficients=True)
        return IntegerPrediction(mean, index)

    def pixels(self, picture: Array, level: int) -> IntegerPrediction:
        """See :class:`~ddpm_codec.nn.integer.IntegerDenoiser`."""
        mean, index, _ = self._predict(picture, level, pixels=True, coefficients=False)
        return IntegerPrediction(mean, index)

    def both(self, picture: Array, level: int) -> tuple[IntegerPrediction, IntegerPrediction]:
        """Return what :meth:`pixels` and :meth:`coefficients` do, for hardly more than one of them."""
        mean, pixels, coefficients = self._predict(picture, level, pixels=True, coefficients=True)
        return IntegerPrediction(mean, pixels), IntegerPrediction(mean, coefficients)

    def _predict(
        self, picture: Array, level: int, *, pixels: bool, coefficients: bool
    ) -> tuple[Array, NDArray[np.int16], NDArray[np.int16]]:
        """Apply the network in chunks; what was not asked for is empty."""
        device, count = self._executor.device, len(picture)
        if not count:
            # Predictions of no pictures have the shapes of one.
            picture = np.zeros((1, *picture.shape[1:]), np.int64)
        size = max(1, CHUNK_PIXELS[device.type] // (picture.shape[2] * picture.shape[3]))
        parts: tuple[list[Tensor], ...] = ([], [], [])
        for start in range(0, len(picture), size):
            chunk = torch.from_numpy(picture[start : start + size]).to(device)
            found = self._executor.predict(chunk, self._rows[level], pixels=pixels, coefficients=coefficients)
            for part, values, dtype in zip(parts, found, (torch.int64, torch.int16, torch.int16), strict=True):
                part.append(torch.empty(0, dtype=dtype) if values is None else values.to(dtype).cpu())
        mean, of_pixels, of_coefficients = (torch.cat(part).numpy()[:count] for part in parts)
        return mean, of_pixels, of_coefficients


def _shape(layer: Convolution) -> Shape:
    """Return what kernels see of a layer; where two sums make one, the limit is that of the whole."""
    limit = None if layer.reading.wide or layer.rescaling is None else float(T_LIMIT)
    outputs, channels, side, _ = layer.weight.shape
    return Shape(outputs, channels, side, layer.stride, limit)


def _reordered(name: str, layer: Convolution) -> Convolution:
    """Order the outputs of ``up`` by (row, column, channel), so that spreading its pixels out is a view."""
    if name != "up" or layer.rescaling is None:
        return layer
    channels = len(layer.offset) // 4
    order = np.arange(4 * channels).reshape(channels, 4).T.ravel()
    scale = layer.rescaling
    rescaling = type(scale)(
        scale.pre_shift[order], scale.multiplier[:, order], scale.bias[:, order], scale.shift[order]
    )
    return type(layer)(layer.weight[order], layer.offset[order], layer.stride, layer.reading, rescaling)


def _saturate(stream: Tensor) -> Tensor:
    return stream.clamp_(_ROUND - STREAM_LIMIT, _ROUND + STREAM_LIMIT)


def _round_shift(values: Tensor, shift: int) -> Tensor:
    """Return values / 2^shift rounded half to even; values are float64 integers below 2^53."""
    return torch.mul(values, 2.0**-shift).round_()


def _unshuffle(picture: Tensor) -> Tensor:
    return functional.pixel_unshuffle(picture, 2).permute(0, 2, 3, 1).contiguous()


def _to_picture(values: Tensor) -> Tensor:
    return functional.pixel_shuffle(values.permute(0, 3, 1, 2), 2)
