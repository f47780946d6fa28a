"""A layer of the exact network on a CPU: a convolution in torch, and the tables of the compiled pass after it.

Layers hold no memory, so several threads may use them: each evaluation works in a :class:`Memory` of its own. The bytes that
a layer reads have a border of its zero points around them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.nn.exact.decoder_parameters import GatedReading
from ddpm_codec.nn.exact.kernels import KERNELS, Kernel, power_of_half, shape_of
from ddpm_codec.nn.exact.parameters import BYTE, Convolution, Reading
from ddpm_codec.nn.exact.passes import CHUNK, JOIN_ROUNDED, JOIN_WHOLE

STRIP_VALUES = 1 << 18
"""Sums at a time, about: they stay in the cache until the pass that reads them."""

_ROUND = 1.5 * 2.0**23

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


class FusedLayer:
    """One convolution: its kernel, how it reads, and the tables of the pass after it.

    Args:
        layer: the convolution.
        kernels: a key of KERNELS.
        whole: sums of two-byte inputs are not rounded before they are put together.
    """

    def __init__(self, layer: Convolution, kernels: str, *, whole: bool = False) -> None:
        self.stride, self.padding, reading, scale = layer.stride, layer.padding, layer.reading, layer.rescaling
        self.outputs, self.wide, self.limit = len(layer.offset), reading.wide, float(reading.limit)
        self.zero, self.reading = reading.zero, _reading_table(reading)
        self.gated = len(reading.zero) if isinstance(reading, GatedReading) else 0
        self.join = JOIN_WHOLE if whole else JOIN_ROUNDED
        weight = torch.from_numpy(layer.weight.astype(np.int8))
        offset = torch.from_numpy(layer.offset.astype(np.int32))
        pre_shift = np.zeros_like(layer.offset) if scale is None else scale.pre_shift
        shifts = torch.from_numpy(pre_shift.astype(np.int32))
        self._scale = power_of_half(shifts).numpy().astype(np.float64)
        make = KERNELS[kernels]
        if self.wide and whole:
            nothing = torch.zeros_like(shifts)
            # Each of the two sums takes its byte of the offset.
            self.sum = make(weight, offset >> 8, nothing, layer.stride, None)
            self.sum_lower = make(weight, offset & BYTE, nothing, layer.stride, None)
        else:
            self.sum = make(weight, offset, shifts, layer.stride, shape_of(layer).limit)
        if self.wide and not whole:
            eight = torch.full_like(shifts, 8)
            self.sum_lower = make(weight, torch.zeros_like(offset), eight, layer.stride, None)
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

    def sums(self, strip: Strip) -> NDArray[np.floating[Any]]:
        """Return v of a layer without rescaling, float32 or, with ``whole``, float64."""
        if strip.lower is None:
            return strip.sums
        if self.join == JOIN_WHOLE:
            return 256.0 * strip.sums.astype(np.float64) + strip.lower
        return strip.sums + np.rint(strip.lower)

    def strips(self, read: Read) -> Iterator[Strip]:
        """Yield the sums, a few rows or images at a time."""
        images, height, width, _ = read.upper.shape
        rows, columns = (height - 2 * self.padding) // self.stride, (width - 2 * self.padding) // self.stride
        row_values = columns * self.outputs
        at_once, step = max(1, STRIP_VALUES // (rows * row_values)), min(rows, max(1, STRIP_VALUES // row_values))
        for image in range(0, images, at_once):
            for row in range(0, rows, step):
                bottom = min(rows, row + step) * self.stride + 2 * self.padding
                part = slice(image, image + at_once), slice(row * self.stride, bottom)
                lower = convolve(self.sum_lower, read.lower[part]) if self.wide else None
                yield Strip(image, row, convolve(self.sum, read.upper[part]), lower)


def _reading_table(reading: Reading) -> Floats:
    """Return what :func:`~ddpm_codec.nn.exact.passes.pass_on` reads a stream with, [6, CHUNK or so]."""
    after = np.ldexp(1.0, -reading.shift)
    down = np.ldexp(1.0, -reading.pre) if isinstance(reading, GatedReading) else after
    half, low, high = reading.half * down, np.zeros_like(down), 2 * reading.half * down
    if not reading.half.any():
        # Read plainly: a slope that is always the same.
        half, low, high = low, down, down
    return _repeated(np.stack([reading.zero.astype(np.float64), down, half, low, high, after]), 2)


def convolve(kernel: Kernel, q: Bytes) -> Floats:
    """Return what a kernel makes of bytes [N, H, W, C]."""
    out: Floats = kernel(torch.from_numpy(q)).contiguous().numpy()
    return out


def _repeated(rows: NDArray[np.float64], least: int) -> Floats:
    """Repeat tables of C channels to CHUNK values or so, as whole binary32 numbers hold them exactly."""
    return np.tile(rows.astype(np.float32), max(least, CHUNK // rows.shape[1]))
