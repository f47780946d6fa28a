"""The stack: every push has its exact inverse, an empty stack says so, and the words never change."""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ddpm_codec.coding.ans import Stack, StackExhausted
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS, PIXEL_GRID
from ddpm_codec.errors import DdpmCodecError, FormatError

ONE = 1 << MEAN_BITS
SHAPES = hnp.array_shapes(max_dims=4, max_side=5)


def random_bytes(count: int, seed: int = 0) -> bytes:
    """Return bytes that are the same with every version of numpy."""
    return hashlib.shake_256(f"ddpm-codec test {seed}".encode()).digest(count)


def random_integers(low: int, high: int, count: int, seed: int) -> np.ndarray:
    """Return integers in [low, high)."""
    raw = np.frombuffer(random_bytes(8 * count, seed), "<u8") >> np.uint64(16)
    return low + (raw % np.uint64(high - low)).astype(np.int64)


@pytest.mark.parametrize("length", range(21))
@pytest.mark.parametrize("fill", [0, 1, 255])
def test_seeds_come_back_to_the_last_zero_byte(length: int, fill: int) -> None:
    data = bytes([fill]) * length
    assert Stack.seeded(data).remainder() == data
    assert Stack.from_bytes(Stack.seeded(data).to_bytes()).remainder() == data


@given(st.binary(max_size=64))
def test_any_seed_comes_back(data: bytes) -> None:
    stack = Stack.seeded(data)
    assert 8 * len(data) <= stack.bits <= 8 * len(data) + 64
    mean = np.arange(7) * ONE // 3
    stack.push_lattice(np.arange(7, dtype=np.int32), mean, np.full(7, 50, np.int32))
    stack = Stack.from_bytes(stack.to_bytes())
    stack.pop_lattice(mean, np.full(7, 50, np.int32))
    assert stack.remainder() == data


@pytest.mark.parametrize("data", [b"", b"\0", b"abc", b"\1\0\0\0\0\0\0\0", b"\0\0\0\0"])
def test_what_is_no_stack_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        Stack.from_bytes(data)


def test_leftovers_are_noticed() -> None:
    stack = Stack.seeded(random_bytes(40))
    stack.push_lattice(np.zeros(5, np.int32), np.zeros(5, np.int64), np.full(5, 100, np.int32))
    with pytest.raises(FormatError, match="does not end where it should"):
        stack.remainder()


def test_a_copy_is_independent() -> None:
    stack = Stack.seeded(random_bytes(101))
    before = stack.to_bytes()
    stack.copy().sample_lattice(np.zeros(20, np.int64), 0.75)
    assert stack.to_bytes() == before


@settings(max_examples=60)
@given(st.data())
def test_lattice_points_come_back_however_wild(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    n = data.draw(hnp.arrays(np.int32, shape))
    mean = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-(1 << 46), 1 << 46)))
    scale = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(0, len(LATTICE_GRID.scales) - 1)))
    stack = Stack.seeded(b"0123456789")
    before = stack.to_bytes()
    stack.push_lattice(n, mean, scale)
    got = stack.pop_lattice(mean, scale)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, n)
    assert stack.to_bytes() == before


@settings(max_examples=60)
@given(st.data())
def test_pixels_come_back_however_wild(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    x = data.draw(hnp.arrays(np.uint8, shape))
    grey = st.one_of(st.integers(-9 * ONE, 264 * ONE), st.integers(-(1 << 62), 1 << 62))
    mean = data.draw(hnp.arrays(np.int64, shape, elements=grey))
    scale = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(0, len(PIXEL_GRID.scales) - 1)))
    stack = Stack.seeded(b"0123456789")
    before = stack.to_bytes()
    stack.push_pixels(x, mean, scale)
    got = stack.pop_pixels(mean, scale)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, x)
    assert stack.to_bytes() == before


@given(
    mean=hnp.arrays(np.int64, SHAPES, elements=st.integers(-(1 << 40), 1 << 40)),
    scale=st.floats(0.05, 100.0),
    seed=st.integers(0, 1 << 20),
)
@settings(max_examples=40)
def test_samples_give_their_bits_back(mean: np.ndarray, scale: float, seed: int) -> None:
    stack = Stack.seeded(random_bytes(2000, seed))
    before = stack.to_bytes()
    n = stack.sample_lattice(mean, scale)
    assert n.shape == mean.shape
    stack.unsample_lattice(n, mean, scale)
    assert stack.to_bytes() == before


