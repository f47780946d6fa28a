"""The bound on data whose exact information and likelihood are known."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.bound import (
    BoundTerms,
    Calibration,
    PriorModel,
    VarianceKind,
    evaluate_bound,
    measure_levels,
)
from ddpm_codec.diffusion.chain import (
    Chain,
    LevelTable,
    even_chain,
    select_chain,
    transition_from_mse,
)
from ddpm_codec.diffusion.measurement import noise_generator
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import InputError
from ddpm_codec.units import nats_to_bits
from tests.reference.chains import chain_cost_nats

if TYPE_CHECKING:
    from tests.diffusion.conftest import GaussianToy, GreyToy


def information_bpd(terms: BoundTerms) -> np.ndarray:
    """L_T + sum L_k of each picture: with an ideal model, its mean is I(x_0; x at the cleanest level)."""
    return terms.total_bpd - terms.reconstruction_bpd


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ideal_steps_add_up_to_the_information_for_any_chain(gaussian_toy: "GaussianToy", steps: int) -> None:
    """Where W diagonalises the data the reverse steps are exact, so the sum does not depend on the chain."""
    prior = PriorModel(np.zeros(192), gaussian_toy.variance)
    chain = even_chain(8.0, -3.0, steps)
    terms = evaluate_bound(gaussian_toy, gaussian_toy.sample(96).split(32), gaussian_toy.transform, chain, prior)
    sums = information_bpd(terms)
    expected = nats_to_bits(gaussian_toy.information_nats(8.0))
    assert abs(sums.mean() - expected) < 4.0 * sums.std(ddof=1) / math.sqrt(96)
    by_step = transition_from_mse(np.array(chain.log_snr), gaussian_toy.mse(np.array(chain.log_snr)))
    for index in range(steps):
        bits = terms.diffusion_bpd[:, index]
        exact = nats_to_bits(by_step[index, index + 1])
        assert abs(bits.mean() - exact) < 4.5 * bits.std(ddof=1) / math.sqrt(96)


def test_exact_calibration_is_the_prediction(gaussian_toy: "GaussianToy") -> None:
    """The toy's variances do not depend on the picture, so one per class says as much, and one a level says less."""
    prior = PriorModel(np.zeros(192), gaussian_toy.variance)
    chain = even_chain(8.0, -3.0, 3)
    levels = np.array(chain.log_snr)
    calibration = Calibration(levels, gaussian_toy.mse(levels))
    x_0 = [gaussian_toy.sample(16)]
    predicted, by_class, by_level = (
        evaluate_bound(gaussian_toy, x_0, gaussian_toy.transform, chain, prior, variance=kind, calibration=calibration)
        for kind in ("predicted", "class", "level")
    )
    np.testing.assert_allclose(by_class.diffusion_bpd, predicted.diffusion_bpd, rtol=1e-9, atol=1e-12)
    assert (by_level.diffusion_bpd.mean(axis=0) > 1.1 * predicted.diffusion_bpd.mean(axis=0)).all()
    np.testing.assert_array_equal(by_level.reconstruction_bpd, predicted.reconstruction_bpd)
    np.testing.assert_array_equal(by_level.prior_bpd, predicted.prior_bpd)


def test_identity_pays_for_few_steps_and_less_as_they_grow(gaussian_toy: "GaussianToy") -> None:
    """Per sub-pixel the reverse step misses correlations; as K grows the cost falls to I(x_0; x at the first level)."""
    levels = np.linspace(8.0, -8.0, 401)
    mse = gaussian_toy.mse(levels).mean(axis=1)
    reconstruction = np.full(401, np.inf)
    reconstruction[0] = 0.0
    # The prior cannot know the correlations either, but at snr = e^-8 there is nothing to know.
    prior = 0.5 * np.log1p(np.exp(levels) * gaussian_toy.variance.mean())
    table = LevelTable(levels, transition_from_mse(levels, mse), reconstruction, prior)
    costs = [chain_cost_nats(table, select_chain(table, steps)) for steps in (1, 2, 4, 8, 16, 64, 400)]
    exact = gaussian_toy.information_nats(8.0)
    assert (np.diff(costs) < 0.0).all()
    assert costs[0] > 1.2 * exact
    assert exact < costs[-1] < 1.01 * exact


