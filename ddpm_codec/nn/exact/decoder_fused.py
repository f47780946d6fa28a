"""The exact pixel decoder on a CPU, convolutions in torch and all between them in compiled passes."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.exact import decoder_passes, passes
from ddpm_codec.nn.exact.decoder_parameters import (
    MEAN_LIMIT,
    OUTPUTS,
    ExactPixelDecoder,
    GatedReading,
    is_masked_network,
)
from ddpm_codec.nn.exact.fused import NO_BYTES, FusedTrunk, Way, flat
from ddpm_codec.nn.exact.fused_layer import FusedLayer, MemoryPool, Read, Strip
from ddpm_codec.nn.exact.kernels import KERNELS, choose_kernels, shape_of
from ddpm_codec.nn.exact.parameters import Array, Convolution
from ddpm_codec.nn.exact.passes import ADD, PASS_ON, SET

Integers = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_NO_SUMS = np.empty((0, 0, 0), np.float32)
_NO_LOWER = np.empty((0, 0, 0, 0), np.uint8)


class FusedPixelDecoder:
    """An exact pixel decoder on the CPU. Several threads may use it.

    Args:
        parameters: checked.
        kernels: a key of KERNELS; None: the fastest that are exact here.
    """

    def __init__(self, parameters: ExactPixelDecoder, kernels: str | None = None) -> None:
        self._heads, self._config = parameters.heads, parameters.config
        outer = {name: layer for name, layer in parameters.layers.items() if not is_masked_network(name)}
        self._trunk = FusedTrunk(parameters.config.trunk, outer, parameters.heads.picture_multiplier, kernels)
        masked = {name: layer for name, layer in parameters.layers.items() if is_masked_network(name)}
        chosen = kernels or choose_kernels(torch.device("cpu"), masked.values())
        self._layers = {name: _MaskedLayer(layer, chosen) for name, layer in masked.items()}
        self._memory = MemoryPool()

    def trunk(self, picture: Array, level: int) -> tuple[Integers, Bytes]:
        """See :meth:`ddpm_codec.nn.exact.decoder_executor.PixelDecoderExecutor.trunk`."""
        heads, trunk = self._heads, self._trunk
        picture = np.array(picture, np.int64, order="C")
        images, _, height, width = picture.shape
        mean = np.empty_like(picture)
        features = np.empty((images, height, width, self._config.features), np.uint8)
        with self._memory.borrow() as memory:
            _, read = trunk(picture, level, memory, "trunk_head")
            for strip in trunk.layers["trunk_head"].strips(read):
                place, v = (strip.image, strip.row), strip.whole()
                passes.write_mean(v, picture, int(heads.mean_skip[level]), heads.mean_multiplier[level], place, mean)
                decoder_passes.write_features(v, heads.feature_multiplier, place, features)
        return np.clip(mean, -MEAN_LIMIT, MEAN_LIMIT, out=mean).astype(np.int32), features

    def sums(self, mean: Integers, features: Bytes, x_0: Bytes, level: int) -> Integers:
        """See :meth:`ddpm_codec.nn.exact.decoder_executor.PixelDecoderExecutor.sums`; sizes are those of x_0."""
        images, _, height, width = x_0.shape
        size, layers = (images, height, width), self._layers
        with self._memory.borrow() as memory:
            way = Way(layers, level, memory)
            stream = memory.take("masked", (*size, self._config.channels), np.int16)
            self._start(np.ascontiguousarray(features), level, stream)
            read = way.bytes_for("masked_stem", *size)
            multiplier, border = int(self._heads.residual_multiplier[level]), layers["masked_stem"].padding
            # Functions are compiled for each layout that they meet; so they meet one.
            tiles, m_0 = np.ascontiguousarray(x_0), np.ascontiguousarray(mean)
            decoder_passes.read_residuals(tiles, m_0, multiplier, border, *read)
            read = way.through("masked_stem", read, stream, ADD, "blocks.0.gates")
            for index in range(self._config.blocks):
                gates, mix = f"blocks.{index}.gates", f"blocks.{index}.mix"
                if index:
                    read = way.through(f"blocks.{index}.masked", read, None, PASS_ON, gates)
                out = way.bytes_for(mix, *size)
                self._gates(gates, mix, read, level, out)
                last = index + 1 == self._config.blocks
                read = way.through(mix, out, stream, ADD, "parameter_head" if last else f"blocks.{index + 1}.masked")
            v = np.empty((*size, OUTPUTS), np.int32)
            for strip in layers["parameter_head"].strips(read):
                n, rows = strip.sums.shape[:2]
                v[strip.image : strip.image + n, strip.row : strip.row + rows] = strip.sums
        return v

    def _start(self, features: Bytes, level: int, stream: NDArray[np.int16]) -> None:
        layer = self._layers["feature_stem"]
        for strip in layer.strips(Read(features, NO_BYTES)):
            place, nothing = (strip.image, strip.row, 1), (NO_BYTES, NO_BYTES, (0, 0))
            table, reading = layer.table(level), layer.reading
            passes.pass_on(flat(strip.sums), _NO_SUMS, table, flat(stream), SET, place, reading, layer.limit, *nothing)

    def _gates(self, gates: str, mix: str, read: Read, level: int, out: Read) -> None:
        layer, reader = self._layers[gates], self._layers[mix]
        lower = out.lower if reader.wide else _NO_LOWER
        for strip in layer.strips(read):
            place, table = (strip.image, strip.row), layer.table(level)
            decoder_passes.read_gates(strip.sums, table, reader.gated, reader.limit, place, out.upper, lower)


class _MaskedLayer(FusedLayer):
    """A layer of the masked network: its wide inputs are summed as they are."""

    def __init__(self, layer: Convolution, kernels: str) -> None:
        super().__init__(layer, kernels)
        reading, scale = layer.reading, layer.rescaling
        self._head = scale is None
        if isinstance(reading, GatedReading):
            rows = (reading.zero << reading.shift, np.ldexp(1.0, -reading.shift), reading.half, 2 * reading.half)
            self.gated = np.stack([*rows, np.ldexp(1.0, -reading.pre)]).astype(np.float32)
        if self.wide:
            weight, nothing = (
                torch.from_numpy(layer.weight.astype(np.int8)),
                torch.zeros(self.outputs, dtype=torch.int32),
            )
            self.sum = self.sum_lower = KERNELS[kernels](weight, nothing, nothing, layer.stride, shape_of(layer).limit)
            self._offset = layer.offset.astype(np.float64)
            self._down = np.ones(self.outputs) if scale is None else np.ldexp(1.0, -scale.pre_shift)

    def strips(self, read: Read) -> Iterator[Strip]:
        """Yield t, before it is rounded or after; of a head, v."""
        for strip in super().strips(read):
            if strip.lower is None:
                yield strip
            elif self._head:
                v = 256.0 * strip.sums.astype(np.float64) + strip.lower + self._offset
                yield Strip(strip.image, strip.row, v, None)
            else:
                t = strip.sums if strip.sums.flags.writeable else strip.sums.copy()
                decoder_passes.join_sums(t, strip.lower, self._offset, self._down)
                yield Strip(strip.image, strip.row, t, None)
