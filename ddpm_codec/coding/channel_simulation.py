r"""Channel simulation: sending x_s ~ q(x_s | x_t, x_0) by indices into a codebook of samples of p(x_s | x_t).

With x_s = m_p + S n, n a vector of standard normal labels from the shared codebook, and q = N(m_q, v),

    ln q(x_s) / p(x_s) = sum_i A_i n_i^2 + B_i n_i + const,   A = 1/2 - S^2 / (2 v),   B = S (m_q - m_p) / v,

so that all codewords are scored by two matrix products. What is sent is the codeword of the highest score ("best"), or
one drawn with probability proportional to q / p ("sample", which is distributed as q up to the finite codebook).

- :class:`BlockCode`: independent indices of C bits; as many dimensions to each as expect C - slack bits. Source: Harsha et
  al. 2010; Havasi et al. 2019 (minimal random coding).
- :class:`TrellisCode`: indices that overlap in a shift register (:mod:`~ddpm_codec.coding.trellis`), for a fraction of the
  overhead.

Which dimensions share a codeword follows from the expected costs (:mod:`~ddpm_codec.coding.allocation`), which both sides
know. Decoding is integers and table lookups; encoding scores in float32, so that two machines may choose different
codewords, both of which decode everywhere.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.allocation import (
    COST_BITS,
    Classes,
    Ints,
    Run,
    class_costs,
    coding_order,
)
from ddpm_codec.coding.codebook import WIDTH, Labels, codebook, scoring_matrices
from ddpm_codec.coding.trellis import Bits, Search, registers
from ddpm_codec.errors import FormatError

Floats32 = NDArray[np.float32]

RATE_BITS = 10
"""Fractional bits of a rate: bits paid for each bit expected."""

STREAM_BITS = 1 << 12
"""About as many bits make one stream; streams are searched side by side."""

_TOGETHER = 8
"""Streams searched at once: their metrics stay in the cache."""

_SCORE_VALUES = 1 << 21
"""Scores computed ahead."""


@dataclass(frozen=True)
class Plan:
    """How dimensions share codewords.

    Attributes:
        order: dimensions in coding order, [coded].
        runs: codewords by shape.
        streams: side by side.
    """

    order: Ints
    runs: tuple[Run, ...]
    streams: int

    @property
    def bits(self) -> int:
        """Bits of the message."""
        return self.streams * sum(int(run.bits.sum()) for run in self.runs)

    @property
    def byte_count(self) -> int:
        """Bytes of the message."""
        return -(-self.bits // 8)


class TrellisCode:
    """Indices that overlap in a register of ``register_bits`` bits."""

    def __init__(self, register_bits: int) -> None:
        self.register_bits = register_bits

    def plan(self, classes: Classes, rate: int) -> Plan:
        """Return the plan for dimensions of the given classes [N].

        Args:
            classes: of all dimensions.
            rate: bits paid for a bit expected, RATE_BITS fractional bits.
        """
        order, present = coding_order(classes)
        costs = class_costs() * rate >> RATE_BITS
        due_in_all = sum(dims * int(costs[place]) for place, dims in present)
        streams = max(1, due_in_all // (STREAM_BITS << COST_BITS))
        runs = []
        first = paid = 0
        for place, dims in present:
            cost = int(costs[place])
            width = min(WIDTH, max(1, -(-(1 << COST_BITS) // max(1, cost))))
            steps = -(-dims // (streams * width))
            # Every stream is filled but in the last step.
            due = np.minimum(np.arange(steps + 1) * (width * streams), dims) * cost // streams + paid
            # More than the register holds would be pushed out unread.
            bits = np.minimum(np.diff(due >> COST_BITS), self.register_bits)
            runs.append(Run(first, dims, width, bits))
            paid = int(due[-1]) & ((1 << COST_BITS) - 1)
            first += dims
        return Plan(order, tuple(runs), streams)

    def encode(self, plan: Plan, quadratic: Floats32, linear: Floats32, threads: int = 1) -> bytes:
        """Return the message of the best codewords.

        Args:
            plan: of these dimensions.
            quadratic: A of every dimension, [N].
            linear: B, [N].
            threads: to search with.
        """
        if not plan.bits:
            return b""
        groups = [range(i, min(i + _TOGETHER, plan.streams)) for i in range(0, plan.streams, _TOGETHER)]
        dealt = [(_deal(plan, run, quadratic), _deal(plan, run, linear)) for run in plan.runs]

        def search(streams: range) -> Bits:
            found = Search(len(streams), self.register_bits)
            for run, (a, b) in zip(plan.runs, dealt, strict=True):
                part = slice(streams.start, streams.stop)
                for bits, scores in zip(run.bits.tolist(), self._scores(a[:, part], b[:, part]), strict=True):
                    found.step(bits, scores)
            return found.finish()

        scoring_matrices(self.register_bits)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            message = np.concatenate(list(pool.map(search, groups)), axis=1)
        return np.packbits(message.ravel()).tobytes()

    def decode(self, plan: Plan, data: bytes) -> Labels:
        """Return the labels of the coded dimensions in coding order, [coded].

        Raises:
            FormatError: the message has another length than that of the plan, or its filling is not zero.
        """
        message = _unpack(data, plan.bits).reshape(-1, plan.streams)
        steps = [run.bits for run in plan.runs]
        bits = np.concatenate(steps) if steps else np.zeros(0, np.int64)
        states = registers(message, bits, self.register_bits)
        return _look_up(plan, states, self.register_bits)

    def _scores(self, a: Floats32, b: Floats32) -> Iterator[Floats32]:
        """Yield the scores of all codewords for each step of a run, [streams, 2**register_bits]."""
        squares, values = scoring_matrices(self.register_bits)
        steps, streams, width = a.shape
        ahead = max(1, _SCORE_VALUES // (streams << self.register_bits))
        for start in range(0, steps, ahead):
            rows = a[start : start + ahead].reshape(-1, width)
            scores = rows @ squares[:width]
            scores += b[start : start + ahead].reshape(-1, width) @ values[:width]
            yield from scores.reshape(-1, streams, 1 << self.register_bits)


class BlockCode:
    """Independent indices of ``index_bits`` bits; each has the dimensions that expect ``index_bits - slack`` bits.

    Args:
        index_bits: C.
        slack: bits paid beyond the expected KL of a chunk.
        generator: draws an index with probability proportional to q / p; None: the best one is taken.
    """

    def __init__(self, index_bits: int, slack: float, generator: np.random.Generator | None = None) -> None:
        self.register_bits = index_bits
        self._target = int((index_bits - slack) * (1 << COST_BITS))
        self._generator = generator

    def plan(self, classes: Classes, rate: int = 1 << RATE_BITS) -> Plan:
        """Return the plan for dimensions of the given classes [N].

        Args:
            classes: of all dimensions.
            rate: RATE_BITS fractional bits; a higher one makes smaller chunks.
        """
        order, present = coding_order(classes)
        costs = np.maximum(1, class_costs() * rate >> RATE_BITS)
        runs: list[Run] = []
        first = waiting = spent = 0

        def emit(dims: int, width: int) -> None:
            nonlocal first
            if dims:
                runs.append(Run(first, dims, width, np.full(-(-dims // width), self.register_bits)))
                first += dims

        for place, dims in present:
            cost, left = int(costs[place]), dims
            if waiting:
                # What the classes before left over is filled up with this one.
                taken = min(left, max(0, self._target - spent) // cost, WIDTH - waiting)
                waiting, spent, left = waiting + taken, spent + taken * cost, left - taken
                if not left:
                    continue
                emit(waiting, waiting)
            width = min(WIDTH, max(1, self._target // cost))
            waiting = left % width
            spent = waiting * cost
            emit(left - waiting, width)
        emit(waiting, waiting)
        return Plan(order, tuple(runs), 1)

    def encode(self, plan: Plan, quadratic: Floats32, linear: Floats32, threads: int = 1) -> bytes:
        """Return the message, one index after the other; see :meth:`TrellisCode.encode`. One thread does it."""
        squares, values = scoring_matrices(self.register_bits)
        chosen = []
        for run in plan.runs:
            a, b = _deal(plan, run, quadratic)[:, 0], _deal(plan, run, linear)[:, 0]
            ahead = max(1, _SCORE_VALUES >> self.register_bits)
            for start in range(0, len(a), ahead):
                scores = a[start : start + ahead] @ squares[: run.width]
                scores += b[start : start + ahead] @ values[: run.width]
                if self._generator is not None:
                    # Gumbel-max: the arg-max is then a draw from softmax(scores).
                    scores += self._generator.gumbel(size=scores.shape)
                chosen.append(scores.argmax(axis=1))
        states = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        # The lowest bit first, as a register takes them.
        message = states[:, None] >> np.arange(self.register_bits) & 1
        return np.packbits(message.astype(np.uint8).ravel()).tobytes()

    def decode(self, plan: Plan, data: bytes) -> Labels:
        """Return the labels of the coded dimensions in coding order; see :meth:`TrellisCode.decode`."""
        message = _unpack(data, plan.bits).reshape(-1, self.register_bits).astype(np.int64)
        states = (message << np.arange(self.register_bits)).sum(axis=1)
        return _look_up(plan, states[:, None], self.register_bits)


ChannelCode = TrellisCode | BlockCode


def _deal(plan: Plan, run: Run, values: Floats32) -> Floats32:
    """Return the values of a run's dimensions as [steps, streams, width], filled up with 0."""
    shape = (len(run.bits), plan.streams, run.width)
    dealt = np.zeros(shape, dtype=np.float32)
    dealt.reshape(-1)[: run.dims] = values[plan.order[run.first : run.first + run.dims]]
    return dealt


def _look_up(plan: Plan, states: Ints, register_bits: int) -> Labels:
    """Return the labels of all runs for the registers of all steps, [steps, streams]."""
    book = codebook(register_bits)
    out = np.empty(len(plan.order), dtype=np.int16)
    start = 0
    for run in plan.runs:
        here = states[start : start + len(run.bits)]
        out[run.first : run.first + run.dims] = book[:, : run.width][here].reshape(-1)[: run.dims]
        start += len(run.bits)
    return out


def _unpack(data: bytes, bits: int) -> Bits:
    """Return the bits of a message.

    Raises:
        FormatError: it has another length, or bits beyond its end.
    """
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8))
    if len(data) != -(-bits // 8) or unpacked[bits:].any():
        raise FormatError("a message has the wrong length or a filling that is not zero")
    return unpacked[:bits]
