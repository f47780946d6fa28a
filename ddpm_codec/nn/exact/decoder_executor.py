"""The exact pixel decoder in torch: its trunk, and its masked network for all pixels of known pictures at once.

As in :mod:`ddpm_codec.nn.exact.executor`, what lies between convolutions is float32 [B, h, w, C] with integer values on which
every operation is exact. Sums of two-byte inputs need more than 24 bits, and are put together in float64.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.nn.exact.decoder_parameters import (
    FEATURE_SHIFT,
    FEATURE_ZERO,
    GATE_HALF,
    MEAN_LIMIT,
    RESIDUAL_SHIFT,
    RESIDUAL_ZERO,
    ExactPixelDecoder,
    GatedReading,
    is_masked_network,
)
from ddpm_codec.nn.exact.executor import CHUNK_PIXELS, ExactTrunk, round_shift, to_picture, unshuffle
from ddpm_codec.nn.exact.kernels import KERNELS, choose_kernels, shape_of
from ddpm_codec.nn.exact.layer import ROUND, STRIP_VALUES
from ddpm_codec.nn.exact.parameters import BYTE, MEAN_SHIFT, STREAM_LIMIT, T_LIMIT, Convolution
from ddpm_codec.nn.exact.windows import Window, plan_windows
from ddpm_codec.workers import Workers


class PixelDecoderExecutor:
    """An exact pixel decoder on a device.

    Args:
        parameters: checked.
        device: where to run.
        kernels: a key of KERNELS; None: the fastest that are exact here.
        compiled: whether to use compiled passes, on a CPU; None: where functions are compiled at all.
    """

    def __init__(
        self,
        parameters: ExactPixelDecoder,
        device: torch.device,
        kernels: str | None = None,
        *,
        compiled: bool | None = None,
    ) -> None:
        self.parameters, self.device = parameters, device
        self._evaluate = _evaluator(parameters, device, kernels, compiled)

    def trunk(self, picture: NDArray[np.int64], level: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Return what is known of pictures before their first pixel. Workers share them out, or parts of large ones.

        Args:
            picture: z_0, (grey - 127.5) 2**PICTURE_BITS, [B, 3, H, W], H and W multiples of 4.
            level: the crossing.

        Returns:
            (m_0 in 1/1024 grey levels around 127.5, [B, 3, H, W]; features [B, H, W, F]).
        """
        batch, _, height, width = picture.shape
        mean = np.empty((batch, 3, height, width), np.int32)
        features = np.empty((batch, height, width, self.parameters.config.features), np.uint8)

        def evaluate(window: Window) -> None:
            images, rows, columns = window
            m_0, q = self._evaluate.trunk(picture[images, :, rows.seen, columns.seen], level)
            mean[images, :, rows.wanted, columns.wanted] = m_0[..., rows.own, columns.own]
            features[images, rows.wanted, columns.wanted] = q[:, rows.own, columns.own]

        if batch:
            workers, reach = self._workers(), self.parameters.config.trunk.reach
            shape = batch, height, width
            workers.map(evaluate, plan_windows(shape, reach, workers, CHUNK_PIXELS[self.device.type]))
        return mean, features

    def sums(
        self, mean: NDArray[np.int32], features: NDArray[np.uint8], x_0: NDArray[np.uint8], level: int
    ) -> NDArray[np.int32]:
        """Return the sums of the masked network for all pixels at once, [B, h, w, 12]; each depends on earlier pixels only.

        Args:
            mean: m_0 of :meth:`trunk`, [B, 3, H, W], H >= h, W >= w.
            features: of :meth:`trunk`, [B, H, W, F].
            x_0: the tiles, [B, 3, h, w]; nothing outside them is seen.
            level: the crossing.
        """
        batch, _, height, width = x_0.shape
        out = np.empty((batch, height, width, 12), np.int32)

        def evaluate(part: slice) -> None:
            out[part] = self._evaluate.sums(mean[part], features[part], x_0[part], level)

        if batch:
            workers, most = self._workers(), CHUNK_PIXELS[self.device.type] // max(height * width, 1)
            workers.map(evaluate, workers.shares(batch, max(1, most)))
        return out

    def _workers(self) -> Workers:
        return Workers(1 if self.device.type == "cuda" else None)


