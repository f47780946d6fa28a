"""The exact network on a CPU, convolutions in torch and all between them in compiled passes.

Streams are int16 [N, h, w, C]. The bytes that a layer reads are written by the pass after the layer before it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.codec_net import CodecNetConfig
from ddpm_codec.nn.exact import ends, passes
from ddpm_codec.nn.exact.fused_layer import Bytes, FusedLayer, Memory, MemoryPool, Read
from ddpm_codec.nn.exact.kernels import choose_kernels
from ddpm_codec.nn.exact.parameters import Array, Convolution, ExactParameters
from ddpm_codec.nn.exact.passes import ADD, PASS_ON, SET

_NO_SUMS = np.empty((0, 0, 0), np.float32)
_NO_BYTES = np.empty((0, 0, 0), np.uint8)
_NO_STREAM = np.empty((0, 0, 0), np.int16)

Stream = NDArray[np.int16]


class FusedTrunk:
    """The layers under the heads, and whatever layers read their output.

    Args:
        config: widths and depths.
        layers: by name, checked; those of a trunk and others that read a stream.
        picture_multiplier: of the noisy picture before the stem, per level.
        kernels: a key of KERNELS; None: the fastest that are exact here.
    """

    def __init__(
        self,
        config: CodecNetConfig,
        layers: Mapping[str, Convolution],
        picture_multiplier: Array,
        kernels: str | None = None,
    ) -> None:
        split = split_up(layers)
        self.kernels = kernels or choose_kernels(torch.device("cpu"), split.values())
        self.layers = {name: FusedLayer(layer, self.kernels) for name, layer in split.items()}
        self._config, self._picture_multiplier = config, picture_multiplier

    def __call__(self, picture: Array, level: int, memory: Memory, head: str) -> tuple[Stream, Read]:
        """Apply the trunk to a picture int64 [B, 3, H, W], which is clamped in place.

        Args:
            picture: (grey - 127.5) 2**PICTURE_BITS.
            level: row of the tables.
            memory: where all that is returned lies.
            head: a layer that reads the outer stream.

        Returns:
            (outer stream [B, H/2, W/2, C], what ``head`` reads of it).
        """
        config, way = self._config, Way(self.layers, level, memory)
        images, height, width = len(picture), picture.shape[2] // 2, picture.shape[3] // 2
        read = way.bytes_for("stem", images, height, width)
        ends.read_picture(picture, int(self._picture_multiplier[level]), *read)
        outer: Stream = memory.take("outer", (images, height, width, config.width), np.int16)
        inner: Stream = memory.take("inner", (images, height // 2, width // 2, config.mid_width), np.int16)
        before = [f"before.{index}" for index in range(config.outer_blocks)]
        middle = [f"middle.{index}" for index in range(config.mid_blocks)]
        after = [f"after.{index}" for index in range(config.outer_blocks)]
        read = way.through("stem", read, outer, SET, _entry(before, "down"))
        read = way.blocks(before, read, outer, "down")
        read = way.through("down", read, inner, SET, _entry(middle, "up.0"))
        read = way.blocks(middle, read, inner, "up.0")
        read = way.up(read, outer, _entry(after, head))
        return outer, way.blocks(after, read, outer, head)

    def read(self, name: str, stream: Stream, memory: Memory) -> Read:
        """Return what a layer reads of a stream."""
        way, layer = Way(self.layers, 0, memory), self.layers[name]
        read = way.bytes_for(name, *stream.shape[:3])
        passes.read_stream(_flat(stream), layer.reading, layer.limit, *way.places(name, read))
        return read

    def pass_on(self, name: str, read: Read, level: int, memory: Memory, then: str) -> Read:
        """Return what the layer ``then`` reads of y of a layer."""
        return Way(self.layers, level, memory).through(name, read, None, PASS_ON, then)


class FusedExecutor:
    """An exact network on the CPU. Several threads may use it.

    Args:
        parameters: checked.
        kernels: a key of KERNELS; None: the fastest that are exact here.
    """

    def __init__(self, parameters: ExactParameters, kernels: str | None = None) -> None:
        self._heads, self.config = parameters.heads, parameters.config
        heads = parameters.heads
        self._trunk = FusedTrunk(parameters.config, parameters.layers, heads.picture_multiplier, kernels)
        self.kernels, self.device, self._memory = self._trunk.kernels, torch.device("cpu"), MemoryPool()

    @torch.no_grad()
    def integers(
        self, picture: Array, level: int, *, pixels: bool, coefficients: bool
    ) -> tuple[Array, NDArray[np.int16] | None, NDArray[np.int16] | None]:
        """See :meth:`ddpm_codec.nn.exact.executor.ExactExecutor.integers`."""
        # A caller's autocast would round the integers of matrix products.
        with torch.autocast("cpu", enabled=False), self._memory.borrow() as memory:
            picture = np.array(picture, np.int64, order="C")
            heads, trunk = self._heads, self._trunk
            skip, base = int(heads.mean_skip[level]), int(heads.index_base[level])
            outer, read = trunk(picture, level, memory, "pixel_head")
            head = trunk.layers["pixel_head"]
            mean, of_pixels = np.empty_like(picture), np.empty(picture.shape, np.int16) if pixels else None
            for strip in head.strips(read):
                place, v = (strip.image, strip.row), head.sums(strip)
                ends.write_mean(v, picture, skip, heads.mean_multiplier[level], place, mean)
                if of_pixels is not None:
                    ends.write_pixel_index(v, heads.pixel_multiplier, base, place, of_pixels)
            of_coefficients = self._coefficients(outer, level, memory) if coefficients else None
        return mean, of_pixels, of_coefficients

    def _coefficients(self, outer: Stream, level: int, memory: Memory) -> NDArray[np.int16]:
        heads, trunk = self._heads, self._trunk
        base, bias = int(heads.index_base[level]), heads.coefficient_bias[level]
        read = trunk.read("variance_first", outer, memory)
        read = trunk.pass_on("variance_first", read, level, memory, "variance_second")
        images, height, width, _ = read.upper.shape
        index = np.empty((images, len(heads.coefficient_multiplier), height, width), np.int16)
        head = trunk.layers["variance_second"]
        for strip in head.strips(read):
            place, v = (strip.image, strip.row), head.sums(strip)
            ends.write_coefficient_index(v, heads.coefficient_multiplier, bias, base, place, index)
        return index


def split_up(layers: Mapping[str, Convolution]) -> dict[str, Convolution]:
    """Return the layers with ``up`` as two, one for even and one for odd rows of the outer stream.

    Outputs of ``up`` are ordered (channel, row, column); those of its halves (column, channel), which is a row of the stream.
    """
    found = dict(layers)
    up = found.pop("up")
    scale = up.rescaling
    if scale is None:
        raise ValueError("up has no rescaling")
    order = np.arange(len(up.offset)).reshape(-1, 2, 2).transpose(1, 2, 0)
    for row in range(2):
        of = order[row].ravel()
        rescaling = type(scale)(scale.pre_shift[of], scale.multiplier[:, of], scale.bias[:, of], scale.shift[of])
        found[f"up.{row}"] = type(up)(up.weight[of], up.offset[of], up.stride, up.reading, rescaling)
    return found


def _entry(blocks: list[str], then: str) -> str:
    """Return the layer that reads first: of the first block, or, without blocks, ``then``."""
    return f"{blocks[0]}.first" if blocks else then


class Way:
    """One evaluation on its way through the layers."""

    def __init__(self, layers: dict[str, FusedLayer], level: int, memory: Memory) -> None:
        self._layers, self._level, self._memory = layers, level, memory
        self._turn = 0

    def blocks(self, names: list[str], read: Read, stream: Stream, then: str) -> Read:
        """Go through residual blocks."""
        for index, name in enumerate(names):
            read = self.through(f"{name}.first", read, None, PASS_ON, f"{name}.second")
            read = self.through(f"{name}.second", read, stream, ADD, _entry(names[index + 1 :], then))
        return read

    def up(self, read: Read, stream: Stream, then: str) -> Read:
        """Go up to a stream of twice the height and width, and add to it."""
        out = self.bytes_for(then, *stream.shape[:3])
        for row in range(2):
            self._pass(f"up.{row}", read, stream, ADD, then, out, (row, 2))
        return out

    def through(self, name: str, read: Read, stream: Stream | None, mode: int, then: str) -> Read:
        """Go through one layer, and return what the next one reads."""
        layer, border = self._layers[name], 2 * self._layers[name].padding
        images, height, width, _ = read.upper.shape
        out = self.bytes_for(then, images, (height - border) // layer.stride, (width - border) // layer.stride)
        self._pass(name, read, stream, mode, then, out, (0, 1))
        return out

    def into(self, stream: Stream, name: str, read: Read, mode: int) -> None:
        """Go through a layer whose y becomes the stream, or is added to it; nothing reads it yet."""
        self._pass(name, read, stream, mode, None, Read(_NO_BYTES, _NO_BYTES), (0, 1))

    def _pass(
        self,
        name: str,
        read: Read,
        stream: Stream | None,
        mode: int,
        then: str | None,
        out: Read,
        rows: tuple[int, int],
    ) -> None:
        layer = self._layers[name]
        following = layer if then is None else self._layers[then]
        places = (_NO_BYTES, _NO_BYTES, (0, 0)) if then is None else self.places(then, out)
        table, ways = layer.table(self._level), (mode, layer.join, following.gated if then else 0)
        of_stream = _NO_STREAM if stream is None else _flat(stream)
        for strip in layer.strips(read):
            place = strip.image, rows[0] + rows[1] * strip.row, rows[1]
            lower = _NO_SUMS if strip.lower is None else _flat(strip.lower)
            sums = _flat(strip.sums)
            passes.pass_on(sums, lower, table, of_stream, ways, place, following.reading, following.limit, *places)

    def bytes_for(self, name: str, images: int, height: int, width: int) -> Read:
        """Return memory for what a layer reads, with its border, beside that of the layer before it."""
        layer = self._layers[name]
        border, channels = 2 * layer.padding, len(layer.zero)
        shape = images, height + border, width + border, channels
        self._turn ^= 1
        found = []
        for part, shift, wanted in (("upper", 8 if layer.wide else 0, True), ("lower", 0, layer.wide)):
            if not wanted:
                found.append(_NO_BYTES)
                continue
            q = self._memory.take(f"{part} {self._turn}", shape, np.uint8)
            passes.fill_border(q, (layer.zero >> shift).astype(np.uint8), layer.padding)
            found.append(q)
        return Read(*found)

    def places(self, name: str, read: Read) -> tuple[Bytes, Bytes, tuple[int, int]]:
        """Return where a pass writes what a layer reads."""
        layer = self._layers[name]
        lower = _flat(read.lower) if layer.wide else _NO_BYTES
        return _flat(read.upper), lower, (layer.padding, layer.padding * len(layer.zero))


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(*values.shape[:2], -1)
