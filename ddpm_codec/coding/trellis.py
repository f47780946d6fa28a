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

Scores = NDArray[np.float32]
Bits = NDArray[np.uint8]


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
        self._best = np.empty((streams, states // 2), dtype=np.float32)
        self._later = np.empty((streams, states // 2), dtype=np.bool_)
        self._choices: list[NDArray[np.uint8]] = []

    def step(self, bits: int, scores: Scores) -> None:
        """Shift in ``bits`` bits and add the scores of the codewords, [streams, 2**register_bits]."""
        streams, states = self._metric.shape
        if not bits:
            self._metric += scores
            return
        pairs = self._metric.reshape(streams, states // 2, 2)
        both = self._metric.reshape(streams, 2, states // 2)
        for left in range(bits - 1, -1, -1):
            np.greater(pairs[:, :, 1], pairs[:, :, 0], out=self._later)
            np.maximum(pairs[:, :, 0], pairs[:, :, 1], out=self._best)
            self._choices.append(np.packbits(self._later, axis=1))
            if left:
                both[:] = self._best[:, None, :]
            else:
                np.add(self._best[:, None, :], scores.reshape(both.shape), out=both)

    def finish(self) -> Bits:
        """Return the messages of the best paths, [bits, streams]."""
        rows = np.arange(len(self._metric))
        state = self._metric.argmax(axis=1)
        half = 1 << (self._register_bits - 1)
        message = np.empty((len(self._choices), len(rows)), dtype=np.uint8)
        for place in range(len(self._choices) - 1, -1, -1):
            message[place] = state >> (self._register_bits - 1)
            before = state & (half - 1)
            later = self._choices[place][rows, before >> 3] >> (7 - (before & 7)) & 1
            state = before << 1 | later
        return message


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