def test_all_pixels_under_all_scales() -> None:
    """Every grey level and every place of the mean, edges included, at each scale of a coarse choice."""
    x, floor, scale = np.meshgrid(np.arange(256), np.arange(-4, 260, 3), np.arange(0, 265, 24))
    mean = floor.astype(np.int64) * ONE + random_integers(0, ONE, floor.size, 5).reshape(floor.shape)
    stack = Stack.seeded(b"")
    stack.push_pixels(x.astype(np.uint8), mean, scale.astype(np.int32))
    np.testing.assert_array_equal(stack.pop_pixels(mean, scale.astype(np.int32)), x)
    assert stack.remainder() == b""


def test_a_wide_mix_of_tables_in_one_call() -> None:
    """More tables than 16 bits count."""
    count = 150_000
    mean = random_integers(-2 * ONE, 258 * ONE, count, 1)
    scale = random_integers(0, 200, count, 2).astype(np.int32)
    x = random_integers(0, 256, count, 3).astype(np.uint8)
    stack = Stack.seeded(b"")
    stack.push_pixels(x, mean, scale)
    np.testing.assert_array_equal(stack.pop_pixels(mean, scale), x)


def test_samples_follow_the_discrete_gaussian() -> None:
    count, scale = 100_000, 0.75
    mean = np.full(count, 5 * ONE + ONE // 4 + ONE // 128, dtype=np.int64)
    n = Stack.seeded(random_bytes(60_000)).sample_lattice(mean, scale)
    k = np.arange(3, 9)
    expected = np.exp(-0.5 * ((k - mean[0] / ONE) / scale) ** 2)
    expected *= count / np.exp(-0.5 * ((np.arange(-9, 20) - mean[0] / ONE) / scale) ** 2).sum()
    got = np.array([(n == value).sum() for value in k])
    assert (((got - expected) ** 2) / expected).sum() < 25  # chi squared, 5 degrees of freedom: p = 1e-4


@pytest.mark.parametrize("scale", [0.6, 1.3, 4.0])
def test_the_size_is_the_information_content(scale: float) -> None:
    count = 20_000
    mean = random_integers(-30 * ONE, 30 * ONE, count, 1)
    real = mean / ONE
    n = Stack.seeded(random_bytes(count)).sample_lattice(mean, scale)
    stack = Stack.seeded(b"")
    index = np.full(count, LATTICE_GRID.index(np.array(scale)), dtype=np.int32)
    before = stack.bits
    stack.push_lattice(n, mean, index)
    k = np.floor(real)[:, None] + np.arange(-60, 62)
    log_z = np.log(np.exp(-0.5 * ((k - real[:, None]) / scale) ** 2).sum(axis=1))
    ideal_bits = (0.5 * ((n - real) / scale) ** 2 + log_z).sum() / np.log(2)
    assert (stack.bits - before) / count == pytest.approx(ideal_bits / count, abs=3e-3)


@pytest.mark.parametrize("length", [0, 3, 8, 100, 1000])
def test_an_empty_stack_says_so(length: int) -> None:
    with pytest.raises(StackExhausted, match="too few bits"):
        Stack.seeded(random_bytes(length)).sample_lattice(np.zeros(10_000, np.int64), 0.75)


def test_exhaustion_is_an_error_of_the_toolkit_and_a_value_error() -> None:
    assert issubclass(StackExhausted, DdpmCodecError)
    assert issubclass(StackExhausted, ValueError)


def test_what_cannot_have_been_sampled_is_damage() -> None:
    with pytest.raises(FormatError, match="damaged"):
        Stack.seeded(b"").unsample_lattice(np.array([0, 40], np.int32), np.zeros(2, np.int64), 0.75)


def test_a_value_too_far_for_the_escape_is_refused() -> None:
    far = np.array([-(1 << 63)], dtype=np.int64)
    with pytest.raises(ValueError, match="too far"):
        Stack.seeded(b"").push_lattice(np.array([2**31 - 1], np.int32), far, np.zeros(1, np.int32))


@pytest.mark.parametrize("seed", range(5))
def test_foreign_words_pop_as_something_or_as_damage(seed: int) -> None:
    """Never another exception: whoever decodes checks sums and what is left."""
    stack = Stack.from_bytes(random_bytes(400, seed) + b"\1\0\0\0")
    mean = random_integers(-2 * ONE, 258 * ONE, 3000, seed)
    scale = random_integers(0, 200, 3000, seed).astype(np.int32)
    for pop in (stack.pop_pixels, stack.pop_lattice):
        popped: Callable[[Any, Any], np.ndarray] = pop
        with contextlib.suppress(FormatError):
            assert popped(mean, scale).shape == mean.shape


@given(
    flips=st.lists(st.tuples(st.integers(0, 582), st.integers(1, 255)), min_size=1, max_size=4), cut=st.integers(0, 99)
)
def test_damaged_words_pop_as_something_or_as_damage(flips: list[tuple[int, int]], cut: int) -> None:
    """Bytes of a coded stack changed or cut off: an error of the format or another stack, and no other exception."""
    data = bytearray(golden_stack().to_bytes())
    for place, change in flips:
        data[place] ^= change
    damaged = bytes(data[: len(data) - max(0, cut - 50)])
    try:
        stack = Stack.from_bytes(damaged)
    except FormatError:
        # A stack has words, and the last is not zero.
        words = damaged[len(damaged) % 4 :]
        assert not words or words[-4:] == bytes(4)
        return
    assert stack.to_bytes() == damaged
    with contextlib.suppress(FormatError):
        pop_golden(stack)


def test_nothing_is_nothing() -> None:
    none = np.zeros((0, 3), np.int64)
    stack = Stack.seeded(b"abcde")
    stack.push_lattice(none.astype(np.int32), none, none.astype(np.int32))
    assert stack.pop_lattice(none, none.astype(np.int32)).shape == (0, 3)
    assert stack.pop_pixels(none, none.astype(np.int32)).shape == (0, 3)
    assert stack.sample_lattice(none, 0.75).shape == (0, 3)
    assert stack.remainder() == b"abcde"


GOLDEN = 400
GOLDEN_MEAN = random_integers(-50 * ONE, 50 * ONE, GOLDEN, 2)
GOLDEN_SCALE = random_integers(0, 217, GOLDEN, 3).astype(np.int32)
GOLDEN_WILD = np.array([-(2**31), 2**31 - 1], np.int32), GOLDEN_MEAN[:2], np.array([9, 99], np.int32)
GOLDEN_X = random_integers(0, 256, GOLDEN, 4).astype(np.uint8)
GOLDEN_NEAR = GOLDEN_X.astype(np.int64) * ONE + random_integers(-ONE, ONE, GOLDEN, 5)
GOLDEN_PIXEL_SCALE = random_integers(0, 265, GOLDEN, 6).astype(np.int32)


def golden_stack() -> Stack:
    stack = Stack.seeded(random_bytes(203, 1))
    n = stack.sample_lattice(GOLDEN_MEAN, 0.75)
    stack.push_lattice(n, GOLDEN_MEAN + ONE // 3, GOLDEN_SCALE)
    stack.push_lattice(*GOLDEN_WILD)
    stack.push_pixels(GOLDEN_X, GOLDEN_NEAR, GOLDEN_PIXEL_SCALE)
    return stack


def pop_golden(stack: Stack) -> bytes:
    """Undo :func:`golden_stack`; return the seed."""
    stack.pop_pixels(GOLDEN_NEAR, GOLDEN_PIXEL_SCALE)
    stack.pop_lattice(*GOLDEN_WILD[1:])
    n = stack.pop_lattice(GOLDEN_MEAN + ONE // 3, GOLDEN_SCALE)
    stack.unsample_lattice(n, GOLDEN_MEAN, 0.75)
    return stack.remainder()


def test_golden_words() -> None:
    """The bytes of a fixed input: they may never change within a version of the file format."""
    data = golden_stack().to_bytes()
    assert pop_golden(Stack.from_bytes(data)) == random_bytes(203, 1)
    assert len(data) == 583
    assert hashlib.sha256(data).hexdigest() == "af7ee843695ac1741486d4b629dcd95c8a9440999a718c45ba190bfee7409a24"
