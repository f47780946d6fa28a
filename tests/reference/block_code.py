"""Channel simulation by independent indices, which the trellis is measured against.

An index of C bits names the codeword of the highest score q / p, or one drawn with probability proportional to q / p, which
is distributed as q up to the finite codebook. Sources: Harsha et al. 2010; Havasi et al. 2019 (minimal random coding).
"""

import numpy as np

from ddpm_codec.coding.allocation import COST_BITS, Classes, Run, class_costs, coding_order
from ddpm_codec.coding.channel_simulation import RATE_BITS, Floats32, Plan, deal, look_up, unpack_bits
from ddpm_codec.coding.codebook import WIDTH, Labels, scoring_labels

_SCORE_VALUES = 1 << 21
"""Scores computed ahead."""


class BlockCode:
    """A :class:`~ddpm_codec.coding.channel_simulation.ChannelCode` of independent indices.

    Each index stands for as many dimensions as expect ``index_bits - slack`` bits.

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
        """Return the plan for dimensions of the given classes [N]; a higher ``rate`` makes smaller chunks."""
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
        """Return the message, one index after the other."""
        values = scoring_labels(self.register_bits)
        squares = values * values
        chosen = []
        for run in plan.runs:
            a, b = deal(plan, run, quadratic)[:, 0], deal(plan, run, linear)[:, 0]
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
        """Return the labels of the coded dimensions in coding order, [coded]."""
        message = unpack_bits(data, plan.bits).reshape(-1, self.register_bits).astype(np.int64)
        states = (message << np.arange(self.register_bits)).sum(axis=1)
        return look_up(plan, states[:, None], self.register_bits)
