"""Channel simulation: messages decode to what was chosen, what is chosen is the best or a true sample, and its price."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from ddpm_codec.coding import channel_simulation
from ddpm_codec.coding.allocation import COST_BITS, UNCODED, class_costs, cost_class
from ddpm_codec.coding.channel_simulation import RATE_BITS, ChannelCode, Plan, TrellisCode
from ddpm_codec.coding.codebook import LABEL_BITS, WIDTH, codebook
from ddpm_codec.errors import FormatError
from tests.reference.block_code import BlockCode

ONE = 1 << RATE_BITS
CODES = [TrellisCode(6), BlockCode(6, 1.0)]


@contextmanager
def short_streams(bits: int) -> Iterator[None]:
    """Make streams of so few bits that small data have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel_simulation, "STREAM_BITS", bits)
        yield


def channel(spend_bits: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return v and m_q of q = N(m_q, v) where p = N(0, 1): what dimensions of so many expected bits look like."""
    variance = 4.0**-spend_bits
    return variance, np.random.default_rng(seed).normal(0, np.sqrt(1 - variance))


def coefficients(variance: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B of ln q / p."""
    return (0.5 - 0.5 / variance).astype(np.float32), (mean / variance).astype(np.float32)


def random_coefficients(classes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B of dimensions of the given classes."""
    costs = np.append(class_costs(), 1)[classes] / (1 << COST_BITS)
    return coefficients(*channel(costs, seed))


def standardised(code: ChannelCode, plan: Plan, variance: np.ndarray, mean: np.ndarray, message: bytes) -> np.ndarray:
    """Return (n - m_q) / sqrt(v) of the coded dimensions in coding order."""
    labels = code.decode(plan, message) / (1 << LABEL_BITS)
    return (labels - mean[plan.order]) / np.sqrt(variance[plan.order])


def labels_one_by_one(code: ChannelCode, plan: Plan, message: bytes) -> list[int]:
    """Return the labels by a register for each stream, as the documentation says it.

    The bits of a block, the lowest first, fill the register: one reading does for both codes.
    """
    bits = np.unpackbits(np.frombuffer(message, np.uint8))[: plan.bits].tolist()
    coming = [iter(bits[stream :: plan.streams]) for stream in range(plan.streams)]
    if isinstance(code, BlockCode):
        assert plan.streams == 1
    register = [0] * plan.streams
    book = codebook(code.register_bits)
    labels: list[int] = []
    for run in plan.runs:
        found: list[int] = []
        for count, stream in product(run.bits.tolist(), range(plan.streams)):
            for _ in range(count):
                register[stream] = next(coming[stream]) << (code.register_bits - 1) | register[stream] >> 1
            found += book[register[stream], : run.width].tolist()
        labels += found[: run.dims]
    return labels


def check_round_trip(code: ChannelCode, classes: np.ndarray, rate: int, seed: int) -> Plan:
    """Assert that a message has the planned length and stands for codewords."""
    plan = code.plan(classes, rate)
    message = code.encode(plan, *random_coefficients(classes, seed))
    assert len(message) == plan.byte_count == -(-plan.bits // 8)
    assert message == code.encode(plan, *random_coefficients(classes, seed), threads=2)
    labels = code.decode(plan, message)
    assert labels.dtype == np.int16
    assert labels.shape == plan.order.shape == (np.count_nonzero(classes < UNCODED),)
    assert labels.tolist() == labels_one_by_one(code, plan, message)
    return plan


CLASS_LISTS = st.one_of(
    st.lists(st.integers(0, UNCODED), max_size=60),
    st.lists(st.sampled_from([30, 31, UNCODED - 1, UNCODED]), max_size=400),
    st.lists(st.just(UNCODED), max_size=9),
)
RATES = st.one_of(st.integers(ONE // 2, 2 * ONE), st.sampled_from([0, 1, ONE, 8 * ONE]))


@settings(max_examples=100)
@given(CLASS_LISTS, RATES, st.integers(4, 8), st.sampled_from([4, 30, 1 << 12]), st.integers(0, 99))
def test_a_trellis_message_stands_for_codewords(
    classes: list[int], rate: int, register_bits: int, stream_bits: int, seed: int
) -> None:
    with short_streams(stream_bits):
        check_round_trip(TrellisCode(register_bits), np.array(classes, np.uint8), rate, seed)


@settings(max_examples=60)
@given(CLASS_LISTS, RATES, st.integers(4, 8), st.sampled_from([0.0, 0.5, 2.0, 9.0]), st.integers(0, 99))
def test_a_block_message_stands_for_codewords(
    classes: list[int], rate: int, index_bits: int, slack: float, seed: int
) -> None:
    check_round_trip(BlockCode(index_bits, slack), np.array(classes, np.uint8), rate, seed)


@pytest.mark.parametrize("code", CODES, ids=["trellis", "block"])
@pytest.mark.parametrize("classes", [[], [UNCODED], [UNCODED] * 7])
def test_nothing_coded_is_an_empty_message(code: ChannelCode, classes: list[int]) -> None:
    plan = check_round_trip(code, np.array(classes, np.uint8), ONE, seed=0)
    assert plan.byte_count == 0
    with pytest.raises(FormatError):
        code.decode(plan, b"\0")


@pytest.mark.parametrize("place", [0, 30, UNCODED - 1])
def test_one_dimension(place: int) -> None:
    """A trellis pays whole bits only, and no more than its register holds; an index is paid as a whole."""
    expected = min(6, int(class_costs()[place]) >> COST_BITS)
    assert check_round_trip(TrellisCode(6), np.array([UNCODED, place], np.uint8), ONE, seed=0).bits == expected
    assert check_round_trip(BlockCode(6, 1.0), np.array([place], np.uint8), ONE, seed=0).bits == 6


def test_large_data_have_several_streams_of_equal_length() -> None:
    classes = np.sort(np.random.default_rng(0).integers(0, 20, 5000)).astype(np.uint8)
    plan = check_round_trip(TrellisCode(4), classes, ONE, seed=1)
    expected = class_costs()[classes].sum() / (1 << COST_BITS)
    assert plan.streams == int(expected / channel_simulation.STREAM_BITS) > 8
    assert plan.bits % plan.streams == 0


@settings(max_examples=60)
@given(CLASS_LISTS, RATES, st.sampled_from([4, 30, 1 << 12]))
def test_a_trellis_pays_what_the_rate_says(classes: list[int], rate: int, stream_bits: int) -> None:
    """Each stream loses the fraction of a bit at its end; a class loses less than a unit of cost, rounded to streams."""
    with short_streams(stream_bits):
        plan = TrellisCode(16).plan(np.array(classes, np.uint8), rate)
    coded = [c for c in classes if c < UNCODED]
    due = int((class_costs()[coded] * rate >> RATE_BITS).sum()) / (1 << COST_BITS)
    assert plan.bits <= due
    if all(run.bits.max() < 16 for run in plan.runs):
        assert plan.bits >= due - plan.streams - 1e-3 * plan.streams * (len(plan.runs) + 1)
    assert sum(run.dims for run in plan.runs) == len(coded)


@settings(max_examples=60)
@given(CLASS_LISTS, st.integers(ONE // 2, 2 * ONE), st.integers(4, 14), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_chunk_expects_what_its_index_pays_less_the_slack(
    classes: list[int], rate: int, index_bits: int, slack: float
) -> None:
    """As many dimensions as fit, at least one, and no more than a codeword has; whatever their classes."""
    found = np.array(classes, np.uint8)
    plan = BlockCode(index_bits, slack).plan(found, rate)
    costs = (class_costs() * rate >> RATE_BITS)[found[plan.order]] if len(plan.order) else np.zeros(0)
    target = int((index_bits - slack) * (1 << COST_BITS))
    end = 0
    for run in plan.runs:
        assert run.first == end
        assert run.bits.tolist() == [index_bits] * -(-run.dims // run.width)
        for start in range(run.first, run.first + run.dims, run.width):
            end = min(start + run.width, run.first + run.dims)
            assert end - start == 1 or costs[start:end].sum() <= target
            assert end - start == WIDTH or end == len(costs) or costs[start : end + 1].sum() > target
    assert end == len(plan.order)


def every_message(plan: Plan) -> Iterator[bytes]:
    """Yield all messages of a plan."""
    filling = 8 * plan.byte_count - plan.bits
    for number in range(1 << plan.bits):
        yield (number << filling).to_bytes(plan.byte_count, "big")


@pytest.mark.parametrize(
    ("code", "classes", "stream_bits"),
    [
        (TrellisCode(4), [32] * 9, 4096),
        (TrellisCode(5), [20, 20, 32, 33, 34, 50, 60, 61, 61, 61, 70, 80], 4096),
        (TrellisCode(4), [24, 25, 32, 32, 40, 50, 51, 60, 61, UNCODED], 2),
        (BlockCode(4, 0.0), [24, 24, 32, 32, 32, 32, UNCODED], 4096),
        (BlockCode(10, 2.0), [32] * 7, 4096),
    ],
    ids=["one class", "several classes", "several streams", "blocks", "one block"],
)
def test_no_message_is_better(code: ChannelCode, classes: list[int], stream_bits: int) -> None:
    """Against the scores of all messages in float64, with the coefficients by dimension: all orders must agree."""
    with short_streams(stream_bits):
        plan = code.plan(np.array(classes, np.uint8), ONE)
    assert 6 <= plan.bits <= 12
    assert (plan.streams > 1) == (stream_bits == 2)
    for seed in range(5):
        a, b = random_coefficients(np.array(classes), seed)
        labels = np.stack([code.decode(plan, message) for message in every_message(plan)]) / (1 << LABEL_BITS)
        scores = labels**2 @ a[plan.order].astype(np.float64) + labels @ b[plan.order].astype(np.float64)
        message = code.encode(plan, a, b)
        found = scores[int.from_bytes(message, "big") >> (8 * len(message) - plan.bits)]
        assert found >= scores.max() - 1e-4


@pytest.mark.parametrize("streams", [2, 8, 9, 20])
def test_threads_do_not_change_the_message(streams: int) -> None:
    classes = np.full(400, 32, np.uint8)
    with short_streams(int(400 * class_costs()[32] / (1 << COST_BITS)) // streams):
        plan = TrellisCode(6).plan(classes, ONE)
    assert plan.streams >= streams
    a, b = random_coefficients(classes, seed=streams)
    first = TrellisCode(6).encode(plan, a, b, threads=1)
    for threads in (0, 2, 3):
        assert TrellisCode(6).encode(plan, a, b, threads=threads) == first


SAMPLED_DIMS = 2
SAMPLED_BITS = 2.0 ** (-1 / 16)
"""The middle of a class: two dimensions of 0.957 bits share an index."""


def sampled(
    generator: np.random.Generator | None, index_bits: int, seed: int, chunks: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n - m_q) / sqrt(v) and m_q of chunks of 1.91 bits, [chunks, SAMPLED_DIMS] each."""
    variance, mean = channel(np.full(chunks * SAMPLED_DIMS, SAMPLED_BITS), seed)
    code = BlockCode(index_bits, index_bits - 2.0, generator)
    plan = code.plan(cost_class(1 / variance))
    assert [run.width for run in plan.runs] == [SAMPLED_DIMS]
    message = code.encode(plan, *coefficients(variance, mean))
    noise = standardised(code, plan, variance, mean, message)
    return noise.reshape(-1, SAMPLED_DIMS), mean[plan.order].reshape(-1, SAMPLED_DIMS)


def normality(noise: np.ndarray) -> list[float]:
    """Return the Kolmogorov-Smirnov p-value of each dimension of a chunk."""
    return [float(kstest(noise[:, i], "norm").pvalue) for i in range(SAMPLED_DIMS)]


def correlations(noise: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what a draw from q has not: correlations of noise with mean, and between dimensions."""
    return np.corrcoef(noise.T, mean.T)[:SAMPLED_DIMS][np.triu_indices(SAMPLED_DIMS, 1, 2 * SAMPLED_DIMS)]


@pytest.mark.parametrize(("index_bits", "seed"), [(12, 1), (14, 2)])
def test_drawn_codewords_are_distributed_as_q(index_bits: int, seed: int) -> None:
    """Kolmogorov-Smirnov at 1 % for all dimensions together; correlation and variance within four standard errors.

    m_q is random, and noise that depends on it can be normal over all chunks: hence the correlation. The variance is what
    notices draws from softmax(1.1 scores).
    """
    noise, mean = sampled(np.random.default_rng(seed), index_bits, seed, chunks=3000)
    assert min(normality(noise)) > 0.01 / SAMPLED_DIMS
    assert np.abs(correlations(noise, mean)).max() < 4 / np.sqrt(len(noise))
    assert abs((noise**2).mean() - 1) < 4 * np.sqrt(2 / noise.size)


def test_the_best_codewords_are_not_distributed_as_q() -> None:
    """The same tests refuse them, as they must: the best are near the peak of q / p, at m_q / (1 - v)."""
    noise, mean = sampled(None, 12, seed=1)
    assert max(normality(noise)) < 1e-9
    assert np.abs(correlations(noise, mean)).max() > 0.9


def test_draws_are_repeated_with_their_seed() -> None:
    first, again, other = (sampled(np.random.default_rng(seed), 8, seed=5)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("slack", [1.0, 2.0, 4.0])
def test_the_divergence_of_a_chunk_is_what_its_index_pays_less_the_slack(slack: float) -> None:
    """The exact KL(q || p) of the data, to the bits of the message, within the rounding to whole dimensions."""
    variance, mean = channel(np.full(40_000, 2.0 ** (-31 / 16)), seed=3)
    divergence_bits = 0.5 * (variance + mean**2 - 1 - np.log(variance)) / np.log(2)
    plan = BlockCode(12, slack).plan(cost_class(1 / variance))
    chunks = plan.bits / 12
    per_chunk = divergence_bits.sum() / chunks
    # Its standard error is about 0.4 % here.
    assert 0.985 * (12 - slack - 2.0 ** (-31 / 16)) < per_chunk < 1.015 * (12 - slack)


GREEDY_DIMS = 200_000


def gaussian_data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return v and m_q of dimensions that expect 0.3 bits each, most of them between 0.15 and 0.6."""
    return channel(0.3 * 2.0 ** np.random.default_rng(seed).normal(0, 0.5, GREEDY_DIMS), seed + 1000)


def bits_and_noise(code: ChannelCode, rate: int, seed: int) -> tuple[float, float]:
    """Return the bits paid for a bit expected, and the mean of (n - m_q)^2 / v."""
    variance, mean = gaussian_data(seed)
    classes = cost_class(1 / variance)
    plan = code.plan(classes, rate)
    message = code.encode(plan, *coefficients(variance, mean))
    expected = class_costs()[classes].sum() / (1 << COST_BITS)
    return plan.bits / expected, float((standardised(code, plan, variance, mean, message) ** 2).mean())


def test_a_trellis_reaches_the_noise_of_q_for_a_few_percent() -> None:
    """1.08 bits for each bit expected: measured 0.992 with a standard deviation of 0.004 over six seeds."""
    paid, noise = bits_and_noise(TrellisCode(12), round(1.08 * ONE), seed=0)
    assert 1.079 < paid < 1.081
    assert 0.97 < noise < 1.01


def test_a_trellis_pays_for_every_bit_it_is_given() -> None:
    """With a register of 8 bits; measured 1.240, 1.034 and 0.852."""
    noises = [bits_and_noise(TrellisCode(8), rate, seed=0)[1] for rate in (ONE // 2, ONE, 2 * ONE)]
    assert noises[0] > 1.1 * noises[1] > 1.1 * 1.1 * noises[2]


@pytest.mark.parametrize(("slack", "rate"), [(2.0, 1.12), (1.0, 1.02)])
def test_a_trellis_needs_fewer_bits_than_blocks_for_the_same_noise(slack: float, rate: float) -> None:
    """Measured over six seeds, bits for a bit expected and noise.

    | blocks of 12 bits        | trellis of 12 bits       |
    | slack 2: 1.225 at 0.983  | 1.119 at 0.983, -8.6 %   |
    | slack 1: 1.112 at 1.015  | 1.020 at 1.010, -8.3 %   |

    The noise of one seed has a standard deviation of 0.003; with this one it is 0.982 against 0.985, 1.006 against 1.014.
    """
    block_paid, block_noise = bits_and_noise(BlockCode(12, slack), ONE, seed=0)
    trellis_paid, trellis_noise = bits_and_noise(TrellisCode(12), round(rate * ONE), seed=0)
    assert trellis_paid < 0.92 * block_paid
    assert trellis_noise <= block_noise


@pytest.fixture(params=CODES, ids=["trellis", "block"])
def sent(request: pytest.FixtureRequest) -> tuple[ChannelCode, Plan, bytes]:
    """Return a code, a plan with a message that does not end on a byte, and the message."""
    code = request.param
    classes = np.random.default_rng(4).integers(20, UNCODED + 1, 307).astype(np.uint8)
    plan = code.plan(classes, ONE)
    assert plan.bits % 8
    return code, plan, code.encode(plan, *random_coefficients(classes, seed=4))


def test_messages_of_another_length_are_refused(sent: tuple[ChannelCode, Plan, bytes]) -> None:
    code, plan, message = sent
    for wrong in (b"", message[:-1], message[1:], message[:1], message + b"\0", message + message):
        with pytest.raises(FormatError):
            code.decode(plan, wrong)


def test_filling_that_is_not_zero_is_refused(sent: tuple[ChannelCode, Plan, bytes]) -> None:
    code, plan, message = sent
    for place in range(8 * plan.byte_count - plan.bits):
        with pytest.raises(FormatError):
            code.decode(plan, message[:-1] + bytes([message[-1] | 1 << place]))


def test_damaged_messages_decode_to_other_codewords(sent: tuple[ChannelCode, Plan, bytes]) -> None:
    code, plan, message = sent
    right = code.decode(plan, message)
    for place in range(len(message) - 1):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(message)
            damaged[place] ^= flip
            found = code.decode(plan, bytes(damaged))
            assert found.shape == right.shape
            assert (found != right).any()
    for flip in range(1, 256):
        ending = message[:-1] + bytes([message[-1] ^ flip])
        if flip % (1 << (8 * plan.byte_count - plan.bits)):
            with pytest.raises(FormatError):
                code.decode(plan, ending)
        else:
            assert code.decode(plan, ending).shape == right.shape


def test_noise_decodes(sent: tuple[ChannelCode, Plan, bytes]) -> None:
    """Any bytes of the right length are a message, but for the filling."""
    code, plan, _ = sent
    clear = 0xFF << (8 * plan.byte_count - plan.bits) & 0xFF
    generator = np.random.default_rng(6)
    for _ in range(50):
        noise = bytearray(generator.bytes(plan.byte_count))
        noise[-1] &= clear
        assert code.decode(plan, bytes(noise)).tolist() == labels_one_by_one(code, plan, bytes(noise))