def test_identity_and_transform_share_one_path(gaussian_toy: "GaussianToy") -> None:
    """W = identity on the same pictures costs what its closed form says."""
    identity = by_name("identity")
    chain = Chain((6.0, 1.0, -7.0))
    levels = np.array(chain.log_snr)
    level_mse = gaussian_toy.mse(levels).mean(axis=1, keepdims=True)
    calibration = Calibration(levels, level_mse.repeat(3, axis=1))
    prior = PriorModel(np.zeros(3), np.full(3, gaussian_toy.variance.mean()))
    terms = evaluate_bound(
        gaussian_toy, [gaussian_toy.sample(128)], identity, chain, prior, variance="level", calibration=calibration
    )
    exact = transition_from_mse(levels, level_mse)
    expected = [nats_to_bits(exact[0, 1]), nats_to_bits(exact[1, 2])]
    error = terms.diffusion_bpd.std(axis=0, ddof=1) / math.sqrt(128)
    assert (np.abs(terms.diffusion_bpd.mean(axis=0) - expected) < 4.0 * error).all()
    assert terms.prior_bpd.shape == (128,)


def test_bound_meets_the_exact_likelihood_of_grey_levels(grey_toy: "GreyToy") -> None:
    """Rounded Gaussian pictures: the total falls to -log2 P(x_0) as K grows, halving its excess as K doubles."""
    x_0 = grey_toy.sample(48)
    identity = by_name("identity")
    prior = PriorModel.fit([x_0], identity)
    exact = grey_toy.exact_bpd(x_0)
    excess, errors = [], []
    for steps in (4, 16, 64):
        # Down to a noise of 0.15 grey levels, where nothing is left for L_0; only the finest 5 nats of log-SNR tell one
        # grey level from the next, above them the data look Gaussian and one step is as good as many.
        fine = np.linspace(13.5, 8.5, steps).tolist()
        terms = evaluate_bound(grey_toy, x_0.split(16), identity, Chain((*fine, -3.0)), prior)
        gaps = terms.total_bpd - exact
        excess.append(float(gaps.mean()))
        errors.append(float(gaps.std(ddof=1)) / math.sqrt(48))
    assert excess[0] > 4.0 * excess[1] / 2.0 > 4.0 * excess[2] / 2.0
    assert -3.0 * errors[2] < excess[2] < 0.03 + 3.0 * errors[2]


def test_decoder_at_the_end_of_a_short_chain_is_nearly_tight(grey_toy: "GreyToy") -> None:
    """At a noise of 0.6 grey levels L_0 takes over at a cost of a few hundredths of a bit, with either family."""
    x_0 = grey_toy.sample(48)
    identity = by_name("identity")
    prior = PriorModel.fit([x_0], identity)
    exact = grey_toy.exact_bpd(x_0)
    for likelihood in ("gaussian", "logistic"):
        terms = evaluate_bound(grey_toy, [x_0], identity, even_chain(10.8, -3.0, 2), prior, likelihood=likelihood)
        gaps = terms.total_bpd - exact
        error = float(gaps.std(ddof=1)) / math.sqrt(48)
        assert -3.0 * error < gaps.mean() < 0.04 + 3.0 * error


