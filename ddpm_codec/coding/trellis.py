r"""Trellis source coding: the cheapest path through a shared random codebook, by the Viterbi algorithm.

A register of L bits names a codeword. Every step shifts the next bits of the message in at the top,

    r <- (b << (L - 1)) | (r >> 1)   once for each bit,

and the codeword r then stands for the next few dimensions. A message of B bits is thus one of 2^B sequences of codewords,
and the encoder finds the one of the highest score without trying them all. It has as many states as a block of L bits has
codewords, but does not lose what every block loses at its end. Sources: Viterbi and Omura 1974 (trellis encoding of
memoryless sources); Tseng et al. 2024 (QTIP) for the shift register with random labels.
"""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.allocation import Ints
from ddpm_codec.compilation import compiled

Scores = NDArray[np.float32]
Bits = NDArray[np.uint8]

_CHUNK = 512
"""Codewords scored at once: their labels stay in the cache."""


class Search:
    """The best path of several streams of equal shape, side by side.

    Args:
        streams: how many.
        register_bits: L.
    """

    def __init__(self, streams: int, register_bits: int) -> None:
        self._register_bits = register_bits
        states = 1 << register_bits
        self._metric = np.full((streams, states), -np.inf, dtype=np.float32)
        self._metric[:, 0] = 0.0
        self._choices: list[NDArray[np.uint8]] = []

    def steps(self, bits: Ints, scores: Scores) -> None:
        """Shift in bits and add the scores of the codewords, step by step.

        Args:
            bits: of each step, [steps].
            scores: of each step, [steps, streams, 2**register_bits].
        """
        streams, states = self._metric.shape
        choices = np.zeros((int(bits.sum()), streams, _planes(states)), np.uint8)
        for stream in range(streams):
            _advance(stream, self._metric, bits, scores, choices)
        self._choices.append(choices)

    def finish(self) -> Bits:
        """Return the messages of the best paths, [bits, streams]."""
        streams, states = self._metric.shape
        choices = np.concatenate(self._choices) if self._choices else np.zeros((0, streams, 1), np.uint8)
        rows = np.arange(streams)
        state = self._metric.argmax(axis=1)
        message = np.empty((len(choices), streams), dtype=np.uint8)
        plane = _planes(states)
        for place in range(len(choices) - 1, -1, -1):
            message[place] = state >> (self._register_bits - 1)
            before = state & (states // 2 - 1)
            later = choices[place][rows, before % plane] >> (before // plane) & 1
            state = before << 1 | later
        return message


def _planes(states: int) -> int:
    """Return the bytes that a bit for every other state takes: bit k of byte j belongs to pair k planes + j."""
    return max(1, states // 16)


@compiled
def _advance(stream: int, metrics: Scores, bits: Ints, scores: Scores, choices: Bits) -> None:
    """Take steps of one stream: of each pair of states that lead to the same ones, the better survives.

    Args:
        stream: which.
        metrics: best score of a path to each state, [streams, states]; changed.
        bits: of each step, [steps].
        scores: of the codewords at each step, [steps, streams, states].
        choices: set to whether the later state of a pair survived, [bits in all, streams, planes], see :func:`_planes`; zero
            before.
    """
    metric = metrics[stream]
    half = len(metric) // 2
    plane = choices.shape[2]
    best = np.empty(half, np.float32)
    later = np.empty(half, np.uint8)
    place = 0
    for step in range(len(bits)):
        row = scores[step, stream]
        if bits[step] == 0:
            for state in range(2 * half):
                metric[state] += row[state]
        for left in range(bits[step] - 1, -1, -1):
            for pair in range(half):
                first, second = metric[2 * pair], metric[2 * pair + 1]
                later[pair] = second > first
                best[pair] = max(first, second)
            chosen = choices[place, stream]
            # Planes instead of neighbours in a byte: processors shift many bytes at once.
            for bit in range(half // plane):
                for byte in range(plane):
                    chosen[byte] |= later[bit * plane + byte] << bit
            place += 1
            if left:
                metric[:half] = best
                metric[half:] = best
            else:
                for state in range(half):
                    metric[state] = best[state] + row[state]
                    metric[half + state] = best[state] + row[half + state]


@compiled
def score(quadratic: Scores, linear: Scores, labels: Scores, scores: Scores) -> None:
    """Add up A n^2 + B n of every codeword.

    Args:
        quadratic: A of the dimensions of each codeword that is sent, [rows, width].
        linear: B of these.
        labels: n of every codeword, [>= width, codewords].
        scores: set to the sums, [rows, codewords].
    """
    rows, width = quadratic.shape
    codewords = labels.shape[1]
    for start in range(0, codewords, _CHUNK):
        end = min(start + _CHUNK, codewords)
        for row in range(rows):
            sums = scores[row, start:end]
            sums[:] = 0
            for dim in range(width):
                a, b, values = quadratic[row, dim], linear[row, dim], labels[dim, start:end]
                for place in range(end - start):
                    sums[place] += (a * values[place] + b) * values[place]


def registers(message: Bits, bits: Ints, register_bits: int) -> Ints:
    """Return the register after each step, [steps, streams].

    Args:
        message: [bits in all, streams].
        bits: that each step shifts in, [steps].
        register_bits: L.
    """
    ends = np.cumsum(bits)
    padded = np.concatenate([np.zeros((register_bits, message.shape[1]), np.int64), message.astype(np.int64)])
    found = np.zeros((len(bits), message.shape[1]), dtype=np.int64)
    # The newest bit is the highest.
    for age in range(register_bits):
        found |= padded[ends + register_bits - 1 - age] << (register_bits - 1 - age)
    return found
