"""Elementary functions from correctly rounded operations alone."""

import numpy as np
import pytest
from scipy.special import ndtr

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


def test_the_two_tails_mirror_each_other() -> None:
    x = np.linspace(0.0, 8.0, 1001)
    np.testing.assert_allclose(exact_normal_cdf(x) + exact_normal_cdf(-x), 1.0, rtol=0, atol=2e-16)


def test_the_bits_are_those_of_every_machine() -> None:
    """Hexadecimal literals, computed once: equality, not closeness."""
    x = np.array([-0.3, -1.7, -2.5, -6.0])
    assert [value.hex() for value in exact_exp(x).tolist()] == EXPONENTIALS
    assert [value.hex() for value in exact_normal_cdf(x).tolist()] == DISTRIBUTION


EXPONENTIALS = ["0x1.7b4c869c37c05p-1", "0x1.7622c78a98a07p-3", "0x1.50385c094f425p-4", "0x1.44e51f113d4d6p-9"]
DISTRIBUTION = ["0x1.87423a677e90fp-2", "0x1.6d148ca287908p-5", "0x1.96f4e57e49ce5p-8", "0x1.0f30ef0092d49p-30"]
