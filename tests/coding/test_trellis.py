"""The search finds the best of all messages, and the shift register is what the documentation says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_codec.coding.trellis import Search, registers

SEVERAL_BITS = st.lists(st.integers(0, 3), max_size=8).filter(lambda bits: sum(bits) <= 10)


def find(bits: list[int], scores: np.ndarray, register_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the message [bits, streams] and the score that the search believes it has, [streams].

    Args:
        bits: of each step.
        scores: [steps, streams, 2**register_bits].
        register_bits: L.
    """
    search = Search(scores.shape[1], register_bits)
    for count, step in zip(bits, scores, strict=True):
        search.steps(np.array([count]), np.ascontiguousarray(step[None], np.float32))
    return search.finish(), search._metric.max(axis=1)


def totals(message: np.ndarray, bits: list[int], scores: np.ndarray, register_bits: int) -> np.ndarray:
    """Return the total score of every column of the message by the scores of one stream, [steps, 2**register_bits]."""
    states = registers(message, np.array(bits, dtype=np.int64), register_bits)
    return scores[np.arange(len(bits))[:, None], states].sum(axis=0)


def all_messages(count: int) -> np.ndarray:
    """Return the 2**count messages of ``count`` bits, [count, 2**count]."""
    return (np.arange(1 << count) >> np.arange(count)[:, None] & 1).astype(np.uint8)


def whole_scores(shape: tuple[int, ...], low: int, high: int, seed: int) -> np.ndarray:
    """Return scores that are whole numbers, whose sums in float32 are exact."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


@settings(max_examples=150)
@given(bits=SEVERAL_BITS, register_bits=st.integers(1, 6), seed=st.integers(0, 999), high=st.sampled_from([2, 9, 9999]))
def test_no_message_is_better(bits: list[int], register_bits: int, seed: int, high: int) -> None:
    """Against all 2^B messages; with scores of 0 and 1 most are ties."""
    scores = whole_scores((len(bits), 1, 1 << register_bits), -high, high, seed)
    message, believed = find(bits, scores, register_bits)
    assert message.shape == (sum(bits), 1)
    best = totals(all_messages(sum(bits)), bits, scores[:, 0], register_bits).max()
    assert totals(message, bits, scores[:, 0], register_bits).tolist() == [best]
    assert believed.tolist() == [best]


@pytest.mark.parametrize("register_bits", [4, 5, 6])
@pytest.mark.parametrize("bits", [[1] * 12, [0, 0, 3, 1, 2, 0, 3, 1, 2], [3, 3, 3, 3], [0, 2, 0, 7, 0, 3]])
def test_the_best_message_is_found_where_it_is_unique(register_bits: int, bits: list[int]) -> None:
    scores = np.random.default_rng(3).normal(size=(len(bits), 1, 1 << register_bits)).astype(np.float32)
    message, believed = find(bits, scores, register_bits)
    every = totals(all_messages(sum(bits)), bits, scores[:, 0].astype(np.float64), register_bits)
    found = totals(message, bits, scores[:, 0].astype(np.float64), register_bits)
    np.testing.assert_allclose(found, every.max(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(believed, found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("register_bits", [1, 2, 3, 4, 8])
def test_several_streams_are_searched_as_each_alone(register_bits: int) -> None:
    bits = [0, 1, 3, 0, 2, 1, 1, 0, 5]
    scores = whole_scores((len(bits), 5, 1 << register_bits), -100, 100, seed=register_bits)
    message, believed = find(bits, scores, register_bits)
    for stream in range(5):
        alone, total = find(bits, scores[:, stream : stream + 1], register_bits)
        np.testing.assert_array_equal(message[:, stream : stream + 1], alone)
        assert total.tolist() == [believed[stream]]


def test_a_long_message_beats_every_change_of_one_bit() -> None:
    bits = np.random.default_rng(1).integers(0, 4, 300).tolist()
    scores = whole_scores((300, 1, 64), -1000, 1000, seed=2)
    message, believed = find(bits, scores, 6)
    assert totals(message, bits, scores[:, 0], 6).tolist() == believed.tolist()
    changed = message ^ np.eye(len(message), dtype=np.uint8)
    assert totals(changed, bits, scores[:, 0], 6).max() <= believed[0]


def test_without_bits_there_is_one_message() -> None:
    message, believed = find([0, 0], whole_scores((2, 3, 16), 0, 9, seed=0), 4)
    assert message.shape == (0, 3)
    np.testing.assert_array_equal(believed, whole_scores((2, 3, 16), 0, 9, seed=0)[:, :, 0].sum(axis=0))


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 999))
def test_the_register_shifts_bit_by_bit(bits: list[int], register_bits: int, streams: int, seed: int) -> None:
    message = np.random.default_rng(seed).integers(0, 2, (sum(bits), streams)).astype(np.uint8)
    found = registers(message, np.array(bits, dtype=np.int64), register_bits)
    assert found.shape == (len(bits), streams)
    for stream in range(streams):
        coming = iter(message[:, stream].tolist())
        register = 0
        for count, now in zip(bits, found[:, stream].tolist(), strict=True):
            for _ in range(count):
                register = next(coming) << (register_bits - 1) | register >> 1
            assert now == register


def test_no_bits_keep_the_register() -> None:
    message = np.array([[1, 0], [1, 1], [0, 1]], dtype=np.uint8)
    found = registers(message, np.array([0, 1, 0, 0, 2, 0]), 3)
    assert found.tolist() == [[0, 0], [4, 0], [4, 0], [4, 0], [3, 6], [3, 6]]