def test_no_figure_depends_on_the_batch_size(gaussian_toy: "GaussianToy") -> None:
    x_0 = gaussian_toy.sample(6)
    chain, prior = even_chain(8.0, -3.0, 2), PriorModel.standard(192)
    one, other = (
        evaluate_bound(gaussian_toy, x_0.split(size), gaussian_toy.transform, chain, prior, seed=5) for size in (6, 4)
    )
    np.testing.assert_allclose(one.total_bpd, other.total_bpd, rtol=1e-12)
    np.testing.assert_allclose(one.diffusion_bpd, other.diffusion_bpd, rtol=1e-12)
    again = evaluate_bound(gaussian_toy, [x_0], gaussian_toy.transform, chain, prior, seed=6)
    assert (again.total_bpd != one.total_bpd).all()


def test_a_picture_and_its_number_determine_its_row(gaussian_toy: "GaussianToy") -> None:
    """Whatever else is evaluated; without numbers they are 0, 1, 2 and so on."""
    x_0 = gaussian_toy.sample(4)
    chain, prior = even_chain(8.0, -3.0, 2), PriorModel.standard(192)

    def totals(pictures: Tensor, numbers: Sequence[int] | None) -> NDArray[np.float64]:
        batches = pictures.split(3)
        return evaluate_bound(
            gaussian_toy, batches, gaussian_toy.transform, chain, prior, seed=5, numbers=numbers
        ).total_bpd

    whole = totals(x_0, None)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(totals(x_0[order], order), whole[order], rtol=1e-12)
    np.testing.assert_allclose(totals(x_0[3:], [3]), whole[3:], rtol=1e-12)
    np.testing.assert_allclose(totals(x_0[[1, 1]], [1, 1]), whole[[1, 1]], rtol=1e-12)
    # High bits count.
    same_picture = totals(x_0[[0] * 4], [0, 1, 1 << 32, 1 << 63])
    assert len(set(same_picture.round(9).tolist())) == 4


def test_noise_of_other_numbers_and_seeds_is_independent() -> None:
    """Numbers in a row, numbers that differ in high bits alone, and seeds in a row: correlations of 4,096 draws."""
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 1 << 32), (0, 2 << 32), (0, 1 << 32 | 1), (1, 1 << 32)]
    drawn = np.stack([torch.randn(4096, generator=noise_generator(*key), dtype=torch.float64) for key in keys])
    correlation = np.corrcoef(drawn)[np.triu_indices(len(keys), 1)]
    # The largest of 28 standard normals, whose standard deviation is 1 / 64, is below 4 but for 0.2 % of all seeds.
    assert np.abs(correlation).max() < 4.0 / 64.0
    np.testing.assert_array_equal(torch.randn(4096, generator=noise_generator(0, 1), dtype=torch.float64), drawn[1])


def test_pictures_of_two_sizes(gaussian_toy: "GaussianToy") -> None:
    batches = [gaussian_toy.sample(3), gaussian_toy.sample(2, side=24)]
    done: list[int] = []
    terms = evaluate_bound(
        gaussian_toy,
        batches,
        gaussian_toy.transform,
        even_chain(8.0, -3.0, 2),
        PriorModel.standard(192),
        progress=done.append,
    )
    assert terms.dims.tolist() == [768] * 3 + [1728] * 2
    assert sum(done) == 5 * 3
    assert terms.mean_bpd == pytest.approx(terms.total_bpd.mean())
    assert terms.pooled_bpd == pytest.approx((terms.total_bpd * terms.dims).sum() / terms.dims.sum())


def made_up_terms(totals: list[float], dims: list[int]) -> BoundTerms:
    count = len(totals)
    steps = np.array(totals)[:, None] * [0.25, 0.5]
    return BoundTerms(
        Chain((3.0, 1.0, -1.0)),
        np.full(count, 0.0),
        steps,
        0.25 * np.array(totals),
        np.array(dims, dtype=np.int64),
        np.full(count, 2.0),
    )


