"""Exact convolutions of bytes in torch: several ways to the same integers, and the check that they are the same.

A kernel takes q, uint8 [B, H, W, C] with its padding, and returns (sum of w q + offset) 2^-pre_shift, clamped to a limit if
there is one, as float32 [B, h, w, O], exactly: sums stay below 2^24 and a power of two changes no significand. Which way is
fastest, and whether it is exact at all, depends on processor and library (oneDNN's sums of bytes saturate on processors
without VNNI), so each is tried on extreme numbers before it is used.
"""

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ddpm_codec.nn.exact.parameters import BYTE, EXACT_BITS

MAX_COLUMN_BYTES = 1 << 23
"""Memory for the columns of a convolution as a matrix product, rows at a time."""


class Kernel(Protocol):
    """One convolution, ready to run."""

    def __call__(self, q: Tensor) -> Tensor:
        """Return clamp((sum of w q + offset) 2^-pre_shift), float32 [B, h, w, O], for q uint8 [B, H, W, C]."""
        ...


class OneDnnKernel:
    """oneDNN's direct convolution of unsigned by signed bytes, offset and power of two fused."""

    def __init__(self, weight: Tensor, offset: Tensor, pre_shift: Tensor, stride: int, limit: float | None) -> None:
        self._stride = [stride, stride]
        self._scales = torch.exp2(-pre_shift.float())
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
        self._scales = torch.exp2(-pre_shift.float())

    def __call__(self, q: Tensor) -> Tensor:
        """See :class:`Kernel`."""
        # The sign bit turned over is q - 128 as a signed byte.
        windows = _windows((q ^ 128).view(torch.int8), self._side, self._stride)
        batch, height, width = windows.shape[:3]
        out = torch.empty((batch, height, width, self._outputs), dtype=torch.float32, device=q.device)
        rows = max(1, MAX_COLUMN_BYTES // (width * self._columns.shape[0]))
        for image in range(batch):
            for top in range(0, height, rows):
                part = windows[image, top : top + rows]
                matrix = part.reshape(part.shape[0] * width, -1)
                extra = max(0, 17 - len(matrix)) + (-max(17, len(matrix)) % 8)
                if self._rest[0] or extra:
                    matrix = torch.nn.functional.pad(matrix, (0, self._rest[0], 0, extra))
                sums = torch._int_mm(matrix, self._columns)[: part.shape[0] * width, : self._outputs]
                scaled = (sums + self._offset).float() * self._scales
                out[image, top : top + rows] = scaled.view(part.shape[0], width, self._outputs)
        return out if self._limit is None else out.clamp_(-self._limit, self._limit)


class FloatKernel:
    """A matrix product of integers held in floating point, exact since no partial sum reaches 2^24, in whatever order."""

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
        scales = torch.exp2(-pre_shift.to(dtype))
        self._columns = weight.permute(2, 3, 1, 0).flatten(0, 2).to(dtype) * scales
        self._bias = offset.to(dtype) * scales

    def __call__(self, q: Tensor) -> Tensor:
        """See :class:`Kernel`."""
        windows = _windows(q, self._side, self._stride)
        dtype = self._columns.dtype
        rows = max(1, MAX_COLUMN_BYTES // (dtype.itemsize * windows.shape[2] * len(self._columns)))
        parts = [
            (image[top : top + rows].flatten(2).to(dtype) @ self._columns).add_(self._bias).float()
            for image in windows
            for top in range(0, len(image), rows)
        ]
        out = torch.cat(parts).view(*windows.shape[:3], -1)
        return out if self._limit is None else out.clamp_(-self._limit, self._limit)


def _windows(q: Tensor, side: int, stride: int) -> Tensor:
    """Return a view of the windows of q [B, H, W, C], [B, h, w, side, side, C]."""
    batch, height, width, channels = q.shape
    q = q.contiguous()
    image, row, column, _ = q.stride()
    shape = (batch, (height - side) // stride + 1, (width - side) // stride + 1, side, side, channels)
    return q.as_strided(shape, (image, stride * row, stride * column, row, column, 1))


KernelFactory = Callable[[Tensor, Tensor, Tensor, int, float | None], Kernel]

KERNELS: dict[str, KernelFactory] = {
    "onednn": OneDnnKernel,
    "matmul": MatmulKernel,
    "float32": FloatKernel,
    "float64": partial(FloatKernel, dtype=torch.float64),
}
"""From fastest to slowest."""


def pick_kernels(device: torch.device) -> str:
    """Return the name of the fastest kernels that are exact on ``device``."""
    mkldnn = torch.backends.mkldnn
    onednn = device.type == "cpu" and mkldnn.is_available() and mkldnn.enabled  # type: ignore[no-untyped-call]
    # Without oneDNN torch multiplies byte matrices in plain loops.
    candidates = ["onednn", "matmul"] if onednn else ["matmul"] if device.type == "cuda" else []
    return next((name for name in [*candidates, "float32"] if is_exact(name, device.type)), "float64")


_TRIALS = ((64, 24, 3, 1, 2.0**24), (128, 128, 3, 1, 8191.0), (64, 16, 2, 2, 8191.0), (16, 192, 1, 1, 2.0**24))
"""Channels, outputs, side, stride and limit of the convolutions that kernels are tried on."""


@cache
def is_exact(name: str, device: str) -> bool:
    """Try kernels, with and without a limit, on numbers that come as near to 2^24 as any sum may, and on random ones."""
    generator = np.random.default_rng(0)
    for channels, outputs, side, stride, limit in _TRIALS:
        largest = min(127, ((1 << EXACT_BITS) - (1 << 21)) // (BYTE * channels * side * side))
        weight = generator.integers(-largest, largest + 1, (outputs, channels, side, side))
        weight[0], weight[1] = largest, -largest
        # Pairs of opposite sign: their sum is small, and each alone is too much for 16 bits.
        weight[2] = np.where(np.arange(weight[2].size).reshape(weight[2].shape) % 2, largest, -largest)
        q = generator.integers(0, 256, (2, 6, 10, channels))
        q[0, :3] = BYTE
        offset = generator.integers(-(1 << 20), 1 << 20, outputs)
        shift = generator.integers(0, 12, outputs)
        windows = np.lib.stride_tricks.sliding_window_view(q, (side, side), axis=(1, 2))[:, ::stride, ::stride]
        sums = np.einsum("bhwcij,ocij->bhwo", windows, weight, optimize=True) + offset
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kernel = KERNELS[name](
                    torch.from_numpy(weight.astype(np.int8)).to(device),
                    torch.from_numpy(offset.astype(np.int32)).to(device),
                    torch.from_numpy(shift.astype(np.int32)).to(device),
                    stride,
                    limit,
                )
                got = kernel(torch.from_numpy(q.astype(np.uint8)).to(device)).cpu().double().numpy()
        except (RuntimeError, AttributeError, TypeError, NotImplementedError):
            return False
        if not np.array_equal(got, np.clip(sums * 2.0 ** -shift.astype(np.float64), -limit, limit)):
            return False
    return True
