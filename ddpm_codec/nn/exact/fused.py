"""The exact network on a CPU, convolutions in torch and all between them in compiled passes.

Streams are int16 [N, h, w, C]. The bytes that a layer reads are written, inside a border of its zero points, by the pass after
the layer before it; no intermediate result is written otherwise. Layers hold no memory, so several threads may use them: each
evaluation works in a :class:`Memory` of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.exact import passes
from ddpm_codec.nn.exact.kernels import KERNELS, Shape, power_of_half
from ddpm_codec.nn.exact.parameters import T_LIMIT, Convolution, ExactParameters
from ddpm_codec.nn.exact.passes import ADD, CHUNK, PASS_ON, SET

STRIP_VALUES = 1 << 17
"""Sums at a time, about: they stay in the cache until the pass that reads them."""

_ROUND = 1.5 * 2.0**23
_NO_SUMS = np.empty((0, 0, 0), np.float32)
_NO_BYTES = np.empty((0, 0, 0), np.uint8)
_NO_STREAM = np.empty((0, 0, 0), np.int16)
_NO_READING = np.empty((5, 0), np.float32)

Bytes = NDArray[np.uint8]
Stream = NDArray[np.int16]
Floats = NDArray[np.float32]


class Memory:
    """Reused memory of one evaluation at a time: fresh pages cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self._slots: dict[str, NDArray[Any]] = {}

    def take(self, slot: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Return memory of a shape; whoever takes the same slot next writes over it."""
        count = int(np.prod(shape))
        found = self._slots.get(slot)
        if found is None or found.size < count:
            found = self._slots[slot] = np.empty(count, dtype)
        return found[:count].reshape(shape)


class MemoryPool:
    """Memories that evaluations borrow, as many as there have been at once."""

    def __init__(self) -> None:
        self._free: list[Memory] = []
        self._lock = Lock()

    @contextmanager
    def borrow(self) -> Iterator[Memory]:
        """Lend one to a block."""
        with self._lock:
            memory = self._free.pop() if self._free else Memory()
        try:
            yield memory
        finally:
            with self._lock:
                self._free.append(memory)


class Read(NamedTuple):
    """What a layer reads.

    Attributes:
        upper: bytes, or upper bytes, with their border, [N, h + 2 p, w + 2 p, C].
        lower: lower bytes of a two-byte input; otherwise empty.
    """

    upper: Bytes
    lower: Bytes


class Strip(NamedTuple):
    """Some of the sums of a layer.

    Attributes:
        image: number of the first image.
        row: number of the first row.
        sums: clamp(v 2^-pre_shift) or, of two-byte inputs, that of the upper bytes, not clamped, [n, h, w, O].
        lower: of two-byte inputs the sums of the lower bytes, times 2^-8; otherwise None.
    """

    image: int
    row: int
    sums: Floats
    lower: Floats | None

    def whole(self) -> Floats:
        """Return v of a layer without rescaling."""
        return self.sums if self.lower is None else self.sums + np.rint(self.lower)


class FusedLayer:
    """One convolution: its kernel, how it reads, and the tables of the pass after it.

    Args:
        layer: the convolution.
        kernels: a key of KERNELS.
    """

    def __init__(self, layer: Convolution, kernels: str) -> None:
        self.stride, self.padding, reading, scale = layer.stride, layer.padding, layer.reading, layer.rescaling
        self.wide, self.limit = reading.wide, float(reading.limit)
        down = np.ldexp(1.0, -reading.shift)
        half, low, top = reading.half * down, np.zeros_like(down), 2 * reading.half * down
        if not reading.half.any():
            # Read plainly: a slope that is always the same.
            half, low, top = np.zeros_like(down), down, down
        self.reading = _repeated(np.stack([reading.zero.astype(np.float64), down, half, low, top]), 2)
        self.zero = reading.zero
        weight = torch.from_numpy(layer.weight.astype(np.int8))
        offset = torch.from_numpy(layer.offset.astype(np.int32))
        pre_shift = np.zeros_like(layer.offset) if scale is None else scale.pre_shift
        shifts = torch.from_numpy(pre_shift.astype(np.int32))
        make = KERNELS[kernels]
        self.sum = make(weight, offset, shifts, layer.stride, shape_of(layer).limit)
        if self.wide:
            eight = torch.full_like(shifts, 8)
            self.sum_lower = make(weight, torch.zeros_like(offset), eight, layer.stride, None)
        self._scale = power_of_half(shifts).numpy().astype(np.float64)
        self._rescaling, self._tables = scale, dict[int, Floats]()

    def table(self, level: int) -> Floats:
        """Return multiplier 2^-shift, bias + 1.5 2^23 and 2^-pre_shift at a level, repeated, [3, CHUNK or so]."""
        found = self._tables.get(level)
        if found is None:
            scale = self._rescaling
            if scale is None:
                raise ValueError("a head has no rescaling")
            multiplier, bias = scale.at(level)
            rows = np.stack([multiplier * np.ldexp(1.0, -scale.shift), bias + _ROUND, self._scale])
            found = self._tables[level] = _repeated(rows, 1)
        return found

    def strips(self, read: Read) -> Iterator[Strip]:
        """Yield the sums, a few rows or images at a time."""
        images, height, width, channels = read.upper.shape
        rows, columns = (height - 2 * self.padding) // self.stride, (width - 2 * self.padding) // self.stride
        row_values = columns * channels * self.stride * self.stride
        at_once, step = max(1, STRIP_VALUES // (rows * row_values)), min(rows, max(1, STRIP_VALUES // row_values))
        for image in range(0, images, at_once):
            for row in range(0, rows, step):
                bottom = min(rows, row + step) * self.stride + 2 * self.padding
                part = slice(image, image + at_once), slice(row * self.stride, bottom)
                lower = _apply(self.sum_lower, read.lower[part]) if self.wide else None
                yield Strip(image, row, _apply(self.sum, read.upper[part]), lower)


def _apply(kernel: Any, q: Bytes) -> Floats:  # noqa: ANN401 - a kernel
    out: Floats = kernel(torch.from_numpy(q)).contiguous().numpy()
    return out


def _repeated(rows: NDArray[np.float64], least: int) -> Floats:
    """Repeat tables of C channels to CHUNK values or so, as whole binary32 numbers hold them exactly."""
    return np.tile(rows.astype(np.float32), max(least, CHUNK // rows.shape[1]))


def shape_of(layer: Convolution) -> Shape:
    """Return what kernels see of a layer; where two sums make one, the limit is that of the whole."""
    limit = None if layer.reading.wide or layer.rescaling is None else float(T_LIMIT)
    outputs, channels, side, _ = layer.weight.shape
    return Shape(outputs, channels, side, layer.stride, limit)


class FusedTrunk:
    """The layers of a network, up to the heads.

    Args:
        parameters: checked.
        kernels: a key of KERNELS.
    """

    def __init__(self, parameters: ExactParameters, kernels: str) -> None:
        self._config = parameters.config
        self.layers = {name: FusedLayer(layer, kernels) for name, layer in split_up(parameters.layers).items()}

    def run(self, read: Read, level: int, memory: Memory, head: str) -> tuple[Stream, Read]:
        """Return the outer stream and what ``head`` reads of it, for what the stem reads."""
        config, layers = self._config, self.layers
        images, height, width = (size - border for size, border in zip(read.upper.shape[:3], (0, 2, 2), strict=True))
        outer: Stream = memory.take("outer", (images, height, width, config.width), np.int16)
        inner: Stream = memory.take("inner", (images, height // 2, width // 2, config.mid_width), np.int16)
        before, middle, after = (
            [f"{part}.{index}" for index in range(count)]
            for part, count in (
                ("before", config.outer_blocks),
                ("middle", config.mid_blocks),
                ("after", config.outer_blocks),
            )
        )
        way = _Way(layers, level, memory)
        read = way.through("stem", read, outer, SET, _entry(before, "down"))
        read = way.blocks(before, read, outer, "down")
        read = way.through("down", read, inner, SET, _entry(middle, "up.0"))
        read = way.blocks(middle, read, inner, "up.0")
        read = way.up(read, outer, _entry(after, head))
        return outer, way.blocks(after, read, outer, head)

    def read(self, name: str, stream: Stream, memory: Memory) -> Read:
        """Return what a layer reads of a stream."""
        way = _Way(self.layers, 0, memory)
        read = way.bytes_for(name, *stream.shape[:3])
        layer = self.layers[name]
        passes.read_stream(_flat(stream), layer.reading, layer.limit, *way.places(name, read))
        return read

    def pass_on(self, name: str, read: Read, level: int, memory: Memory, then: str) -> Read:
        """Return what the next layer reads of y of a layer."""
        return _Way(self.layers, level, memory).through(name, read, None, PASS_ON, then)


def split_up(layers: dict[str, Convolution]) -> dict[str, Convolution]:
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


class _Way:
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
        size = (height - border) // layer.stride, (width - border) // layer.stride
        out = self.bytes_for(then, images, *size)
        self._pass(name, read, stream, mode, then, out, (0, 1))
        return out

    def _pass(
        self, name: str, read: Read, stream: Stream | None, mode: int, then: str, out: Read, rows: tuple[int, int]
    ) -> None:
        layer, following = self._layers[name], self._layers[then]
        table, places = layer.table(self._level), self.places(then, out)
        of_stream = _NO_STREAM if stream is None else _flat(stream)
        for strip in layer.strips(read):
            place = strip.image, rows[0] + rows[1] * strip.row, rows[1]
            lower = _NO_SUMS if strip.lower is None else _flat(strip.lower)
            sums = _flat(strip.sums)
            passes.pass_on(
                sums, lower, table, of_stream, mode, place, following.reading, following.limit, *places
            )

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
