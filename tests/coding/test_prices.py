"""Prices against the bits that the coder spends; and that they are the same numbers on every machine."""

import hashlib

import numpy as np
import pytest

from ddpm_codec.coding import prices
from ddpm_codec.coding.ans import Stack
from ddpm_codec.coding.prices import DEAREST, PRICE_BITS, lattice_bits, pixel_bits
from ddpm_codec.coding.tables import LATTICE_GRID, MEAN_BITS, PIXEL_GRID, ScaleGrid

SHAPE = (4, 3, 40, 40)


def pushed(method: str, values: np.ndarray, mean: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the bits that each picture costs the coder, pushed alone."""
    costs = []
    for picture in range(len(values)):
        stack = Stack.seeded(bytes(8))
        before = stack.bits
        getattr(stack, method)(values[picture], mean[picture], index[picture])
        costs.append(stack.bits - before)
    return np.array(costs)


def gaussians(grid: ScaleGrid, smallest: float, centre: float, spread: float) -> tuple[np.ndarray, ...]:
    """Return samples, means and scale indices; later pictures have wider scales."""
    rng = np.random.default_rng(5)
    scale = smallest * 2.0 ** (np.arange(4)[:, None, None, None] + rng.uniform(0, 1, SHAPE))
    mean = rng.normal(centre, spread, SHAPE)
    return (
        np.rint(rng.normal(mean, scale)).astype(np.int32),
        np.rint(mean * 2.0**MEAN_BITS).astype(np.int64),
        grid.index(scale).astype(np.int32),
    )


def test_lattice_points_cost_what_the_coder_spends() -> None:
    points, mean, index = gaussians(LATTICE_GRID, 0.75, 0.0, 100.0)
    np.testing.assert_allclose(
        lattice_bits(points, mean, index), pushed("push_lattice", points, mean, index), rtol=0.02
    )


@pytest.mark.parametrize(("smallest", "tolerance"), [(1.0, 0.02), (0.4, 0.05)])
def test_grey_levels_cost_about_what_the_coder_spends(smallest: float, tolerance: float) -> None:
    values, mean, index = gaussians(PIXEL_GRID, smallest, 127.0, 20.0)
    pixels = np.clip(values, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(
        pixel_bits(pixels, mean, index), pushed("push_pixels", pixels, mean, index), rtol=tolerance
    )


def test_grey_levels_that_are_certain_cost_nothing() -> None:
    pixels = np.full((1, 3, 8, 8), 77, np.uint8)
    assert pixel_bits(pixels, np.full(pixels.shape, 77 << MEAN_BITS), np.zeros(pixels.shape, np.int32)) == [0.0]


def test_a_symbol_that_its_table_lacks_costs_what_an_escape_does() -> None:
    points, mean = np.full((1, 50), 1 << 30, np.int32), np.zeros((1, 50), np.int64)
    index = np.zeros((1, 50), np.int32)
    (bits,) = lattice_bits(points, mean, index)
    assert bits == 50 * DEAREST
    np.testing.assert_allclose(bits, pushed("push_lattice", points, mean, index), rtol=0.02)


def test_the_order_of_a_sum_changes_nothing() -> None:
    """Machines add up in orders of their own."""
    rng = np.random.default_rng(0)
    order = rng.permutation(np.prod(SHAPE[1:]))
    for price, grid, centre in ((lattice_bits, LATTICE_GRID, 0.0), (pixel_bits, PIXEL_GRID, 127.0)):
        values, mean, index = (part.reshape(4, -1) for part in gaussians(grid, 0.75, centre, 100.0))
        mean = mean + rng.integers(0, 1 << 17, mean.shape)
        bits = price(values, mean, index)
        assert (bits == price(values[:, order], mean[:, order], index[:, order])).all()
        assert (bits * 2.0**PRICE_BITS == np.rint(bits * 2.0**PRICE_BITS)).all()


def test_tables_of_prices_are_those_of_every_machine() -> None:
    digest = hashlib.sha256()
    for table in (*prices._lattice_tables(), *prices._pixel_tables()):
        digest.update(table.astype("<f8").tobytes())
    assert digest.hexdigest() == "f78696bde244373f6f6c4960dcb83e9c66f63e41512e48bf073e21cda772ac60"
