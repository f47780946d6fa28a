"""Elementary functions from correctly rounded operations alone."""

import hashlib

import mpmath
import numpy as np
import pytest
from scipy.special import log_ndtr, ndtr

from ddpm_codec.coding.exact_math import exact_exp, exact_normal_cdf


def test_exponential() -> None:
    x = -np.concatenate([np.linspace(0.0, 700.0, 100_001), 10.0 ** np.linspace(-20, 0, 1001)])
    np.testing.assert_allclose(exact_exp(x), np.exp(x), rtol=5e-16, atol=0.0)


def test_exponential_of_the_far_tail_is_zero() -> None:
    np.testing.assert_array_equal(exact_exp(np.array([0.0, -709.0, -1e300, -np.inf])), [1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("start", "end", "tolerance"), [(-8.0, 8.0, 5e-14), (-37.0, -8.0, 5e-13), (8.0, 40.0, 1e-15)])
def test_normal_distribution(start: float, end: float, tolerance: float) -> None:
    x = np.linspace(start, end, 20_001)
    np.testing.assert_allclose(exact_normal_cdf(x), ndtr(x), rtol=tolerance, atol=0.0)


def test_the_tails_are_those_of_log_ndtr() -> None:
    """Where ndtr itself is small its logarithm is the sharper check: 1e-13 of a number of the size of x^2 / 2."""
    x = np.linspace(-37.0, -1.0, 10_001)
    np.testing.assert_allclose(np.log(exact_normal_cdf(x)), log_ndtr(x), rtol=2e-15, atol=1e-13)


@pytest.fixture
def random_points() -> np.ndarray:
    """Return points in (-37, 0], half of them close to 0."""
    rng = np.random.default_rng(11)
    return -np.concatenate([rng.uniform(0.0, 37.0, 300), 10.0 ** rng.uniform(-12.0, 0.5, 300)])


def test_exponential_against_many_digits(random_points: np.ndarray) -> None:
    for x in (random_points, 19.0 * random_points):
        with mpmath.workdps(40):
            exact = [mpmath.exp(mpmath.mpf(value)) for value in x.tolist()]
            errors = [abs(mpmath.mpf(got) / want - 1) for got, want in zip(exact_exp(x).tolist(), exact, strict=True)]
        assert max(errors) < 4e-16


def test_normal_distribution_against_many_digits(random_points: np.ndarray) -> None:
    for x, tolerance in ((random_points[random_points > -8], 2e-14), (random_points, 2e-13), (-random_points, 3e-16)):
        with mpmath.workdps(40):
            exact = [mpmath.ncdf(mpmath.mpf(value)) for value in x.tolist()]
            got = exact_normal_cdf(x).tolist()
            errors = [abs(mpmath.mpf(value) / want - 1) for value, want in zip(got, exact, strict=True)]
        assert max(errors) < tolerance


def test_both_are_monotone_as_finely_as_tables_ask() -> None:
    """Frequencies come from differences of neighbouring values: no difference may be negative."""
    x = np.linspace(-40.0, 0.0, 400_001)
    assert (np.diff(exact_exp(x)) >= 0).all()
    assert (np.diff(exact_normal_cdf(x)) >= 0).all()
    assert (np.diff(exact_normal_cdf(-x[::-1])) >= 0).all()
    seam = -2.0 + np.arange(-1000.0, 1001.0) * 2.0**-40
    assert (np.diff(exact_normal_cdf(seam)) >= -1e-16).all()


def test_the_two_tails_mirror_each_other() -> None:
    x = np.linspace(0.0, 8.0, 1001)
    np.testing.assert_allclose(exact_normal_cdf(x) + exact_normal_cdf(-x), 1.0, rtol=0, atol=2e-16)


def test_the_bits_are_those_of_every_machine() -> None:
    """Hexadecimal literals, computed once: equality, not closeness."""
    x = np.array([-0.3, -1.7, -2.5, -6.0])
    assert [value.hex() for value in exact_exp(x).tolist()] == EXPONENTIALS
    assert [value.hex() for value in exact_normal_cdf(x).tolist()] == DISTRIBUTION


def test_a_whole_grid_has_the_bits_of_every_machine() -> None:
    """The arguments are dyadic, so that they are the same everywhere too."""
    x = -np.arange(40 * 256, dtype=np.float64) / 256
    got = b"".join(
        values.astype("<f8").tobytes() for values in (exact_exp(x), exact_normal_cdf(x), exact_normal_cdf(-x))
    )
    assert hashlib.sha256(got).hexdigest() == GRID_HASH


GRID_HASH = "9f6eb0f446aca81584d9585c17c37abffb62651737274baaef7ef976d33c6322"
EXPONENTIALS = ["0x1.7b4c869c37c05p-1", "0x1.7622c78a98a07p-3", "0x1.50385c094f425p-4", "0x1.44e51f113d4d6p-9"]
DISTRIBUTION = ["0x1.87423a677e90fp-2", "0x1.6d148ca287908p-5", "0x1.96f4e57e49ce5p-8", "0x1.0f30ef0092d49p-30"]
