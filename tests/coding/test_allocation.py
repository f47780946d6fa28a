"""What the decoder expects of each dimension: classes, their costs, and the order of coding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.coding.allocation import (
    CLASSES,
    CLASSES_PER_OCTAVE,
    COST_BITS,
    LOWEST,
    OCTAVES,
    UNCODED,
    _spread,
    class_costs,
    coding_order,
    cost_class,
)

HALF_CLASS = 0.5 / CLASSES_PER_OCTAVE


def ratio_of(bits: np.ndarray | float) -> np.ndarray:
    """Return S^2 / v of dimensions that expect log2(S / sqrt(v)) = bits."""
    return np.asarray(4.0**bits)


def class_edges() -> np.ndarray:
    """Return the bits at the edges of the classes, decreasing, [CLASSES + 1]: class c lies in [c + 1, c]."""
    return 2.0 ** (LOWEST + OCTAVES - np.arange(CLASSES + 1) / CLASSES_PER_OCTAVE)


def test_costs_lie_within_their_classes() -> None:
    costs = class_costs() / (1 << COST_BITS)
    edges = class_edges()
    assert costs.shape == (CLASSES,)
    assert (np.diff(costs) < 0).all()
    assert (costs < edges[:-1]).all()
    assert (costs > edges[1:]).all()


def test_costs_are_the_geometric_middles_of_their_classes() -> None:
    edges = class_edges()
    # Rounding, and nothing else, keeps them from being exact.
    np.testing.assert_allclose(class_costs(), np.sqrt(edges[:-1] * edges[1:]) * (1 << COST_BITS), rtol=0, atol=0.5001)


def test_classes_reach_from_a_hundredth_of_a_bit_to_sixteen() -> None:
    edges = class_edges()
    assert edges[0] == 16.0
    assert edges[-1] == 2.0**LOWEST <= 1 / 128
    assert UNCODED == CLASSES < 256


def test_a_class_is_found_within_half_its_width() -> None:
    """cost_class inverts log2(S / sqrt(v)), the KL of a dimension where the denoiser's variance is right."""
    bits = 2.0 ** np.linspace(LOWEST + 1e-6, LOWEST + OCTAVES - 1e-6, 20_011)
    found = cost_class(ratio_of(bits))
    assert found.dtype == np.uint8
    exact_middle = LOWEST + OCTAVES - (found + 0.5) / CLASSES_PER_OCTAVE
    assert np.abs(np.log2(bits) - exact_middle).max() <= HALF_CLASS + 1e-9
    # Costs are rounded to COST_BITS bits: that adds half a unit of the cheapest class.
    rounding = 0.5 / class_costs()[-1] / np.log(2)
    assert np.abs(np.log2(bits) - np.log2(class_costs()[found] / (1 << COST_BITS))).max() <= HALF_CLASS + rounding


def test_dearer_dimensions_have_lower_classes() -> None:
    ratio = np.concatenate([1.0 + np.logspace(-12, 0, 5000), np.logspace(0.31, 30, 5000)])
    found = cost_class(ratio).astype(int)
    assert (np.diff(found) <= 0).all()
    assert set(found.tolist()) == set(range(CLASSES + 1))


@pytest.mark.parametrize("place", [0, 1, CLASSES // 2, CLASSES - 1])
def test_classes_change_at_their_edges(place: int) -> None:
    lower_edge = ratio_of(class_edges()[place + 1 : place + 2])
    assert cost_class(lower_edge * (1 + 1e-9)).tolist() == [place]
    assert cost_class(lower_edge * (1 - 1e-9)).tolist() == [place + 1]


def test_an_edge_belongs_to_the_dearer_class() -> None:
    """S^2 / v of exactly half a bit, one bit, two bits and four."""
    assert cost_class(np.array([2.0, 4.0, 16.0, 256.0])).tolist() == [39, 31, 23, 15]


def test_what_expects_next_to_nothing_is_not_coded() -> None:
    tiny = np.array([1.0, 1.0 + 1e-15, 1.001, ratio_of(0.999 * 2.0**LOWEST)])
    assert cost_class(tiny).tolist() == [UNCODED] * 4


def test_what_expects_too_much_is_of_the_dearest_class() -> None:
    assert cost_class(np.array([ratio_of(16.0), 1e30, np.inf])).tolist() == [0, 0, 0]


def check_order(classes: np.ndarray) -> None:
    """Assert that the coded dimensions come once each, class by class, the cheapest first."""
    order, present = coding_order(classes)
    np.testing.assert_array_equal(np.sort(order), np.flatnonzero(classes < UNCODED))
    assert (np.diff(classes[order].astype(int)) <= 0).all()
    values, counts = np.unique(classes[classes < UNCODED], return_counts=True)
    assert present == list(zip(values.tolist()[::-1], counts.tolist()[::-1], strict=True))


@given(st.lists(st.integers(0, UNCODED), max_size=400))
def test_coded_dimensions_come_once_and_class_by_class(classes: list[int]) -> None:
    check_order(np.array(classes, dtype=np.uint8))


@given(st.lists(st.sampled_from([0, 40, UNCODED - 1, UNCODED]), max_size=400))
def test_dimensions_of_few_classes_come_once_too(classes: list[int]) -> None:
    check_order(np.array(classes, dtype=np.uint8))


def test_within_a_class_the_order_is_that_of_the_spread() -> None:
    classes = np.arange(1000, dtype=np.uint8) % 3 + 20
    order, _ = coding_order(classes)
    place = np.empty(1000, np.int64)
    place[_spread(1000)] = np.arange(1000)
    for c in range(20, 23):
        assert (np.diff(place[order[classes[order] == c]]) > 0).all()


def test_the_spread_is_a_permutation() -> None:
    for count in range(301):
        np.testing.assert_array_equal(np.sort(_spread(count)), np.arange(count))


@pytest.mark.parametrize("count", [100, 1000, 4096, 196_608])
def test_the_spread_puts_neighbours_far_apart(count: int) -> None:
    jump = np.abs(np.diff(_spread(count)))
    assert np.minimum(jump, count - jump).min() > 0.3 * count
