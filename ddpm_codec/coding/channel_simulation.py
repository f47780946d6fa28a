r"""Channel simulation: sending x_s ~ q(x_s | x_t, x_0) by indices into a codebook of samples of p(x_s | x_t).

With x_s = m_p + S n, n a vector of standard normal labels from the shared codebook, and q = N(m_q, v),

    ln q(x_s) / p(x_s) = sum_i A_i n_i^2 + B_i n_i + const,   A = 1/2 - S^2 / (2 v),   B = S (m_q - m_p) / v,

by which all codewords are scored; the codeword of the highest score is sent. Indices overlap in a shift
register (:mod:`~ddpm_codec.coding.trellis`), at a fraction of the overhead that independent indices have. Sources: Harsha et
al. 2010; Havasi et al. 2019 (minimal random coding).

Which dimensions share a codeword follows from the expected costs (:mod:`~ddpm_codec.coding.allocation`), which both sides
know. Decoding is integers and table lookups; encoding scores in float32. Whatever codewords it chooses decode everywhere.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

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
from ddpm_codec.coding.codebook import WIDTH, Labels, codebook, scoring_labels
from ddpm_codec.coding.trellis import Bits, Search, registers, score
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


class ChannelCode(Protocol):
    """How the codewords of a step are chosen and written.

    Attributes:
        register_bits: log2 of the number of codewords.
    """

    register_bits: int

    def plan(self, classes: Classes, rate: int) -> Plan:
        """Return the plan for dimensions of the given classes [N], at ``rate`` (RATE_BITS) bits paid for a bit expected."""
        ...

    def encode(self, plan: Plan, quadratic: Floats32, linear: Floats32, threads: int = 1) -> bytes:
        """Return the message for A and B of every dimension, [N] each."""
        ...

    def decode(self, plan: Plan, data: bytes) -> Labels:
        """Return the labels of the coded dimensions in coding order, [coded].

        Raises:
            FormatError: the message has another length than that of the plan, or its filling is not zero.
        """
        ...


class TrellisCode:
    """Indices that overlap in a register of ``register_bits`` bits."""

    def __init__(self, register_bits: int) -> None:
        self.register_bits = register_bits

    def plan(self, classes: Classes, rate: int) -> Plan:
        """See :class:`ChannelCode`."""
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
        """See :class:`ChannelCode`; ``threads`` search side by side, and change nothing but the time."""
        if not plan.bits:
            return b""
        groups = [range(i, min(i + _TOGETHER, plan.streams)) for i in range(0, plan.streams, _TOGETHER)]
        dealt = [(deal(plan, run, quadratic), deal(plan, run, linear)) for run in plan.runs]

        def search(streams: range) -> Bits:
            found = Search(len(streams), self.register_bits)
            for run, (a, b) in zip(plan.runs, dealt, strict=True):
                part = slice(streams.start, streams.stop)
                done = 0
                for scores in self._scores(a[:, part], b[:, part]):
                    found.steps(run.bits[done : done + len(scores)], scores)
                    done += len(scores)
            return found.finish()

        scoring_labels(self.register_bits)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            message = np.concatenate(list(pool.map(search, groups)), axis=1)
        return np.packbits(message.ravel()).tobytes()

    def decode(self, plan: Plan, data: bytes) -> Labels:
        """See :class:`ChannelCode`."""
        message = unpack_bits(data, plan.bits).reshape(-1, plan.streams)
        steps = [run.bits for run in plan.runs]
        bits = np.concatenate(steps) if steps else np.zeros(0, np.int64)
        states = registers(message, bits, self.register_bits)
        return look_up(plan, states, self.register_bits)

    def _scores(self, a: Floats32, b: Floats32) -> Iterator[Floats32]:
        """Yield the scores of all codewords for the steps of a run, [steps, streams, 2**register_bits], some at a time."""
        labels = scoring_labels(self.register_bits)
        steps, streams, width = a.shape
        ahead = max(1, _SCORE_VALUES // (streams << self.register_bits))
        for start in range(0, steps, ahead):
            rows, linear = (values[start : start + ahead].reshape(-1, width) for values in (a, b))
            scores = np.empty((len(rows), labels.shape[1]), np.float32)
            score(rows, linear, labels, scores)
            yield scores.reshape(-1, streams, 1 << self.register_bits)


def deal(plan: Plan, run: Run, values: Floats32) -> Floats32:
    """Return the values of a run's dimensions as [steps, streams, width], filled up with 0."""
    shape = (len(run.bits), plan.streams, run.width)
    dealt = np.zeros(shape, dtype=np.float32)
    dealt.reshape(-1)[: run.dims] = values[plan.order[run.first : run.first + run.dims]]
    return dealt


def look_up(plan: Plan, states: Ints, register_bits: int) -> Labels:
    """Return the labels of all runs for the registers of all steps, [steps, streams]."""
    book = codebook(register_bits)
    out = np.empty(len(plan.order), dtype=np.int16)
    start = 0
    for run in plan.runs:
        here = states[start : start + len(run.bits)]
        out[run.first : run.first + run.dims] = book[:, : run.width][here].reshape(-1)[: run.dims]
        start += len(run.bits)
    return out


def unpack_bits(data: bytes, bits: int) -> Bits:
    """Return the bits of a message.

    Raises:
        FormatError: it has another length, or bits beyond its end.
    """
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8))
    if len(data) != -(-bits // 8) or unpacked[bits:].any():
        raise FormatError("a message has the wrong length, or padding bits that are not zero")
    return unpacked[:bits]