def test_standard_errors() -> None:
    totals = [3.0, 4.0, 5.0, 4.5]
    same = made_up_terms(totals, [48] * 4)
    assert same.stderr_bpd == pytest.approx(np.std(totals, ddof=1) / 2.0)
    assert same.pooled_bpd == pytest.approx(same.mean_bpd)
    assert same.pooled_stderr_bpd == pytest.approx(same.stderr_bpd)
    # A picture of no weight changes the mean over pictures and not the pooled rate.
    mixed = made_up_terms([3.0, 4.0, 100.0], [10**9, 10**9, 1])
    assert mixed.mean_bpd == pytest.approx(107.0 / 3.0)
    assert mixed.pooled_bpd == pytest.approx(3.5, abs=1e-6)


def test_dictionary_is_json_and_adds_up() -> None:
    report = made_up_terms([3.0, 4.0], [48, 48]).to_dict()
    restored = json.loads(json.dumps(report, allow_nan=False))
    assert restored["images"] == 2
    assert restored["dims"] == 96
    assert restored["steps"] == 2
    parts = restored["prior_bpd"] + sum(restored["diffusion_bpd"]) + restored["reconstruction_bpd"]
    assert restored["total_bpd"] == pytest.approx(parts)
    assert json.loads(json.dumps(made_up_terms([3.0], [48]).to_dict(), allow_nan=False))["stderr_bpd"] is None


def test_bad_requests_are_refused(gaussian_toy: "GaussianToy") -> None:
    transform, prior, chain = gaussian_toy.transform, PriorModel.standard(192), even_chain(8.0, -3.0, 2)
    pictures = [gaussian_toy.sample(1)]
    short = Calibration(np.array([8.0, 0.0]), np.ones((2, 192)))
    few = Calibration(np.array([8.0, -3.0]), np.ones((2, 3)))
    with pytest.raises(InputError, match="no pictures"):
        evaluate_bound(gaussian_toy, [], transform, chain, prior)
    with pytest.raises(InputError, match="needs a calibration"):
        evaluate_bound(gaussian_toy, pictures, transform, chain, prior, variance="level")
    with pytest.raises(InputError, match="covers log-SNR 0 to 8"):
        evaluate_bound(gaussian_toy, pictures, transform, chain, prior, variance="level", calibration=short)
    with pytest.raises(InputError, match="3 classes"):
        evaluate_bound(gaussian_toy, pictures, transform, chain, prior, variance="class", calibration=few)
    with pytest.raises(InputError, match="unknown variance 'gamma'"):
        evaluate_bound(gaussian_toy, pictures, transform, chain, prior, variance="gamma")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be"):
        evaluate_bound(gaussian_toy, [torch.zeros(3, 16, 16)], transform, chain, prior)
    for numbers, cause in (([], "0 numbers of noise"), ([0, 1], "2 numbers of noise"), ([-1], "at least 0; got -1")):
        with pytest.raises(InputError, match=cause):
            evaluate_bound(gaussian_toy, pictures, transform, chain, prior, numbers=numbers)


@pytest.mark.parametrize("name", ["colour-8x8", "identity"])
@pytest.mark.parametrize("variance", ["predicted", "class", "level"])
def test_table_and_bound_agree_on_the_same_noise(
    gaussian_toy: "GaussianToy", name: str, variance: VarianceKind
) -> None:
    """Over all levels of the grid both draw the same noise, so the price of the chain is the bound to the last digit."""
    transform = by_name(name)
    prior = PriorModel.standard(transform.dims)
    x_0 = gaussian_toy.sample(5)
    chain = even_chain(9.0, -5.0, 6)
    measured = measure_levels(gaussian_toy, [x_0], transform, chain.log_snr, prior, 4)
    terms = evaluate_bound(
        gaussian_toy,
        x_0.split(2),
        transform,
        chain,
        prior,
        variance=variance,
        calibration=measured.calibration,
        seed=4,
    )
    assert nats_to_bits(chain_cost_nats(measured.table(variance), chain)) == pytest.approx(terms.mean_bpd, rel=1e-10)
