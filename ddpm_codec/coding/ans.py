"""The stack of an entropy coder that codes whole arrays through integer tables.

Symbols that share a table are coded together: elements are grouped by (scale, fraction of the mean) in a stable order,
and every group is one call of constriction's ANS coder. Pushing takes the groups from last to first, popping from first
to last, so that each method and its partner are exact inverses. Integers that their table lacks are coded as its escape
symbol, and their values lie beneath the symbols of the whole array.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.tables import (
    FRACTION_BITS,
    GREY_LEVELS,
    LATTICE_GRID,
    MEAN_BITS,
    OUTSIDE,
    PIXEL_GRID,
    Ints,
    Table,
    lattice_table,
    pixel_range,
    pixel_table,
    sampling_table,
    sampling_window,
)
from ddpm_codec.errors import DdpmCodecError, FormatError

Indices = NDArray[np.int32]

_FRACTIONS = 1 << FRACTION_BITS
_MEAN_MASK = (1 << MEAN_BITS) - 1
_MARGIN_BITS = 64
_ESCAPE_BITS = 16
_ESCAPE_LIMBS = 3
_UNIFORM = constriction.stream.model.Uniform(1 << _ESCAPE_BITS)
_BYTES = constriction.stream.model.Uniform(1 << 8)
_DAMAGED = "entropy-coded data is damaged"
_PLACES = 1 << 9
"""Of a pixel's mean: place 0 where its whole window is inside the grey range, else the floor counted from 1."""


class StackExhausted(DdpmCodecError, ValueError):  # noqa: N818 - a state that callers expect
    """A stack has too few bits to sample from; it is of no use afterwards."""


@dataclass(frozen=True)
class _Plan:
    """How an array is coded.

    Attributes:
        keys: of the table of each element, [N] int32 >= 0.
        first: the integer that is symbol 0 for each element, [N].
        count: symbols of each element's table, the escape symbol not counted, [N] or one for all.
        lookup: key -> table.
    """

    keys: Indices
    first: Ints
    count: Ints | int
    lookup: Callable[[int], Table]


