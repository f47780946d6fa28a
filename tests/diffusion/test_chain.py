"""Chains: validation, dynamic programming against brute force, step costs."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from ddpm_codec.diffusion.chain import (
    Chain,
    LevelTable,
    even_chain,
    select_chain,
    transition_from_mse,
)
from ddpm_codec.errors import InputError
from tests.reference.chains import chain_cost_nats


def random_table(count: int, seed: int, missing: float = 0.0) -> LevelTable:
    rng = np.random.default_rng(seed)
    transition = rng.uniform(0.0, 1.0, (count, count))
    transition[rng.uniform(size=(count, count)) < missing] = np.inf
    # What lies on or below the diagonal must not matter.
    transition[np.tril_indices(count)] = -5.0
    return LevelTable(np.linspace(9.0, -4.0, count), transition, rng.uniform(0, 1, count), rng.uniform(0, 1, count))


def analytic_table(log_snr: np.ndarray, variance: np.ndarray) -> LevelTable:
    """Return the costs of ideal denoising of N(0, variance), classes [D], with the class-wise optimal variances."""
    mse = variance / (1.0 + np.exp(log_snr)[:, None] * variance)
    prior = 0.5 * np.log1p(np.exp(log_snr)[:, None] * variance).mean(axis=1)
    return LevelTable(log_snr, transition_from_mse(log_snr, mse), np.exp(-0.1 * log_snr), prior)


@pytest.mark.parametrize("levels", [(), (1.0,), (1.0, 1.0), (0.0, 1.0), (2.0, math.nan), (math.inf, 0.0)])
def test_impossible_chains_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        Chain(levels)


def test_chain_counts_steps_between_levels() -> None:
    chain = even_chain(10.0, -2.0, 4)
    assert chain.steps == 4
    assert chain.log_snr == (10.0, 7.0, 4.0, 1.0, -2.0)
    expected = [math.exp(s) - math.exp(t) for s, t in itertools.pairwise(chain.log_snr)]
    assert chain.snr_differences == pytest.approx(expected, rel=1e-13)
    with pytest.raises(InputError, match="at least one step"):
        even_chain(10.0, -2.0, 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 4, 6])
def test_selected_chain_is_the_best_of_all(seed: int, missing: float, steps: int) -> None:
    table = random_table(7, seed, missing)
    all_chains = (Chain(levels) for levels in itertools.combinations(table.log_snr.tolist(), steps + 1))
    best = min(chain_cost_nats(table, chain) for chain in all_chains)
    if math.isinf(best):
        with pytest.raises(InputError, match="finite"):
            select_chain(table, steps)
        return
    chain = select_chain(table, steps)
    assert chain.steps == steps
    assert chain_cost_nats(table, chain) == pytest.approx(best, rel=1e-14)


@pytest.mark.parametrize("steps", [-1, 0, 7, 8])
def test_impossible_lengths_are_refused(steps: int) -> None:
    with pytest.raises(InputError, match="from 1 to 6 steps"):
        select_chain(random_table(7, 0), steps)


def test_more_steps_never_cost_more() -> None:
    # With one variance a level over unequal classes every further level helps. (With one variance a class, the ideal
    # total would be the same for every chain.) L_0 is priced at the cleanest level alone, so that the extra levels of a
    # longer chain lie between the others instead of extending it.
    log_snr = np.linspace(10.8, -4.5, 40)
    variance = np.geomspace(1e-4, 10.0, 12)
    mse = (variance / (1.0 + np.exp(log_snr)[:, None] * variance)).mean(axis=1)
    reconstruction = np.full(40, np.inf)
    reconstruction[0] = 1.0
    prior = 0.5 * np.log1p(np.exp(log_snr) * variance.mean())
    table = LevelTable(log_snr, transition_from_mse(log_snr, mse), reconstruction, prior)
    costs = [chain_cost_nats(table, select_chain(table, steps)) for steps in (1, 2, 3, 4, 6, 8, 12, 20, 39)]
    assert (np.diff(costs) < 0.0).all()


def test_even_spacing_is_never_better() -> None:
    log_snr = np.linspace(10.8, -4.5, 52)
    table = analytic_table(log_snr, np.array([0.25, 0.01, 3.0]))
    for steps in (3, 17):
        even = Chain(tuple(log_snr[:: 51 // steps].tolist()))
        assert chain_cost_nats(table, select_chain(table, even.steps)) <= chain_cost_nats(table, even) + 1e-12


def test_step_costs_from_errors() -> None:
    log_snr = np.array([9.0, 4.0, 3.999999, -2.0])
    mse = np.array([[1e-4, 2e-4], [1e-3, 3e-3], [1e-3, 3e-3], [0.2, 0.1]])
    by_class = transition_from_mse(log_snr, mse)
    by_level = transition_from_mse(log_snr, mse.mean(axis=1))
    for s, t in itertools.product(range(4), range(4)):
        if s >= t:
            assert by_class[s, t] == by_level[s, t] == np.inf
            continue
        difference = math.exp(log_snr[t]) * math.expm1(log_snr[s] - log_snr[t])
        expected = np.mean([0.5 * math.log1p(difference * error) for error in mse[t]])
        assert by_class[s, t] == pytest.approx(expected, rel=1e-12)
        # One variance for all classes cannot be better (Jensen).
        assert by_level[s, t] >= by_class[s, t]


@pytest.mark.parametrize(
    "make",
    [
        lambda: transition_from_mse(np.array([1.0, 0.0]), np.array([0.1])),
        lambda: transition_from_mse(np.array([1.0, 0.0]), np.array([0.1, -0.1])),
        lambda: transition_from_mse(np.array([1.0, 0.0]), np.array([0.1, np.nan])),
        lambda: LevelTable(np.array([1.0, 0.0]), np.zeros((2, 3)), np.zeros(2), np.zeros(2)),
        lambda: LevelTable(np.array([0.0, 1.0]), np.zeros((2, 2)), np.zeros(2), np.zeros(2)),
        lambda: LevelTable(np.array([1.0, 0.0]), np.zeros((2, 2)), np.array([0.0, np.nan]), np.zeros(2)),
    ],
)
def test_impossible_tables_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        make()
