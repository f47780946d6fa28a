"""Byte strings on a stack."""

import hashlib

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.streams import length_bytes, pop_streams, push_streams, whiten
from ddpm_codec.errors import FormatError

SEED = hashlib.shake_256(b"ddpm-codec test streams").digest(23)


@given(st.binary(max_size=300))
def test_whitening_is_its_own_inverse(data: bytes) -> None:
    assert whiten(whiten(data)) == data


def test_whitening_is_the_stream_of_the_format() -> None:
    assert whiten(bytes(40)) == hashlib.shake_256(b"ddpm-codec seed").digest(40)
    assert whiten(b"") == b""


@pytest.mark.parametrize(("longest", "wanted"), [(1, 1), (255, 1), (256, 2), (65535, 2), (65536, 3), (1 << 24, 4)])
def test_a_length_takes_the_bytes_that_the_longest_takes(longest: int, wanted: int) -> None:
    assert length_bytes(longest) == wanted


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_streams_come_back_and_take_their_bytes_and_two(streams: list[bytes]) -> None:
    stack = Stack.seeded(SEED)
    before = stack.bits
    push_streams(stack, streams, 300)
    assert stack.bits - before == pytest.approx(8 * sum(len(stream) + 2 for stream in streams), abs=32)
    again = Stack.from_bytes(stack.to_bytes())
    assert pop_streams(again, len(streams), 300) == streams
    assert again.remainder() == SEED


def test_the_order_is_that_of_the_format() -> None:
    """FORMAT.md, 7.3, written symbol by symbol: popped are the length of the first stream, its bytes, those of the next."""
    streams, longest = [b"first", b"", b"third one"], 1000
    symbols = []
    for stream in streams:
        symbols += [len(stream) % 256, len(stream) // 256]
        symbols += [
            byte ^ mask for byte, mask in zip(stream, hashlib.shake_256(b"ddpm-codec seed").digest(99), strict=False)
        ]
    coder = constriction.stream.stack.AnsCoder(np.arange(1, 6, dtype=np.uint32), seal=True)
    uniform = constriction.stream.model.Uniform(256)
    for symbol in reversed(symbols):
        coder.encode_reverse(np.array([symbol], np.int32), uniform)
    stack = Stack.seeded(np.arange(1, 6, dtype="<u4").tobytes())
    push_streams(stack, streams, longest)
    assert stack.to_bytes() == coder.get_compressed().astype("<u4").tobytes()


def test_a_length_beyond_the_limit_or_the_stack_is_refused() -> None:
    stack = Stack.seeded(SEED)
    push_streams(stack, [b"x" * 200], 255)
    with pytest.raises(FormatError, match="longer than its pixels"):
        pop_streams(stack.copy(), 1, 199)
    short = Stack.seeded(SEED)
    short.push_bytes((60_000).to_bytes(2, "little"))
    with pytest.raises(FormatError, match="damaged"):
        pop_streams(short, 1, 65_000)
    with pytest.raises(FormatError, match="damaged"):
        pop_streams(Stack.empty(), 1, 200)
