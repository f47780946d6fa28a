"""Exact convolutions of bytes in torch: several ways to the same integers, and the check that they are the same.

A kernel takes q, uint8 [B, H, W, C] with its padding, and returns (sum of w q + offset) 2^-pre_shift, clamped to a limit if
there is one, as float32 [B, h, w, O], exactly: sums stay below 2^24 and a power of two changes no significand. Which way is
fastest, and whether it is exact at all, depends on processor and library (oneDNN's sums of bytes saturate on processors
without VNNI), so each is tried on extreme numbers, in the shapes of the network, before it is used.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.device import float32_may_round
from ddpm_codec.nn.exact.parameters import BYTE, EXACT_BITS, T_LIMIT, Convolution

MAX_COLUMN_BYTES = {"cpu": 1 << 21, "cuda": 1 << 28}
"""Memory for the columns of a convolution as a matrix product: images at a time, or rows of one."""


class Kernel(Protocol):
    """One convolution, ready to run."""

    def __call__(self, q: Tensor) -> Tensor:
        """Return clamp((sum of w q + offset) 2^-pre_shift), float32 [B, h, w, O], for q uint8 [B, H, W, C]."""
        ...


class OneDnnKernel:
    """oneDNN's direct convolution of unsigned by signed bytes, offset and power of two fused."""

    def __init__(self, weight: Tensor, offset: Tensor, pre_shift: Tensor, stride: int, limit: float | None) -> None:
        self._stride = [stride, stride]
        self._scales = power_of_half(pre_shift)
        self._bias = offset.float() * self._scales
        self._zeros = torch.zeros_like(pre_shift, dtype=torch.int32)
        ops = torch.ops.onednn
        self._packed = ops.qconv_prepack(
            weight, self._scales, 1.0, 0, self._stride, [0, 0], [1, 1], 1, [1, weight.shape[1], 64, 64]
        )
        self._run = ops.qconv2d_pointwise
        self._after = ("none", []) if limit is None else ("hardtanh", [-limit, limit])

    def __call__(self, q: Tensor) -> Tensor:
        """See :class:`Kernel`."""
        out = self._run(
            q.permute(0, 3, 1, 2),
            *(1.0, 0, self._packed, self._scales, self._zeros, self._bias),
            *(self._stride, [0, 0], [1, 1], 1),
            *(1.0, 0, torch.float32, *self._after, ""),
        )
        return out.permute(0, 2, 3, 1)  # type: ignore[no-any-return]


class MatmulKernel:
    """A product of byte matrices, ``torch._int_mm``, of signed bytes: q - 128, with 128 times the sum of w added back.

    CUDA wants more than 16 rows, and multiples of 8 otherwise: zeros are added.
    """

    def __init__(self, weight: Tensor, offset: Tensor, pre_shift: Tensor, stride: int, limit: float | None) -> None:
        self._outputs, self._side, self._stride = weight.shape[0], weight.shape[2], stride
        columns = weight.permute(2, 3, 1, 0).flatten(0, 2)
        self._rest = (-columns.shape[0] % 8, -columns.shape[1] % 8)
        self._columns = torch.nn.functional.pad(columns, (0, self._rest[1], 0, self._rest[0])).contiguous()
        self._limit = limit
        self._offset = offset + 128 * weight.sum(dim=(1, 2, 3), dtype=torch.int32)
        self._scales = power_of_half(pre_shift)

    def __call__(self, q: Tensor) -> Tensor:
        """See :class:`Kernel`."""
        # The sign bit turned over is q - 128 as a signed byte.
        windows = _windows((q ^ 128).view(torch.int8), self._side, self._stride)
        out = torch.empty((*windows.shape[:3], self._outputs), dtype=torch.float32, device=q.device)
        for piece in _pieces(windows, len(self._columns)):
            matrix = windows[piece].reshape(-1, len(self._columns) - self._rest[0])
            count = len(matrix)
            extra = max(0, 17 - count) + (-max(17, count) % 8)
            if self._rest[0] or extra:
                matrix = torch.nn.functional.pad(matrix, (0, self._rest[0], 0, extra))
            sums = torch._int_mm(matrix, self._columns)[:count, : self._outputs]
            place = out[piece]
            place.copy_(((sums + self._offset).float() * self._scales).view(place.shape))
        return out if self._limit is None else out.clamp_(-self._limit, self._limit)