class Stack:
    """A last-in-first-out stack of bits around constriction's ANS coder.

    A stack starts from arbitrary bytes (:meth:`seeded`), which are what is left when everything else has been popped
    (:meth:`remainder`). In between it is stored as bytes (:meth:`to_bytes`, :meth:`from_bytes`).
    """

    def __init__(self, coder: constriction.stream.stack.AnsCoder, spare: bytes) -> None:
        self._coder = coder
        self._spare = spare

    @classmethod
    def seeded(cls, data: bytes) -> "Stack":
        """Return a stack that holds ``data``; bytes beyond whole words wait outside."""
        spare = len(data) % 4
        return cls(constriction.stream.stack.AnsCoder(_words(data[spare:]), seal=True), data[:spare])

    @classmethod
    def empty(cls) -> "Stack":
        """Return a stack that holds nothing, and is stored in as few bytes as possible."""
        return cls(constriction.stream.stack.AnsCoder(), b"")

    @property
    def is_empty(self) -> bool:
        """Whether everything has been popped from a stack that was :meth:`empty` at first."""
        return bool(self._coder.is_empty()) and not self._spare

    @classmethod
    def from_bytes(cls, data: bytes) -> "Stack":
        """Read :meth:`to_bytes` back.

        Raises:
            FormatError: no stack looks like this.
        """
        spare = len(data) % 4
        words = _words(data[spare:])
        if len(words) == 0 or words[-1] == 0:
            raise FormatError(_DAMAGED)
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
            raise FormatError("entropy-coded data does not end where it should") from error
        return bytes(self._spare + words.astype("<u4").tobytes())

    def copy(self) -> "Stack":
        """Return an independent stack with the same content."""
        return Stack(self._coder.clone(), self._spare)

    @property
    def bits(self) -> int:
        """Bits on the stack."""
        return int(self._coder.num_bits()) + 8 * len(self._spare)

    def push_lattice(self, n: NDArray[np.int32], mean: Ints, scale_index: Indices) -> None:
        """Push lattice points n under discrete Gaussians.

        Args:
            n: lattice points, any shape.
            mean: in units of the lattice, MEAN_BITS fractional bits, the same shape.
            scale_index: of LATTICE_GRID, the same shape.
        """
        self._push(n, _plan_lattice(mean, scale_index))

    def pop_lattice(self, mean: Ints, scale_index: Indices) -> NDArray[np.int32]:
        """Pop what :meth:`push_lattice` pushed.

        Raises:
            FormatError: it was not pushed by that.
        """
        n = self._pop(_plan_lattice(mean, scale_index))
        if n.size and max(-int(n.min()) - 1, int(n.max())) >> 31:
            raise FormatError(_DAMAGED)
        return n.astype(np.int32).reshape(mean.shape)

    def sample_lattice(self, mean: Ints, scale: float) -> NDArray[np.int32]:
        """Draw lattice points from discrete Gaussians, with the bits of the stack as the random numbers.

        Args:
            mean: as in :meth:`push_lattice`.
            scale: one for all, in units of the lattice, positive.

        Raises:
            StackExhausted: there are not enough bits; the stack is of no use afterwards.
        """
        return self._pop(_plan_sample(mean, scale), guard=True).astype(np.int32).reshape(mean.shape)

    def unsample_lattice(self, n: NDArray[np.int32], mean: Ints, scale: float) -> None:
        """Give back the bits that :meth:`sample_lattice` used to draw n.

        Raises:
            FormatError: a point that cannot have been drawn.
        """
        self._push(n, _plan_sample(mean, scale))

    def push_pixels(self, x: NDArray[np.uint8], mean: Ints, scale_index: Indices) -> None:
        """Push grey levels under discretised Gaussians with open edge bins.

        Args:
            x: grey levels, any shape.
            mean: in grey levels, MEAN_BITS fractional bits, the same shape; where it is more than OUTSIDE levels outside
                0..255, that far.
            scale_index: of PIXEL_GRID, the same shape.
        """
        self._push(x, _plan_pixels(mean, scale_index))

    def pop_pixels(self, mean: Ints, scale_index: Indices) -> NDArray[np.uint8]:
        """Pop what :meth:`push_pixels` pushed.

        Raises:
            FormatError: it was not pushed by that.
        """
        x = self._pop(_plan_pixels(mean, scale_index))
        if x.size and (x.min() < 0 or x.max() >= GREY_LEVELS):
            raise FormatError(_DAMAGED)
        return x.astype(np.uint8).reshape(mean.shape)

    def push_bytes(self, data: bytes) -> None:
        """Push bytes, each as a uniform symbol, so that the first is on top."""
        self._coder.encode_reverse(np.frombuffer(data, np.uint8).astype(np.int32), _BYTES)

    def pop_bytes(self, count: int) -> bytes:
        """Pop what :meth:`push_bytes` pushed.

        Raises:
            FormatError: there are fewer bytes on the stack.
        """
        if 8 * count > self.bits:
            raise FormatError(_DAMAGED)
        return bytes(self._coder.decode(_BYTES, count).astype(np.uint8).tobytes())

    def _push(self, values: NDArray[np.integer[Any]], plan: _Plan) -> None:
        symbols = values.ravel().astype(np.int64) - plan.first
        outside = (symbols < 0) | (symbols >= plan.count)
        order, groups = _group(plan.keys)
        if outside.any():
            if not all(plan.lookup(key).escape for key in set(plan.keys[outside].tolist())):
                raise FormatError(_DAMAGED)
            self._push_escaped(symbols[outside])
            symbols = np.where(outside, plan.count, symbols)
        sorted_symbols = symbols[order].astype(np.int32)
        for key, start, end in reversed(list(groups)):
            self._coder.encode_reverse(sorted_symbols[start:end], plan.lookup(key).model)

    def _pop(self, plan: _Plan, guard: bool = False) -> Ints:
        order, groups = _group(plan.keys)
        sorted_symbols = np.empty(len(order), dtype=np.int32)
        for key, start, end in groups:
            sorted_symbols[start:end] = self._coder.decode(plan.lookup(key).model, end - start)
            # An empty coder does not complain: it returns the lowest symbol for ever.
            if guard and self._coder.num_bits() < _MARGIN_BITS:
                raise StackExhausted("the stack has too few bits to sample from")
        symbols = np.empty(len(order), dtype=np.int64)
        symbols[order] = sorted_symbols
        # A table without escape has no such symbol.
        outside = symbols == plan.count
        if outside.any():
            symbols[outside] = self._pop_escaped(int(outside.sum()))
        return symbols + plan.first

    def _push_escaped(self, values: Ints) -> None:
        """Push integers that their tables lack: zig-zag, in limbs of 16 bits, the lowest on top."""
        codes = np.where(values >= 0, 2 * values, -2 * values - 1)
        if int(codes.max()) >> (_ESCAPE_BITS * _ESCAPE_LIMBS):
            raise ValueError("a value is too far from its mean to be coded")
        limbs = codes[:, None] >> (_ESCAPE_BITS * np.arange(_ESCAPE_LIMBS)) & ((1 << _ESCAPE_BITS) - 1)
        self._coder.encode_reverse(limbs.astype(np.int32).ravel(), _UNIFORM)

    def _pop_escaped(self, count: int) -> Ints:
        limbs = self._coder.decode(_UNIFORM, count * _ESCAPE_LIMBS).astype(np.int64).reshape(count, _ESCAPE_LIMBS)
        codes: Ints = (limbs << (_ESCAPE_BITS * np.arange(_ESCAPE_LIMBS))).sum(axis=1)
        return np.where(codes & 1, -(codes + 1 >> 1), codes >> 1)


