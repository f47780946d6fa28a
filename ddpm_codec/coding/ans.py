"""The stack of an entropy coder that codes whole arrays through integer tables.

Symbols that share a table are coded together: elements are grouped by (scale, fraction of the mean) in a stable order,
and every group is one call of constriction's ANS coder. Pushing takes the groups from last to first, popping from first
to last, so that each method and its partner are exact inverses.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import constriction
import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.tables import (
    FRACTION_BITS,
    LATTICE_FRACTION_BITS,
    MEAN_BITS,
    Table,
    lattice_table,
    pixel_clip,
    pixel_table,
    sampling_table,
)
from ddpm_codec.errors import FormatError

Ints = NDArray[np.int64]
Tables = Callable[[int], Table]

_FRACTIONS = 1 << FRACTION_BITS
_MEAN_MASK = (1 << MEAN_BITS) - 1
_MARGIN_BITS = 64
_ESCAPE_BITS = 16
_ESCAPE_LIMBS = 3


class StackExhausted(ValueError):  # noqa: N818
    """A stack has too few bits to sample from; it is of no use afterwards."""


class Stack:
    """A last-in-first-out stack of bits around constriction's ANS coder.

    A stack starts from arbitrary bytes (:meth:`seeded`), which are what is left when everything else has been popped
    (:meth:`remainder`). In between it is stored as bytes (:meth:`to_bytes`, :meth:`from_bytes`).
    """

    def __init__(self, coder: object, spare: bytes) -> None:
        self._coder: constriction.stream.stack.AnsCoder = coder
        self._spare = spare

    @classmethod
    def seeded(cls, data: bytes) -> "Stack":
        """Return a stack that holds ``data``; bytes beyond whole words wait outside."""
        spare = len(data) % 4
        return cls(constriction.stream.stack.AnsCoder(_words(data[spare:]), seal=True), data[:spare])

    @classmethod
    def from_bytes(cls, data: bytes) -> "Stack":
        """Read :meth:`to_bytes` back.

        Raises:
            FormatError: no stack looks like this.
        """
        spare = len(data) % 4
        words = _words(data[spare:])
        if len(words) == 0 or words[-1] == 0:
            raise FormatError("its entropy-coded data is damaged")
        return cls(constriction.stream.stack.AnsCoder(words), data[:spare])

    def to_bytes(self) -> bytes:
        """Return the stack as bytes."""
        return bytes(self._spare + self._coder.get_compressed().astype("<u4").tobytes())

    def remainder(self) -> bytes:
        """Return the bytes that the stack was seeded with, once everything else has been popped.

        Raises:
            FormatError: something else is on the stack.
        """
        try:
            words = self._coder.get_compressed(unseal=True)
        except Exception as error:
            raise FormatError("its entropy-coded data does not end where it should") from error
        return bytes(self._spare + words.astype("<u4").tobytes())

    def copy(self) -> "Stack":
        """Return an independent stack with the same content."""
        return Stack(self._coder.clone(), self._spare)

    @property
    def bits(self) -> int:
        """Bits on the stack."""
        return int(self._coder.num_bits()) + 8 * len(self._spare)

    def push_lattice(self, n: NDArray[np.int32], mean: Ints, scale_index: NDArray[np.int32]) -> None:
        """Push lattice points n under discrete Gaussians.

        Args:
            n: lattice points, any shape.
            mean: in units of the lattice, MEAN_BITS fractional bits, the same shape.
            scale_index: of LATTICE_GRID, the same shape.
        """
        floor, keys = _lattice_keys(mean, scale_index)
        self._push(n.ravel().astype(np.int64) - floor, keys, _lattice_lookup)

    def pop_lattice(self, mean: Ints, scale_index: NDArray[np.int32]) -> NDArray[np.int32]:
        """Pop what :meth:`push_lattice` pushed."""
        floor, keys = _lattice_keys(mean, scale_index)
        return (self._pop(keys, _lattice_lookup) + floor).astype(np.int32).reshape(mean.shape)

    def sample_lattice(self, mean: Ints, scale: float) -> NDArray[np.int32]:
        """Draw lattice points from discrete Gaussians, with the bits of the stack as the random numbers.

        Args:
            mean: as in :meth:`push_lattice`.
            scale: one for all, in units of the lattice, positive.

        Raises:
            StackExhausted: there are not enough bits.
        """
        floor, keys = _sampling_keys(mean)
        offsets = self._pop(keys, lambda key: sampling_table(scale, key), guard=True)
        return (offsets + floor).astype(np.int32).reshape(mean.shape)

    def unsample_lattice(self, n: NDArray[np.int32], mean: Ints, scale: float) -> None:
        """Give back the bits that :meth:`sample_lattice` used to draw n.

        Raises:
            FormatError: a point that cannot have been drawn.
        """
        floor, keys = _sampling_keys(mean)
        self._push(n.ravel().astype(np.int64) - floor, keys, lambda key: sampling_table(scale, key))

    def push_pixels(self, x: NDArray[np.uint8], mean: Ints, scale_index: NDArray[np.int32]) -> None:
        """Push grey levels under discretised Gaussians with open edge bins.

        Args:
            x: grey levels, any shape.
            mean: in grey levels, MEAN_BITS fractional bits, the same shape; may lie a little outside 0..255.
            scale_index: of PIXEL_GRID, the same shape.
        """
        floor, keys, lookup = _pixel_keys(mean, scale_index)
        self._push(x.ravel().astype(np.int64) - floor, keys, lookup)

    def pop_pixels(self, mean: Ints, scale_index: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Pop what :meth:`push_pixels` pushed."""
        floor, keys, lookup = _pixel_keys(mean, scale_index)
        grey = self._pop(keys, lookup) + floor
        if grey.size and (grey.min() < 0 or grey.max() > 255):
            raise FormatError("its entropy-coded data is damaged")
        return grey.astype(np.uint8).reshape(mean.shape)

    def _push(self, offsets: Ints, keys: NDArray[np.uint16], lookup: Tables) -> None:
        order = np.argsort(keys, kind="stable")
        offsets = offsets[order]
        for key, start, end in reversed(list(_groups(keys[order]))):
            table = lookup(key)
            symbols = offsets[start:end] - table.first
            outside = (symbols < 0) | (symbols >= table.count)
            if outside.any():
                if not table.escape:
                    raise FormatError("its entropy-coded data is damaged")
                for value in offsets[start:end][outside][::-1].tolist():
                    self._push_escaped(value)
                symbols = np.where(outside, table.count, symbols)
            self._coder.encode_reverse(symbols.astype(np.int32), table.model)

    def _pop(self, keys: NDArray[np.uint16], lookup: Tables, guard: bool = False) -> Ints:
        order = np.argsort(keys, kind="stable")
        popped = np.empty(len(keys), dtype=np.int64)
        for key, start, end in _groups(keys[order]):
            table = lookup(key)
            symbols = self._coder.decode(table.model, end - start).astype(np.int64)
            if guard and self._coder.num_bits() < _MARGIN_BITS:
                raise StackExhausted("the stack has too few bits to sample from")
            values = symbols + table.first
            if table.escape:
                for place in np.flatnonzero(symbols == table.count):
                    values[place] = self._pop_escaped()
            popped[start:end] = values
        out = np.empty_like(popped)
        out[order] = popped
        return out

    def _push_escaped(self, value: int) -> None:
        """Push an integer that its table lacks: zig-zag, in limbs of 16 bits."""
        code = 2 * value if value >= 0 else -2 * value - 1
        limbs = [code >> (_ESCAPE_BITS * i) & (1 << _ESCAPE_BITS) - 1 for i in range(_ESCAPE_LIMBS)]
        self._coder.encode_reverse(np.array(limbs, dtype=np.int32), _UNIFORM)

    def _pop_escaped(self) -> int:
        limbs = self._coder.decode(_UNIFORM, _ESCAPE_LIMBS).tolist()
        code: int = sum(limb << (_ESCAPE_BITS * i) for i, limb in enumerate(limbs))
        value = -(code + 1 >> 1) if code & 1 else code >> 1
        if abs(value) >= 1 << 31:
            raise FormatError("its entropy-coded data is damaged")
        return value