class FloatKernel:
    """A matrix product of integers held in floating point, exact since no partial sum reaches 2^24, in whatever order.

    Where the process has allowed products of float32 to round, at whatever time, they are taken in float64.
    """

    def __init__(
        self,
        weight: Tensor,
        offset: Tensor,
        pre_shift: Tensor,
        stride: int,
        limit: float | None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._side, self._stride, self._limit = weight.shape[2], stride, limit
        scales = power_of_half(pre_shift).to(dtype)
        self._columns = weight.permute(2, 3, 1, 0).flatten(0, 2).to(dtype) * scales
        self._bias = offset.to(dtype) * scales

    def __call__(self, q: Tensor) -> Tensor:
        """See :class:`Kernel`."""
        windows = _windows(q, self._side, self._stride)
        columns = self._columns.double() if float32_may_round(q.device) else self._columns
        out = torch.empty((*windows.shape[:3], columns.shape[1]), dtype=torch.float32, device=q.device)
        for piece in _pieces(windows, columns.dtype.itemsize * len(columns)):
            matrix = windows[piece].reshape(-1, len(columns)).to(columns.dtype)
            place = out[piece]
            place.copy_((matrix @ columns).add_(self._bias).view(place.shape))
        return out if self._limit is None else out.clamp_(-self._limit, self._limit)


def power_of_half(exponent: Tensor) -> Tensor:
    """Return 2^-exponent, exponents being 0..30: a float32 put together from its bits, where a library may approximate."""
    return (127 - exponent.int() << 23).view(torch.float32)


def _windows(q: Tensor, side: int, stride: int) -> Tensor:
    """Return a view of the windows of q [B, H, W, C], [B, h, w, side, side, C]."""
    batch, height, width, channels = q.shape
    q = q.contiguous()
    image, row, column, _ = q.stride()
    shape = (batch, (height - side) // stride + 1, (width - side) // stride + 1, side, side, channels)
    return q.as_strided(shape, (image, stride * row, stride * column, row, column, 1))


def _pieces(windows: Tensor, window_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Yield (images, rows) of windows [B, h, w, ...] so that their columns fit the memory for them."""
    batch, height, width = windows.shape[:3]
    rows = max(1, MAX_COLUMN_BYTES[windows.device.type] // (width * window_bytes))
    images = max(1, rows // height)
    for first in range(0, batch, images):
        for top in range(0, height, rows):
            yield slice(first, first + images), slice(top, top + rows)


KernelFactory = Callable[[Tensor, Tensor, Tensor, int, float | None], Kernel]

KERNELS: dict[str, KernelFactory] = {
    "onednn": OneDnnKernel,
    "matmul": MatmulKernel,
    "float32": FloatKernel,
    "float64": partial(FloatKernel, dtype=torch.float64),
}
"""From fastest to slowest."""


def pick_kernels(device: torch.device) -> str:
    """Return the name of the fastest kernels worth trying on ``device``."""
    if device.type == "cuda":
        return "matmul"
    mkldnn = torch.backends.mkldnn
    # Without oneDNN torch multiplies byte matrices in plain loops.
    return "onednn" if mkldnn.is_available() and mkldnn.enabled else "float32"  # type: ignore[no-untyped-call]


class Shape(NamedTuple):
    """What kernels may treat differently: the sizes of a convolution, and the limit of its sums."""

    outputs: int
    channels: int
    side: int
    stride: int
    limit: float | None


def shape_of(layer: Convolution) -> Shape:
    """Return what kernels see of a layer; where two sums make one, the limit is that of the whole."""
    limit = None if layer.reading.wide or layer.rescaling is None else float(T_LIMIT)
    outputs, channels, side, _ = layer.weight.shape
    return Shape(outputs, channels, side, layer.stride, limit)


_USUAL = (
    Shape(24, 64, 3, 1, None),
    Shape(128, 128, 3, 1, 8191.0),
    Shape(16, 64, 2, 2, 8191.0),
    Shape(192, 16, 1, 1, None),
)


def choose_kernels(device: torch.device, layers: Iterable[Convolution]) -> str:
    """Return the name of the fastest kernels that are exact on ``device`` in the shapes of ``layers``."""
    return first_exact(pick_kernels(device), device, {shape_of(layer) for layer in layers})


def first_exact(name: str, device: torch.device, shapes: Iterable[Shape]) -> str:
    """Return ``name``, or that of the next slower kernels that are exact on ``device`` in all ``shapes``."""
    names = list(KERNELS)
    candidates, wanted = names[names.index(name) : -1], set(shapes)
    return next((one for one in candidates if is_exact(one, device.type, wanted)), names[-1])


def is_exact(name: str, device: str, shapes: Iterable[Shape] = _USUAL) -> bool:
    """Try kernels in ``shapes``, on numbers that come as near to 2^24 as any sum may, on sparse ones and on random ones."""
    return all(passes(name, device, shape) for shape in shapes)


@cache
def passes(name: str, device: str, shape: Shape) -> bool:
    """Try kernels in one shape."""
    rng = np.random.default_rng(0)
    outputs, channels, side, stride, limit = shape
    weight = _trial_weight(outputs, side * side * channels, rng)
    q = rng.integers(0, BYTE + 1, (2, side + stride, side + 6 * stride, channels), dtype=np.uint8)
    q[0] = BYTE
    q[1, :, side:] = np.where(q[1, :, side:] > BYTE // 2, BYTE, 0)
    offset = rng.integers(-(1 << 20), 1 << 20, outputs)
    shift = rng.integers(0, 13, outputs)
    if limit is not None:
        # Shifted by 12 no sum is beyond the limit, which would hide an error; of the random rows some are.
        shift[np.arange(outputs) % _KINDS < _KINDS - 1] = 12
    windows = np.lib.stride_tricks.sliding_window_view(q, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, weight.shape[1]).astype(np.float64)
    wanted = (columns @ weight.T.astype(np.float64) + offset) * np.ldexp(1.0, -shift)
    kernels_weight = weight.reshape(outputs, side, side, channels).transpose(0, 3, 1, 2)
    try:
        with torch.autocast(device, enabled=False):
            kernel = KERNELS[name](
                torch.from_numpy(np.ascontiguousarray(kernels_weight)).to(device),
                torch.from_numpy(offset.astype(np.int32)).to(device),
                torch.from_numpy(shift.astype(np.int32)).to(device),
                stride,
                limit,
            )
            got = kernel(torch.from_numpy(q).to(device)).cpu().numpy()
    except (RuntimeError, AttributeError, TypeError, NotImplementedError, Warning):
        # A caller may have made warnings errors. Silencing them would do so in all threads.
        return False
    return np.array_equal(got.reshape(wanted.shape), wanted if limit is None else np.clip(wanted, -limit, limit))


_KINDS = 5
"""Kinds of rows of a trial's weights, the last of them random."""


def _trial_weight(outputs: int, taps: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Return rows of weights, [O, side * side * C], whose sums stay below 2^24: dense ones, and few as large as may be.

    Dense rows of many taps have small weights, of which no two saturate 16 bits; so others have weights of 127 alone, in
    runs that together cover all taps, and in pairs with zeros between them.
    """
    room = ((1 << EXACT_BITS) - (1 << 21)) // BYTE
    dense, run = min(127, room // taps), room // 127
    weight = rng.integers(-dense, dense + 1, (outputs, taps), dtype=np.int8)
    row, tap = np.arange(-(-outputs // _KINDS), dtype=np.int32)[:, None], np.arange(taps, dtype=np.int32)
    sign, turn = 1 - 2 * (row % 2), row // 2
    apart = max(4, -(-taps // run))
    rows = (
        np.where((tap - turn * (run // 2)) % taps < run, 127 * sign, 0),
        np.broadcast_to(dense * sign, (len(row), taps)),
        np.where((tap + turn) % 2, dense, -dense),
        np.where((tap + turn) // 2 % apart == 0, 127 * sign, 0),
    )
    for kind, values in enumerate(rows):
        part = weight[kind::_KINDS]
        part[:] = values[: len(part)]
    return weight
