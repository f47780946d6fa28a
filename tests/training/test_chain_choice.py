"""Chains above crossings: priced as the bound prices them, and chosen as files need them."""

import math

import numpy as np
import pytest
import torch

from ddpm_codec.diffusion.bound import evaluate_bound, measure_levels
from ddpm_codec.diffusion.chain import Chain, even_chain
from ddpm_codec.diffusion.crossing import levels_above, log_snr_at, measure_decoder, table_above
from ddpm_codec.diffusion.measurement import LevelMeasurement
from ddpm_codec.diffusion.pixel_likelihood import PixelParameters, TrunkMaps
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import colour_frequency_8x8
from ddpm_codec.errors import InputError
from ddpm_codec.training.chain_choice import LONGEST_ABOVE, best_chain, chains_above
from tests.toy_models import toy_denoiser

CROSSINGS = (3.2, 20.0)
GRID = np.linspace(7.0, -2.0, 19)
TRANSFORM = colour_frequency_8x8()
PRIOR = PriorModel.standard(192)


class Shrunk:
    """Independent sub-pixels around z_0, narrower at cleaner levels."""

    def trunk(self, z_0: torch.Tensor, log_snr: torch.Tensor) -> TrunkMaps:
        return TrunkMaps(z_0, z_0, torch.ones(len(log_snr), 1, 1, 1))

    def parameters_given(
        self, z_0: torch.Tensor, log_snr: torch.Tensor, x_0: torch.Tensor
    ) -> tuple[PixelParameters, TrunkMaps]:
        return PixelParameters(z_0, -log_snr[:, None, None, None].expand_as(x_0)), self.trunk(z_0, log_snr)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    greys = torch.randint(0, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(3))
    return greys / 127.5 - 1.0


@pytest.fixture(scope="module")
def measured(pictures: torch.Tensor) -> LevelMeasurement:
    levels = [log_snr_at(grey_levels) for grey_levels in CROSSINGS]
    return measure_levels(
        toy_denoiser(), pictures.split(3), TRANSFORM, GRID, PRIOR, seed=0, max_gap=20.0, crossings=levels
    )


def test_a_step_to_a_crossing_costs_what_the_bound_says(measured: LevelMeasurement, pictures: torch.Tensor) -> None:
    for index, grey_levels in enumerate(CROSSINGS):
        table = table_above(measured, index)
        assert table.log_snr[0] == log_snr_at(grey_levels)
        assert len(table.log_snr) == 1 + len(levels_above(log_snr_at(grey_levels), GRID))
        chain = Chain((float(table.log_snr[0]), float(table.log_snr[2]), float(table.log_snr[-1])))
        # The bound draws the noise of a chain's levels in another order, so figures agree within its spread.
        terms = [
            evaluate_bound(toy_denoiser(), [pictures], TRANSFORM, chain, PRIOR, decoder=Shrunk(), seed=seed)
            for seed in range(4)
        ]
        bits = [(term.prior_bpd + term.diffusion_bpd.sum(axis=1)).mean() for term in terms]
        assert table.cost_nats(chain) / math.log(2.0) == pytest.approx(float(np.mean(bits)), rel=0.02)


def test_levels_of_the_grid_cost_the_same_with_and_without_crossings(
    measured: LevelMeasurement, pictures: torch.Tensor
) -> None:
    alone = measure_levels(toy_denoiser(), pictures.split(2), TRANSFORM, GRID, PRIOR, seed=0, max_gap=20.0)
    np.testing.assert_allclose(measured.predicted_nats, alone.predicted_nats, rtol=1e-5)
    assert alone.crossing_nats.shape == (0, len(GRID))
    below = log_snr_at(20.0) <= GRID
    assert np.isinf(measured.crossing_nats[1, below]).all()
    assert np.isfinite(measured.crossing_nats[1, ~below]).all()


def test_the_decoder_is_measured_as_the_bound_measures_it(pictures: torch.Tensor) -> None:
    level = log_snr_at(8.2)
    chain = even_chain(level, -2.0, 1)
    terms = evaluate_bound(toy_denoiser(), [pictures], TRANSFORM, chain, PRIOR, decoder=Shrunk(), seed=5)
    nats = measure_decoder(Shrunk(), pictures.split(4), level, seed=5)
    # The noise of level 0 is the first that the bound draws.
    assert nats / math.log(2.0) == pytest.approx(terms.reconstruction_bpd.mean(), rel=1e-9)
    with pytest.raises(InputError, match="no pictures"):
        measure_decoder(Shrunk(), [], level, seed=5)


def test_every_crossing_has_the_best_chain_of_every_length(measured: LevelMeasurement) -> None:
    chains = chains_above(measured, CROSSINGS, (1.0, 2.0))
    longest = [min(LONGEST_ABOVE, len(levels_above(log_snr_at(own), GRID))) for own in CROSSINGS]
    assert sorted(chains.sigmas) == [(c, k) for c in (0, 1) for k in range(1, longest[c] + 1)]
    for (crossing, steps), sigmas in chains.sigmas.items():
        rows = chains.rows[crossing, steps]
        assert sigmas[0] == CROSSINGS[crossing] / 127.5
        np.testing.assert_allclose(-2.0 * np.log(sigmas[1:]), GRID[list(rows)], rtol=1e-12)
        assert list(rows) == sorted(set(rows))
    table = table_above(measured, 0)
    # All chains of two steps, one by one.
    costs = [
        table.cost_nats(Chain(tuple(table.log_snr[[0, first, last]].tolist())))
        for last in range(2, len(table.log_snr))
        for first in range(1, last)
    ]
    assert chains.chain_bpd[0, 2] == pytest.approx(min(costs) / math.log(2.0), rel=1e-12)
    whole = chains.costs(1.1)
    assert whole[1, 2] == pytest.approx(2.0 / math.log(2.0) + 1.1 * chains.chain_bpd[1, 2])


COSTS = {(0, 1): 3.0, (0, 4): 2.5, (0, 16): 2.0, (1, 1): 2.9, (1, 4): 2.6, (1, 16): 2.4, (1, 8): 2.401}


@pytest.mark.parametrize(
    ("crossing", "steps", "most", "leeway", "expected"),
    [
        (None, None, 4, 0.0, (0, 4)),
        (None, None, 16, 0.0, (0, 16)),
        (1, None, 16, 0.0, (1, 16)),
        (1, None, 16, 0.01, (1, 8)),
        (None, 1, 4, 0.0, (1, 1)),
        (0, 16, 4, 0.0, (0, 16)),
    ],
)
def test_the_chain_that_files_use(
    crossing: int | None, steps: int | None, most: int, leeway: float, expected: tuple[int, int]
) -> None:
    assert best_chain(COSTS, crossing, steps, most, leeway) == expected


def test_a_chain_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"\Asteps = 9: chains above a crossing have 1 to 16 steps\Z"):
        best_chain(COSTS, 0, 9, 4)
