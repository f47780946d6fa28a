"""The shared codebook: standard normal, the same words by the published algorithm, and never different."""

import hashlib
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from scipy.stats import kstest, norm

from ddpm_codec.coding.codebook import LABEL_BITS, WIDTH, codebook, gaussian_labels, quantile_table, scoring_labels
from ddpm_codec.coding.trellis import score

UNIT = 1 << LABEL_BITS
QUANTILES = 1 << 16
MASK = (1 << 64) - 1

FIRST_LABELS = {
    10: [3734, 2, 3131, 3416, 929, -4115, 7524, -3074, -4387, 1222, -1196, -1122],
    12: [4108, -4076, -2521, 502, 6718, 2620, -6505, -538, -3935, -9419, -625, -3595],
}
TABLE_SHA256 = "1ea009ce409dac97d6bd609266910f809c5fb912f78e16bd89145b08174d6fc5"
CODEBOOK_10_SHA256 = "784a5ea99538e70b343efdaab72a74998cd5afed81daf5ef1d445b741cd104a4"


def philox_words(key: int) -> Iterator[int]:
    """Yield the words of Philox-4x64-10 under (key, 0) and the counters 1, 2, ... (Salmon et al. 2011, section 3.3)."""
    counter = 0
    while True:
        counter += 1
        c = [counter, 0, 0, 0]
        k = [key, 0]
        for _ in range(10):
            low, high = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [high >> 64 ^ c[1] ^ k[0], high & MASK, low >> 64 ^ c[3] ^ k[1], low & MASK]
            k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
        yield from c


def test_quantiles_mirror_each_other_and_increase() -> None:
    table = quantile_table().astype(np.int64)
    assert table.shape == (QUANTILES,)
    np.testing.assert_array_equal(table, -table[::-1])
    assert (np.diff(table) >= 0).all()


def test_quantiles_are_those_of_the_normal_distribution() -> None:
    """Both as the rounded inverse distribution and by the inequality that defines a label."""
    table = quantile_table().astype(np.float64)
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    np.testing.assert_array_equal(table, np.rint(norm.ppf(at) * UNIT))
    assert (norm.cdf((table - 0.5) / UNIT) < at).all()
    assert (at <= norm.cdf((table + 0.5) / UNIT)).all()


def test_quantiles_have_unit_variance() -> None:
    values = quantile_table() / UNIT
    # The variance of the midpoints of equal masses is that of the distribution less about 1e-4 in the tails.
    assert 0.9998 < (values**2).mean() < 1.0


@pytest.mark.parametrize("key", [0, 10, 1 << 32 | 7, (1 << 64) - 1])
def test_labels_are_those_of_the_published_generator(key: int) -> None:
    count = 1001
    words = islice(philox_words(key), -(-count // 4))
    sixteen = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)]
    expected = quantile_table()[np.array(sixteen[:count])]
    np.testing.assert_array_equal(gaussian_labels(key, count), expected)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 15, 16, 17, 999])
def test_a_stream_does_not_depend_on_how_much_of_it_is_asked_for(count: int) -> None:
    labels = gaussian_labels(77, count)
    assert labels.shape == (count,)
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(labels, gaussian_labels(77, 1000)[:count])


def test_streams_of_different_keys_have_nothing_in_common() -> None:
    count = 20_000
    streams = np.stack([gaussian_labels(key, count) for key in (0, 1, 2, 10, 1 << 32, 1 << 63)]) / UNIT
    correlations = np.asarray(np.corrcoef(streams))[np.triu_indices(len(streams), 1)]
    # Fifteen correlations of standard deviation 1 / sqrt(20,000): 4.5 of them are significant at 1e-4, corrected.
    assert np.abs(correlations).max() < 4.5 / np.sqrt(count)


@pytest.mark.parametrize("key", [10, 12, 1 << 40])
def test_labels_are_normal(key: int) -> None:
    """Kolmogorov-Smirnov at a significance of 0.1 %; the labels are fixed, so this holds or not for ever."""
    labels = gaussian_labels(key, 50_000) / UNIT
    assert kstest(labels, "norm").pvalue > 1e-3
    assert kstest(labels * 1.05, "norm").pvalue < 1e-3


@pytest.mark.parametrize("register_bits", [1, 4, 10])
def test_a_codebook_is_its_own_stream(register_bits: int) -> None:
    book = codebook(register_bits)
    assert book.shape == (1 << register_bits, WIDTH)
    np.testing.assert_array_equal(book.ravel(), gaussian_labels(register_bits, book.size))
    codebook.cache_clear()
    np.testing.assert_array_equal(codebook(register_bits), book)


def test_codewords_are_scored_by_their_labels() -> None:
    labels = scoring_labels(6)
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, codebook(6).T / UNIT)


@pytest.mark.parametrize("width", [1, 3, WIDTH])
def test_scores_are_the_sums_over_the_dimensions_of_a_codeword(width: int) -> None:
    rng = np.random.default_rng(width)
    labels = scoring_labels(10)
    quadratic, linear = rng.normal(size=(2, 5, width)).astype(np.float32)
    found = np.empty((5, 1 << 10), np.float32)
    score(quadratic, linear, labels, found)
    exact = labels[:width].astype(np.float64)
    wanted = quadratic.astype(np.float64) @ (exact * exact) + linear.astype(np.float64) @ exact
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("key", sorted(FIRST_LABELS))
def test_labels_never_change(key: int) -> None:
    assert gaussian_labels(key, 12).tolist() == FIRST_LABELS[key]


def test_tables_never_change() -> None:
    assert hashlib.sha256(quantile_table().astype("<i2").tobytes()).hexdigest() == TABLE_SHA256
    assert hashlib.sha256(codebook(10).astype("<i2").tobytes()).hexdigest() == CODEBOOK_10_SHA256
