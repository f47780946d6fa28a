"""Integer tables: exact sums, the right distributions, and the arithmetic of the lattice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from ddpm_codec.coding import tables
from ddpm_codec.coding.tables import LATTICE_GRID, PIXEL_GRID, PRECISION, Table, lattice_table, pixel_table

ONE = 1 << PRECISION


def probabilities(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the integers of a table and their probabilities, without the escape symbol."""
    integers = table.first + np.arange(table.count)
    return integers.astype(np.float64), table.frequencies[: table.count] / ONE


def discrete_gaussian(scale: float, mean: float) -> tuple[np.ndarray, np.ndarray]:
    n = np.arange(np.floor(mean) - np.ceil(12 * scale) - 2, np.floor(mean) + np.ceil(12 * scale) + 3)
    weights = np.exp(-0.5 * ((n - mean) / scale) ** 2)
    return n, weights / weights.sum()


@pytest.mark.parametrize("grid", [LATTICE_GRID, PIXEL_GRID])
def test_scales_are_log_spaced_and_the_nearest_is_found(grid: tables.ScaleGrid) -> None:
    steps = np.diff(np.log2(grid.scales))
    np.testing.assert_allclose(steps, 1 / tables.STEPS_PER_OCTAVE, rtol=1e-12)
    scale = np.exp(np.random.default_rng(0).uniform(np.log(0.01), np.log(500.0), 2000))
    distance = np.abs(np.log(scale)[:, None] - np.log(grid.scales)[None, :])
    np.testing.assert_array_equal(grid.index(scale), distance.argmin(axis=1))
    np.testing.assert_array_equal(grid.index(grid.scales), np.arange(len(grid.scales)))


def test_bins_of_the_mean_cost_little() -> None:
    bins = 2.0**LATTICE_GRID.fraction_bits
    cost_bits = 1 / (24 * bins**2 * LATTICE_GRID.scales**2 * np.log(2))
    assert cost_bits[LATTICE_GRID.scales > 0.4].max() < 1e-4
    assert cost_bits.max() < 2.5e-4
    assert [int(2.0**b) for b in LATTICE_GRID.fraction_bits[[0, 48, 72, 96, 120, 144, 216]]] == [64, 32, 16, 8, 4, 2, 2]


def test_every_lattice_table_sums_to_one() -> None:
    for index in range(len(LATTICE_GRID.scales)):
        rows = tables._lattice_frequencies(index)
        assert rows.shape == (1 << LATTICE_GRID.fraction_bits[index], 2 * LATTICE_GRID.windows[index] + 3)
        assert rows.min() >= 1
        assert (rows.sum(axis=1) == ONE).all()
        assert (rows[:, -1] == 1).all()


@pytest.mark.parametrize("floor", [-3, -1, 0, 1, 17, 128, 240, 254, 255, 258])
def test_every_pixel_table_sums_to_one(floor: int) -> None:
    for index, window in enumerate(PIXEL_GRID.windows.tolist()):
        low, high = max(-floor, -window), min(255 - floor, window + 1)
        rows = tables._pixel_frequencies(index, low, high)
        whole = (low, high) == (-floor, 255 - floor) and window >= max(floor + 1, 255 - floor)
        assert rows.shape[1] == high - low + (1 if whole else 2)
        assert rows.min() >= 1
        assert (rows.sum(axis=1) == ONE).all()


@given(
    weights=st.lists(st.floats(0.0, 1e300, allow_subnormal=False), min_size=2, max_size=50).filter(
        lambda w: max(w) > 0
    ),
    escape=st.booleans(),
)
def test_any_weights_become_frequencies(weights: list[float], escape: bool) -> None:
    frequencies = tables.integer_frequencies(np.array(weights), escape)
    assert int(frequencies.sum()) == ONE
    assert frequencies.min() >= 1
    ideal = np.array(weights) / max(weights) / (np.array(weights) / max(weights)).sum()
    np.testing.assert_allclose(frequencies[: len(weights)] / ONE, ideal, atol=2 * len(weights) / ONE)


@pytest.mark.parametrize("scale_index", [0, 30, 60, 110, 216])
@pytest.mark.parametrize("part", [0.0, 0.4, 0.99])
def test_a_lattice_table_is_the_discrete_gaussian(scale_index: int, part: float) -> None:
    bins = 1 << int(LATTICE_GRID.fraction_bits[scale_index])
    fraction = int(part * bins)
    n, p = probabilities(lattice_table(scale_index, fraction))
    scale, mean = LATTICE_GRID.scales[scale_index], (fraction + 0.5) / bins
    weights = np.exp(-0.5 * ((n - mean) / scale) ** 2)
    np.testing.assert_allclose(p, weights / weights.sum(), atol=1.1 * (len(n) + 1) / ONE, rtol=0)
    assert 0.5 * np.abs(p - weights / weights.sum()).sum() < 2 * len(n) / ONE


