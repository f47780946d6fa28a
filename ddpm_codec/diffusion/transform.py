r"""The block transform W in which the reverse step is diagonal.

Isotropic noise is isotropic in every orthonormal basis, so p(x_s | x_t) may be independent per coefficient of W instead
of per sub-pixel. W is a colour rotation times an 8x8 frequency transform, built from integer matrices with orthogonal
rows so that it can be computed exactly:

    W = N^-1/2 M,   M integer,   M M^T = N diagonal,   W^-1 = W^T = M^T N^-1/2.

The 8x8 matrix is the integer transform of H.264 High profile (ITU-T H.264, 8.5.13); the colour rows are grey,
red - blue and green - magenta. W = identity gives the plain DDPM through the same code.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ddpm_codec.errors import InputError
from ddpm_codec.isolation import torch_threads

COLOUR = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=np.int64)
FREQUENCY = np.array(
    [
        [8, 8, 8, 8, 8, 8, 8, 8],
        [12, 10, 6, 3, -3, -6, -10, -12],
        [8, 4, -4, -8, -8, -4, 4, 8],
        [10, -3, -12, -6, 6, 12, 3, -10],
        [8, -8, -8, 8, 8, -8, -8, 8],
        [6, -12, 3, 10, -10, -3, 12, -6],
        [4, -8, 8, -4, -4, 8, -8, 4],
        [3, -6, 10, -12, 12, -10, 6, -3],
    ],
    dtype=np.int64,
)


class BlockTransform:
    """An orthonormal block transform W = N^-1/2 M with integer M.

    Pictures are [B, 3, H, W] with H and W multiples of ``block``; coefficients are [B, 3 block^2, H/block, W/block].

    M is the Kronecker product of a matrix for the colours and one for the places in a block, and is applied one after the
    other: a third of the work.

    Args:
        name: for messages.
        colour: [3, 3] int64.
        space: [block^2, block^2] int64.
        block: side of a block in pixels (1 for the identity).

    Attributes:
        block: as above.
        matrix: M, [D, D] int64, D = 3 block^2; columns in the order (channel, row, column) of a block.
        norms2: the diagonal of N, [D] int64.

    Raises:
        InputError: where the rows of the matrix are not orthogonal.
    """

    def __init__(self, name: str, colour: NDArray[np.int64], space: NDArray[np.int64], block: int) -> None:
        matrix = np.kron(colour, space)
        gram = matrix @ matrix.T
        if not np.array_equal(gram, np.diag(np.diag(gram))):
            raise InputError(f"transform {name}: matrix rows are not orthogonal")
        self.name = name
        self.block = block
        self.matrix = matrix
        self._colour, self._space = colour, space
        self.norms2 = np.diag(gram).copy()
        self._kernels: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @property
    def dims(self) -> int:
        """Coefficients in a block, D."""
        return len(self.matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Return y = W x in floating point, [B, D, H/block, W/block]."""
        blocks = functional.pixel_unshuffle(x, self.block)
        return functional.conv2d(blocks, self._kernel(x)[:, :, None, None])

    def inverse(self, y: Tensor) -> Tensor:
        """Return x = W^T y in floating point, [B, 3, H, W]."""
        blocks = functional.conv2d(y, self._kernel(y).T[:, :, None, None])
        return functional.pixel_shuffle(blocks, self.block)

    def forward_exact(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the integers M x of an integer picture [B, 3, H, W], exactly.

        Raises:
            InputError: where a result could leave 64-bit integers.
        """
        return self._product(self._colour, self._space, self._to_blocks(x))

    def inverse_exact(self, y: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the integer picture M^T y of integer coefficients [B, D, h, w], exactly and without normalisation.

        With L the least common multiple of the diagonal of N, M^T (L N^-1) M = L I: weighting the coefficients of x by
        ``L // norms2`` gives back L x.

        Raises:
            InputError: where a result could leave 64-bit integers.
        """
        return self._from_blocks(self._product(self._colour.T, self._space.T, y))

    def _kernel(self, like: Tensor) -> Tensor:
        key = (like.device, like.dtype)
        if key not in self._kernels:
            orthonormal = self.matrix / np.sqrt(self.norms2.astype(np.float64))[:, None]
            self._kernels[key] = torch.from_numpy(orthonormal).to(device=like.device, dtype=like.dtype)
        return self._kernels[key]

    def _to_blocks(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        images, channels, height, width = x.shape
        b = self.block
        split = x.reshape(images, channels, height // b, b, width // b, b).transpose(0, 1, 3, 5, 2, 4)
        return split.reshape(images, self.dims, height // b, width // b)

    def _from_blocks(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        images, _, rows, columns = blocks.shape
        b = self.block
        split = blocks.reshape(images, 3, b, b, rows, columns).transpose(0, 1, 4, 2, 5, 3)
        return np.ascontiguousarray(split.reshape(images, 3, rows * b, columns * b))

    def _product(
        self, colour: NDArray[np.int64], space: NDArray[np.int64], blocks: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Multiply exactly, whatever the order of summation.

        In float64 (a fast matrix product) while every partial sum stays under 2^53, in int64 up to 2^63.
        """
        # Python integers: a product that overflows must not look small.
        peak = max(int(blocks.max(initial=0)), -int(blocks.min(initial=0)))
        largest = peak * int(np.abs(colour).sum(axis=1).max()) * int(np.abs(space).sum(axis=1).max())
        if largest >= 2**63:
            raise InputError(f"transform {self.name}: input too large for exact arithmetic in 64 bits")
        # torch's product in one thread, and not numpy's, whose threads wait actively for each other on a busy machine.
        working = torch.float64 if largest < 2**53 else torch.int64
        images, _, rows, columns = blocks.shape
        with torch_threads(1):
            flat = torch.from_numpy(blocks.reshape(images, 3, len(space), rows * columns)).to(working)
            placed = torch.matmul(_tensor(space, working), flat).view(images, 3, -1)
            product = torch.matmul(_tensor(colour, working), placed).to(torch.int64).numpy()
        return product.reshape(images, self.dims, rows, columns)


def _tensor(matrix: NDArray[np.int64], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(matrix)).to(dtype)


def colour_frequency_8x8() -> BlockTransform:
    """Return the colour rotation times the 8x8 frequency transform, D = 192."""
    return BlockTransform("colour-8x8", COLOUR, np.kron(FREQUENCY, FREQUENCY), 8)


def identity() -> BlockTransform:
    """Return W = I on sub-pixels: the plain DDPM, D = 3."""
    return BlockTransform("identity", np.eye(3, dtype=np.int64), np.eye(1, dtype=np.int64), 1)


TRANSFORMS = {"colour-8x8": colour_frequency_8x8, "identity": identity}


def by_name(name: str) -> BlockTransform:
    """Return the transform of that name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in TRANSFORMS:
        raise InputError(f"unknown transform {name!r}; known: {', '.join(sorted(TRANSFORMS))}")
    return TRANSFORMS[name]()
