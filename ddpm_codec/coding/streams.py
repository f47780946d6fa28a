"""Byte strings on a stack: whitened, so that they are as good as random bits to whoever pops next.

A stack starts from the bytes of its seeds (:mod:`ddpm_codec.codecs.block`), and the streams of a pixel decoder lie on it
beside the latents of the chain.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from ddpm_codec.coding.ans import Stack
from ddpm_codec.errors import FormatError

WHITENING = b"ddpm-codec seed"


def whiten(data: bytes) -> bytes:
    """Return ``data`` xor SHAKE-256(WHITENING), which looks random; the function is its own inverse."""
    stream = hashlib.shake_256(WHITENING).digest(len(data))
    mixed = np.frombuffer(data, np.uint8) ^ np.frombuffer(stream, np.uint8)
    return mixed.tobytes()


def length_bytes(longest: int) -> int:
    """Return how many bytes hold the length of a stream of at most ``longest`` bytes."""
    return -(-longest.bit_length() // 8)


def push_streams(stack: Stack, streams: Sequence[bytes], longest: int) -> None:
    """Push streams, the first on top: its length, least significant byte on top, then its bytes.

    Args:
        stack: what they go onto.
        streams: none longer than ``longest`` bytes.
        longest: known to both sides.
    """
    for stream in reversed(streams):
        stack.push_bytes(whiten(stream))
        stack.push_bytes(len(stream).to_bytes(length_bytes(longest), "little"))


def pop_streams(stack: Stack, count: int, longest: int) -> list[bytes]:
    """Pop what :func:`push_streams` pushed.

    Raises:
        FormatError: a stream is longer than it can be, or than what is on the stack.
    """
    streams = []
    for _ in range(count):
        length = int.from_bytes(stack.pop_bytes(length_bytes(longest)), "little")
        if length > longest:
            raise FormatError("a stream is longer than its pixels")
        streams.append(whiten(stack.pop_bytes(length)))
    return streams