@pytest.mark.parametrize("scale", [0.6, 0.75, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
def test_whole_frequencies_cost_next_to_nothing(scale: float) -> None:
    """Under 1e-6 bits up to scale 1; in wide tables a frequency of 1 for every symbol costs at most 1e-7 of them."""
    index = int(LATTICE_GRID.index(np.array(scale)))
    width = 2 * int(LATTICE_GRID.windows[index]) + 3
    bins = 1 << int(LATTICE_GRID.fraction_bits[index])
    for fraction in range(bins):
        n, ideal = discrete_gaussian(LATTICE_GRID.scales[index], (fraction + 0.5) / bins)
        assert relative_entropy_bits(ideal, coded(lattice_table(index, fraction), n)) < max(1e-6, width / ONE)


@pytest.mark.parametrize("low", [0.6, 1.0, 3.0, 20.0])
def test_nearest_scale_and_bin_cost_little_on_average(low: float) -> None:
    """Under 2e-4 bits for any scale and any mean, averaged over an octave."""
    rng = np.random.default_rng(3)
    costs = []
    for scale, mean in zip(low * 2.0 ** rng.uniform(0.0, 1.0, 300), rng.uniform(0.0, 1.0, 300), strict=True):
        index = int(LATTICE_GRID.index(np.array(scale)))
        n, ideal = discrete_gaussian(scale, mean)
        table = lattice_table(index, int(mean * 2.0 ** LATTICE_GRID.fraction_bits[index]))
        costs.append(relative_entropy_bits(ideal, coded(table, n)))
    assert max(costs) < 1e-3
    assert np.mean(costs) < 2e-4


def relative_entropy_bits(p: np.ndarray, q: np.ndarray) -> float:
    """Return sum p log2(p / q)."""
    inside = p > 0
    return float((p[inside] * np.log2(p[inside] / q[inside])).sum())


def coded(table: Table, n: np.ndarray) -> np.ndarray:
    """Return the probabilities of the integers n under a table; of those that it lacks, that of the escape symbol."""
    symbols = (n - table.first).astype(np.int64)
    frequencies = np.append(table.frequencies[: table.count], table.frequencies[-1])
    return frequencies[np.where((symbols < 0) | (symbols >= table.count), table.count, symbols)] / ONE


@pytest.mark.parametrize("scale_index", range(0, 265, 33))
@pytest.mark.parametrize("mean", [-1e9, -300.0, -3.5, -0.51, 0.49, 127.5, 254.8, 255.6, 259.0, 1e9])
def test_pixels_cost_what_their_mass_says(scale_index: int, mean: float) -> None:
    """The likeliest grey level costs what the discretised Gaussian says; means far outside are drawn near."""
    drawn = float(np.clip(mean, -tables.OUTSIDE, 255 + tables.OUTSIDE + 0.999))
    floor = np.array(int(np.floor(drawn)))
    low, high = (int(end) for end in tables.pixel_range(floor, np.array(scale_index)))
    bins = 1 << int(PIXEL_GRID.fraction_bits[scale_index])
    fraction = int((drawn - floor) * bins)
    table = pixel_table(scale_index, fraction, low, high)
    grey = int(np.clip(np.rint(drawn), 0, 255))
    centre, scale = floor + (fraction + 0.5) / bins, PIXEL_GRID.scales[scale_index]
    upper = 1.0 if grey == 255 else norm.cdf((grey + 0.5 - centre) / scale)
    lower = 0.0 if grey == 0 else norm.cdf((grey - 0.5 - centre) / scale)
    frequency = int(table.frequencies[grey - floor - table.first])
    assert -np.log2(frequency / ONE) == pytest.approx(-np.log2(upper - lower), abs=2e-3)


@pytest.mark.parametrize("scale_index", [0, 40, 104, 180, 264])
@pytest.mark.parametrize("floor", [-3, -1, 0, 3, 100, 252, 255, 258])
def test_a_pixel_table_is_the_discretised_gaussian_with_open_edges(scale_index: int, floor: int) -> None:
    bins = 1 << int(PIXEL_GRID.fraction_bits[scale_index])
    window, scale = int(PIXEL_GRID.windows[scale_index]), PIXEL_GRID.scales[scale_index]
    mean = floor + (bins // 3 + 0.5) / bins
    offsets, p = probabilities(pixel_table(scale_index, bins // 3, max(-floor, -window), min(255 - floor, window + 1)))
    grey = offsets + floor
    upper = np.where(grey == 255, np.inf, (grey + 0.5 - mean) / scale)
    lower = np.where(grey == 0, -np.inf, (grey - 0.5 - mean) / scale)
    mass = np.where(lower > 0, norm.sf(lower) - norm.sf(upper), norm.cdf(upper) - norm.cdf(lower))
    np.testing.assert_allclose(p, mass, atol=1.1 * (len(p) + 1) / ONE, rtol=0)


class TestTheLattice:
    """What lets the lattice be as coarse as 4/3 of the noise: up to exp(-2 pi^2 s^2) nothing is lost."""

    @pytest.mark.parametrize("scale", [0.7, 0.75, 1.0, 1.5, 3.0])
    @pytest.mark.parametrize("mean", [0.0, 0.2, 0.5, 0.9])
    def test_moments_are_the_gaussian_ones(self, scale: float, mean: float) -> None:
        n, p = discrete_gaussian(scale, mean)
        error = np.exp(-2 * np.pi**2 * scale**2)
        got = float((n * p).sum())
        assert abs(got - mean) < 4.1 * np.pi * scale**2 * error + 1e-12
        assert abs((((n - got) ** 2) * p).sum() - scale**2) < 9 * np.pi**2 * scale**4 * error + 1e-11

    def test_noise_adds_up(self) -> None:
        """A discrete Gaussian about a discrete Gaussian is one of the summed variance: steps of a chain compose."""
        first, second, mean = 0.75, 1.1, 0.3
        n, p = discrete_gaussian(first, mean)
        total = np.zeros(101)
        for start, chance in zip(n, p, strict=True):
            ends, q = discrete_gaussian(second, 0.6 * start)
            np.add.at(total, ends.astype(int) + 50, chance * q)
        n, p = discrete_gaussian(float(np.hypot(0.6 * first, second)), 0.6 * mean)
        direct = np.zeros(101)
        direct[n.astype(int) + 50] = p
        assert 0.5 * np.abs(total - direct).sum() < 1e-4

    @pytest.mark.parametrize(("scale_q", "scale_p", "shift"), [(0.75, 0.75, 0.4), (0.75, 1.0, 0.0), (0.8, 2.0, 1.3)])
    def test_relative_entropy_is_the_gaussian_one(self, scale_q: float, scale_p: float, shift: float) -> None:
        n, q = discrete_gaussian(scale_q, 0.1)
        log_p = -0.5 * ((n - 0.1 - shift) / scale_p) ** 2
        m = np.arange(-100, 101)
        log_p -= np.log(np.exp(-0.5 * ((m - 0.1 - shift) / scale_p) ** 2).sum())
        inside = q > 0
        kl = (q[inside] * (np.log(q[inside]) - log_p[inside])).sum()
        gaussian = np.log(scale_p / scale_q) + (scale_q**2 + shift**2) / (2 * scale_p**2) - 0.5
        assert kl == pytest.approx(gaussian, abs=5e-4)


def test_sampling_tables_have_no_escape_and_the_exact_scale() -> None:
    table = tables.sampling_table(0.7071, 13)
    n, p = probabilities(table)
    assert not table.escape
    assert table.frequencies.sum() == ONE
    mean = 13.5 / 64
    weights = np.exp(-0.5 * ((n - mean) / 0.7071) ** 2)
    np.testing.assert_allclose(p, weights / weights.sum(), atol=20 / ONE)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_sampling_refuses_other_scales(scale: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        tables.sampling_window(scale)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Forget every table; return the sizes of the arrays that exponential and distribution function are asked for."""
    for cached in (tables.tables_hash, tables._lattice_frequencies, tables._pixel_masses):
        cached.cache_clear()
    sizes: dict[str, list[int]] = {}
    for name in ("exact_exp", "exact_normal_cdf"):
        calls, function = sizes.setdefault(name, []), getattr(tables, name)

        def counted(x: np.ndarray, calls: list[int] = calls, function: Callable[..., Any] = function) -> Any:  # noqa: ANN401 - as the function
            calls.append(x.size)
            return function(x)

        monkeypatch.setattr(tables, name, counted)
    return sizes


def test_the_hash_covers_all_tables_and_never_changes(evaluated: dict[str, list[int]]) -> None:
    """Another hash means other files: a new format version, or arithmetic that is not IEEE 754."""
    assert tables.tables_hash() == "73a0494d08811a6704273a3afab174185d0bcf9d20dce762f7586e1b4797ff6c"
    # Each number once: per lattice scale all bins of the mean, and all pixel tables in two calls, however they are cut.
    widths = [2 * grid.windows + 2 << grid.fraction_bits for grid in (LATTICE_GRID, PIXEL_GRID)]
    assert evaluated == {"exact_exp": widths[0].tolist(), "exact_normal_cdf": [widths[1].sum()] * 2}


def test_a_table_is_made_once(evaluated: dict[str, list[int]]) -> None:
    tables.tables_hash()
    before = {name: list(sizes) for name, sizes in evaluated.items()}
    lattice_table.cache_clear()
    pixel_table.cache_clear()
    for fraction in (0, 1):
        assert lattice_table(60, fraction) is lattice_table(60, fraction)
        assert pixel_table(60, fraction, -3, 4) is pixel_table(60, fraction, -3, 4)
    tables.tables_hash()
    assert evaluated == before