def _words(data: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(data, dtype="<u4").astype(np.uint32)


def _group(keys: Indices) -> tuple[NDArray[np.intp], Iterator[tuple[int, int, int]]]:
    """Return the stable order of ``keys``, and (key, start, end) of every run of equal keys in that order."""
    # numpy sorts 16-bit integers by radix, in a tenth of the time that it takes for wider ones.
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    if keys.size and int(keys.max()) >> 16:
        order = order[np.argsort((keys >> 16).astype(np.uint16)[order], kind="stable")]
    return order, _runs(keys[order])


def _runs(sorted_keys: Indices) -> Iterator[tuple[int, int, int]]:
    if not len(sorted_keys):
        return
    starts = [0, *(np.flatnonzero(np.diff(sorted_keys)) + 1).tolist()]
    yield from zip(sorted_keys[starts].tolist(), starts, [*starts[1:], len(sorted_keys)], strict=True)


def _plan_lattice(mean: Ints, scale_index: Indices) -> _Plan:
    flat, scale = mean.ravel(), scale_index.ravel()
    window = LATTICE_GRID.windows[scale]
    fraction = (flat & _MEAN_MASK) >> (MEAN_BITS - LATTICE_GRID.fraction_bits[scale])
    keys = (scale * _FRACTIONS + fraction).astype(np.int32)
    return _Plan(keys, (flat >> MEAN_BITS) - window, 2 * window + 2, _lattice_lookup)


def _lattice_lookup(key: int) -> Table:
    return lattice_table(*divmod(key, _FRACTIONS))


def _plan_sample(mean: Ints, scale: float) -> _Plan:
    flat, window = mean.ravel(), sampling_window(scale)
    keys = ((flat & _MEAN_MASK) >> (MEAN_BITS - FRACTION_BITS)).astype(np.int32)
    return _Plan(keys, (flat >> MEAN_BITS) - window, 2 * window + 2, lambda key: sampling_table(scale, key))


def _plan_pixels(mean: Ints, scale_index: Indices) -> _Plan:
    scale = scale_index.ravel().astype(np.int64)
    flat = np.clip(mean.ravel(), -OUTSIDE << MEAN_BITS, (GREY_LEVELS + OUTSIDE << MEAN_BITS) - 1)
    floor = flat >> MEAN_BITS
    fraction = (flat & _MEAN_MASK) >> (MEAN_BITS - PIXEL_GRID.fraction_bits[scale])
    low, high = pixel_range(floor, scale)
    inside = high - low == 2 * PIXEL_GRID.windows[scale] + 1
    place = np.where(inside, 0, floor + OUTSIDE + 1)
    keys = ((scale * _FRACTIONS + fraction) * _PLACES + place).astype(np.int32)
    return _Plan(keys, floor + low, high - low + 1, _pixel_lookup)


def _pixel_lookup(key: int) -> Table:
    code, place = divmod(key, _PLACES)
    scale, fraction = divmod(code, _FRACTIONS)
    window = int(PIXEL_GRID.windows[scale])
    if not place:
        return pixel_table(scale, fraction, -window, window + 1)
    floor = place - 1 - OUTSIDE
    return pixel_table(scale, fraction, max(-floor, -window), min(GREY_LEVELS - 1 - floor, window + 1))