class _Evaluator(Protocol):
    """How the numbers of some tiles are computed."""

    def trunk(self, picture: NDArray[np.int64], level: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]: ...

    def sums(
        self, mean: NDArray[np.int32], features: NDArray[np.uint8], x_0: NDArray[np.uint8], level: int
    ) -> NDArray[np.int32]: ...


def _evaluator(
    parameters: ExactPixelDecoder, device: torch.device, kernels: str | None, compiled: bool | None
) -> _Evaluator:
    if device.type == "cpu" and compiled is not False:
        # numba takes half a second to load, so it is where a network runs.
        from ddpm_codec.compilation import compiles
        from ddpm_codec.nn.exact.fused_decoder import FusedPixelDecoder

        if compiled or compiles():
            return FusedPixelDecoder(parameters, kernels)
    return _TorchPixelDecoder(parameters, device, kernels)


class _TorchPixelDecoder:
    """Evaluates tiles of a chunk in torch, on any device."""

    def __init__(self, parameters: ExactPixelDecoder, device: torch.device, kernels: str | None) -> None:
        self._device = device
        outer = {name: layer for name, layer in parameters.layers.items() if not is_masked_network(name)}
        multiplier = parameters.heads.picture_multiplier
        self._trunk = ExactTrunk(parameters.config.trunk, outer, multiplier, device, kernels)
        self._masked, self._reach = _MaskedNetwork(parameters, device, kernels), parameters.config.reach
        self._heads = {
            name: torch.from_numpy(values.astype(np.float64)).to(device)
            for name, values in vars(parameters.heads).items()
        }

    @torch.no_grad()
    def trunk(self, picture: NDArray[np.int64], level: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """See :meth:`PixelDecoderExecutor.trunk`."""
        # A caller's autocast would round the integers of matrix products.
        with torch.autocast(self._device.type, enabled=False):
            mean, features = self._trunk_of(torch.from_numpy(picture).to(self._device), level)
        return mean.to(torch.int32).cpu().numpy(), features.to(torch.uint8).cpu().numpy()

    @torch.no_grad()
    def sums(
        self, mean: NDArray[np.int32], features: NDArray[np.uint8], x_0: NDArray[np.uint8], level: int
    ) -> NDArray[np.int32]:
        """See :meth:`PixelDecoderExecutor.sums`."""
        height, width = x_0.shape[2:]
        mean, features = mean[..., :height, :width], features[:, :height, :width]
        with torch.autocast(self._device.type, enabled=False):
            m_0, q, tiles = (torch.from_numpy(values).to(self._device) for values in (mean, features, x_0))
            greys = tiles.double().mul_(1024.0).sub_(130560.0)
            residuals = self._read(greys - m_0, level).permute(0, 2, 3, 1).contiguous()
            return self._masked(q.contiguous(), residuals, self._steps(greys, m_0, level), level).cpu().numpy()

    def _read(self, distance: Tensor, level: int) -> Tensor:
        """Return q, float32, for distances in float64, which are overwritten."""
        read = round_shift(distance.mul_(self._heads["residual_multiplier"][level]), RESIDUAL_SHIFT)
        return read.clamp_(-RESIDUAL_ZERO, RESIDUAL_ZERO - 1).add_(RESIDUAL_ZERO).float()

    def _steps(self, greys: Tensor, mean: Tensor, level: int) -> Tensor:
        """Return q of the steps to all earlier pixels, [B, h, w, 3 seen]."""
        (batch, _, height, width), reach = greys.shape, self._reach
        border = reach // 2
        seen = reach**2 // 2
        out = torch.full(
            (batch, height, width, 3 * seen), float(RESIDUAL_ZERO), dtype=torch.float32, device=self._device
        )
        for place in range(seen):
            down, right = place // reach - border, place % reach - border
            own = slice(-down, None), slice(max(0, -right), max(0, width - max(0, right)))
            other = slice(0, max(0, height + down)), slice(max(0, right), max(0, width - max(0, -right)))
            distance = greys[:, :, other[0], other[1]] - mean[:, :, own[0], own[1]]
            out[:, own[0], own[1], 3 * place : 3 * place + 3] = self._read(distance, level).permute(0, 2, 3, 1)
        return out

    def _trunk_of(self, picture: Tensor, level: int) -> tuple[Tensor, Tensor]:
        heads = self._heads
        picture, outer = self._trunk(picture, level)
        v = self._trunk.layers["trunk_head"].sums(outer).double()
        skip = unshuffle(picture * heads["mean_skip"][level])
        mean = round_shift(torch.addcmul(skip, v[..., :12], heads["mean_multiplier"][level]), MEAN_SHIFT)
        features = round_shift(v[..., 12:] * heads["feature_multiplier"], FEATURE_SHIFT)
        features = features.add_(FEATURE_ZERO).clamp_(0.0, BYTE)
        return to_picture(mean).clamp(-MEAN_LIMIT, MEAN_LIMIT), to_picture(features).permute(0, 2, 3, 1)


class _MaskedNetwork:
    """The masked network on a device; it keeps nothing between calls, so that threads may share it."""

    def __init__(self, parameters: ExactPixelDecoder, device: torch.device, kernels: str | None) -> None:
        layers = {name: layer for name, layer in parameters.layers.items() if is_masked_network(name)}
        chosen = kernels or choose_kernels(device, layers.values())
        self._layers = {name: _MaskedLayer(layer, device, chosen) for name, layer in layers.items()}
        self._blocks = parameters.config.blocks

    def __call__(self, features: Tensor, residuals: Tensor, steps: Tensor, level: int) -> Tensor:
        """Return v, int32 [B, h, w, 12].

        Args:
            features: [B, h, w, F].
            residuals: with their zero point, [B, h, w, 3].
            steps: with their zero point, [B, h, w, 3 seen].
            level: the crossing.
        """
        stream = self._layers["feature_stem"].started(features, level)
        self._layers["masked_stem"].add_to(stream, residuals, level)
        self._layers["step_stem"].add_to(stream, steps, level)
        for index in range(self._blocks):
            seen = stream
            if index:
                masked = self._layers[f"blocks.{index}.masked"]
                seen = masked(masked.read(stream), level)
            gates, mix = self._layers[f"blocks.{index}.gates"], self._layers[f"blocks.{index}.mix"]
            mix.add_to(stream, mix.read(gates(gates.read(seen), level)), level)
        head = self._layers["parameter_head"]
        return head.sums(head.read(stream))


class _MaskedLayer:
    """One layer of the masked network: q of its input, sums, rescaling."""

    def __init__(self, layer: Convolution, device: torch.device, kernels: str) -> None:
        self._device, self._padding, self._outputs = device, layer.padding, len(layer.offset)
        reading, scale = layer.reading, layer.rescaling
        self._wide, self._limit = reading.wide, float(reading.limit)
        self._zeros = torch.from_numpy(reading.zero).to(device)
        self._half, self._top = self._vector(reading.half), self._vector(2 * reading.half)
        self._start, self._down = (
            self._vector(reading.zero << reading.shift),
            self._vector(np.ldexp(1.0, -reading.shift)),
        )
        self._before_gate = self._vector(np.ldexp(1.0, -reading.pre)) if isinstance(reading, GatedReading) else None
        pre_shift = np.zeros_like(layer.offset) if scale is None else scale.pre_shift
        self._pre = torch.from_numpy(np.ldexp(1.0, -pre_shift)).to(device)
        self._offset = torch.from_numpy(layer.offset.astype(np.float64)).to(device)
        self._head = scale is None
        weight = torch.from_numpy(layer.weight.astype(np.int8)).to(device)
        offset, shift = (torch.from_numpy(values.astype(np.int32)).to(device) for values in (layer.offset, pre_shift))
        nothing = torch.zeros_like(offset)
        if self._wide:
            offset, shift = nothing, nothing
        self._sum = KERNELS[kernels](weight, offset, shift, 1, shape_of(layer).limit)
        self._multiplier, self._bias = [], []
        if scale is not None:
            up = np.ldexp(1.0, -scale.shift)
            self._multiplier = [self._vector(row * up) for row in scale.multiplier]
            self._bias = [self._vector(row + ROUND) for row in scale.bias]

    def _vector(self, values: NDArray[np.generic]) -> Tensor:
        """Return values of at most 24 significant bits as float32, which holds them exactly."""
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self._device)

    def read(self, values: Tensor) -> Tensor:
        """Return q for a stream, for what ``masked`` gave, or for the two halves of what ``gates`` gave."""
        if self._before_gate is not None:
            u, gate = values.chunk(2, dim=-1)
            product = self._swish(u).mul_(self._before_gate).round_()
            product.mul_((gate + GATE_HALF).clamp_(0.0, 2.0 * GATE_HALF))
        elif self._top.any():
            product = self._swish(values)
        else:
            product = values
        return torch.add(self._start, product).mul_(self._down).round_().clamp_(0.0, self._limit)

    def _swish(self, values: Tensor) -> Tensor:
        slope = torch.minimum((values + self._half).clamp_min_(0.0), self._top)
        return slope.mul_(values)

    def __call__(self, q: Tensor, level: int) -> Tensor:
        """Return y for q [B, h, w, C]."""
        row = level if len(self._multiplier) > 1 else 0
        out = self._empty(q, torch.float32)
        for rows, t in self._strips(q):
            torch.addcmul(self._bias[row], t, self._multiplier[row], out=out[:, rows]).sub_(ROUND)
        return out

    def started(self, q: Tensor, level: int) -> Tensor:
        """Return the stream that starts with y."""
        return self(q, level).clamp_(-STREAM_LIMIT, STREAM_LIMIT)

    def add_to(self, stream: Tensor, q: Tensor, level: int) -> None:
        """Add y, without bias, to a stream, in place."""
        multiplier = self._multiplier[level if len(self._multiplier) > 1 else 0]
        for rows, t in self._strips(q):
            part = stream[:, rows]
            part.add_(ROUND).addcmul_(t, multiplier).sub_(ROUND).clamp_(-STREAM_LIMIT, STREAM_LIMIT)

    def sums(self, q: Tensor) -> Tensor:
        """Return v, int32, of a head."""
        out = self._empty(q, torch.int32)
        for rows, v in self._strips(q):
            out[:, rows] = v
        return out

    def _empty(self, q: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.empty((*q.shape[:3], self._outputs), dtype=dtype, device=self._device)

    def _strips(self, q: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and their t; of a head, v."""
        batch, height, width, channels = q.shape
        step = max(1, STRIP_VALUES[self._device.type] // max(1, batch * width * max(channels, self._outputs)))
        for top in range(0, height, step):
            bottom = min(height, top + step)
            first, last = max(0, top - self._padding), min(height, bottom + self._padding)
            border = self._padding - (top - first), self._padding - (last - bottom)
            yield slice(top, bottom), self._rounded_sums(q[:, first:last], border)

    def _rounded_sums(self, q: Tensor, border: tuple[int, int]) -> Tensor:
        if not self._wide:
            return self._sum(self._padded(q.to(torch.uint8), self._zeros, border)).round_()
        both = q.to(torch.int32)
        upper, lower = (
            self._sum(self._padded((both >> shift).to(torch.uint8), self._zeros >> shift, border)) for shift in (8, 0)
        )
        v = lower.double().add_(upper.double(), alpha=256.0).add_(self._offset)
        return v if self._head else v.mul_(self._pre).round_().clamp_(-T_LIMIT, T_LIMIT).float()

    def _padded(self, q: Tensor, zero: Tensor, border: tuple[int, int]) -> Tensor:
        """Return bytes bordered by those of the zero point."""
        if not self._padding:
            return q
        batch, height, width, channels = q.shape
        above, below = border
        shape = (batch, height + above + below, width + 2 * self._padding, channels)
        out = (zero & BYTE).to(torch.uint8).expand(shape).contiguous()
        out[:, above : above + height, self._padding : self._padding + width] = q
        return out