_UNIFORM = constriction.stream.model.Uniform(1 << _ESCAPE_BITS)


def _words(data: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(data, dtype="<u4").astype(np.uint32)


def _groups(sorted_keys: NDArray[np.uint16]) -> Iterator[tuple[int, int, int]]:
    """Yield (key, start, end) of every run of equal keys."""
    if not len(sorted_keys):
        return
    breaks = np.flatnonzero(np.diff(sorted_keys)) + 1
    edges = [0, *breaks.tolist(), len(sorted_keys)]
    for start, end in pairwise(edges):
        yield int(sorted_keys[start]), start, end


def _lattice_keys(mean: Ints, scale_index: NDArray[np.int32]) -> tuple[Ints, NDArray[np.uint16]]:
    flat, scale = mean.ravel(), scale_index.ravel()
    fraction = (flat & _MEAN_MASK) >> (MEAN_BITS - LATTICE_FRACTION_BITS[scale])
    return flat >> MEAN_BITS, (scale * _FRACTIONS + fraction).astype(np.uint16)


def _lattice_lookup(key: int) -> Table:
    return lattice_table(*divmod(key, _FRACTIONS))


def _sampling_keys(mean: Ints) -> tuple[Ints, NDArray[np.uint16]]:
    flat = mean.ravel()
    return flat >> MEAN_BITS, ((flat & _MEAN_MASK) >> (MEAN_BITS - FRACTION_BITS)).astype(np.uint16)


def _pixel_keys(mean: Ints, scale_index: NDArray[np.int32]) -> tuple[Ints, NDArray[np.uint16], Tables]:
    """Return floors, keys, and the tables of the keys: few clips occur, so the keys number the combinations seen."""
    flat, scale = mean.ravel(), scale_index.ravel().astype(np.int64)
    floor = flat >> MEAN_BITS
    fraction = (flat & _MEAN_MASK) >> (MEAN_BITS - FRACTION_BITS)
    low, high = pixel_clip(floor, scale)
    packed = ((scale * _FRACTIONS + fraction) << 24) + ((low + 2048) << 12) + (high + 2048)
    seen, keys = np.unique(packed, return_inverse=True)
    if len(seen) > 1 << 16:
        raise ValueError("more pixel tables in one batch than keys: code fewer pixels at a time")

    def lookup(key: int) -> Table:
        code = int(seen[key])
        index, part = divmod(code >> 24, _FRACTIONS)
        return pixel_table(index, part, (code >> 12 & 4095) - 2048, (code & 4095) - 2048)

    return floor, keys.ravel().astype(np.uint16), lookup
