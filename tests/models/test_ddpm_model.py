"""A DDPM as bounds see it: its chains, and the terms of the papers, derived once more in float64 with numpy."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.chain import fixed_transition, transition_from_mse
from ddpm_codec.diffusion.measurement import Calibration, VarianceKind, draw_noise, image_generators, measure_errors
from ddpm_codec.diffusion.process import ReverseVariance
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.diffusion.transform import colour_frequency_8x8
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.models.ddpm_model import DdpmModel, _candidates
from tests.ddpm_folders import random_ddpm

Array = NDArray[np.float64]
CPU = torch.device("cpu")
ALL_KINDS: list[VarianceKind] = ["predicted", "beta", "beta-tilde", "level", "class"]


@pytest.fixture
def pictures() -> torch.Tensor:
    """Grey levels as model values, edges included, [3, 3, 16, 16]."""
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (3, 3, 16, 16))
    grey[0, :, :2] = 0
    grey[1, :, :2] = 255
    return torch.from_numpy(grey).float() / 127.5 - 1.0


def calibrated(published: Published, pictures: torch.Tensor) -> DdpmModel:
    model = DdpmModel(published)
    levels = published.process.schedule.log_snr[::2]
    ends = np.unique(np.append(levels, published.process.schedule.log_snr[-1]))[::-1]
    denoiser = model.bound_denoiser(CPU, "float32")
    return DdpmModel(published, measure_errors(denoiser, [pictures], colour_frequency_8x8(), ends.tolist(), 11))


def bound_by_hand(model: Published, x_0: torch.Tensor, chain: list[int], seed: int) -> tuple[Array, Array, Array]:
    """Return L_T, the steps, and L_0 of each picture in bits/dim, from betas alone (Ho et al. 2020, eq. 5 to 7 and 13).

    The respaced process of a chain has alpha_bar of its timesteps and betas that follow from them (Nichol & Dhariwal 2021,
    eq. 19); whole chains are those of Ho et al. Only the network and the noise are shared with what is tested.
    """
    log_alpha_bar = model.process.schedule.log_alpha_bar[chain]
    ab = np.exp(log_alpha_bar)
    before = np.append(1.0, ab[:-1])
    betas = 1.0 - ab / before
    tilde = betas * (1.0 - before) / (1.0 - ab)
    x = x_0.double().numpy()
    prior = 0.5 * (ab[-1] * x**2 + (1.0 - ab[-1]) - 1.0 - np.log(1.0 - ab[-1]))
    network = DdpmModel(model).network(CPU)
    generators = image_generators(seed, 0, len(x_0))
    steps, last = [], np.zeros(())
    for k, t in enumerate(chain):
        noise = draw_noise(x_0, generators).double().numpy()
        x_t = np.sqrt(ab[k]) * x + np.sqrt(1.0 - ab[k]) * noise
        with torch.no_grad():
            raw = network(torch.from_numpy(x_t).float(), torch.full((len(x),), float(t))).double().numpy()
        output, raw = raw[:, :3], raw[:, 3:]
        mean_x0 = (x_t - np.sqrt(1.0 - ab[k]) * output) / np.sqrt(ab[k])
        mean_x0 = np.clip(mean_x0, -1.0, 1.0) if model.process.clip else mean_x0
        smallest = np.log(np.append(tilde[1], tilde[1:])[k])
        largest = np.log(betas[k])
        fraction = (raw + 1.0) / 2.0
        log_variance = {
            "beta": smallest if k == 0 else largest,
            "beta-tilde": smallest,
            "learned-range": fraction * largest + (1.0 - fraction) * smallest,
        }[model.process.variance] * np.ones_like(x)
        if k == 0:
            scale = np.exp(0.5 * log_variance)
            upper = np.where(x > 0.999, 1.0, ndtr((x + 1 / 255 - mean_x0) / scale))
            lower = np.where(x < -0.999, 0.0, ndtr((x - 1 / 255 - mean_x0) / scale))
            last = -np.log(np.maximum(upper - lower, 1e-300))
            continue
        weight_0 = np.sqrt(before[k]) * betas[k] / (1.0 - ab[k])
        distance = (weight_0 * (x - mean_x0)) ** 2
        kl = 0.5 * (log_variance - np.log(tilde[k]) + (tilde[k] + distance) / np.exp(log_variance) - 1.0)
        steps.append(kl.mean(axis=(1, 2, 3)))
    bits = 1.0 / math.log(2.0)
    return bits * prior.mean(axis=(1, 2, 3)), bits * np.array(steps).T, bits * last.mean(axis=(1, 2, 3))


@pytest.mark.parametrize("levels", [None, 2, 7])
@pytest.mark.parametrize("variance", ["beta", "beta-tilde", "learned-range"])
def test_every_term_is_that_of_the_papers(
    pictures: torch.Tensor, variance: ReverseVariance, levels: int | None
) -> None:
    published = random_ddpm(variance=variance)
    model = DdpmModel(published)
    setting = model.bound_setting(model.chain_steps(levels), "even", "predicted")
    chain = np.searchsorted(-published.process.schedule.log_snr, -np.array(setting.chain.log_snr)).tolist()
    assert (chain[0], chain[-1]) == (0, 19)
    prior, steps, last = bound_by_hand(published, pictures.double(), chain, seed=5)
    found = evaluate_bound(
        model.bound_denoiser(CPU, "float32"),
        [pictures.double()],
        setting.transform,
        setting.chain,
        setting.prior,
        variance=setting.variances,
        seed=5,
    )
    # The network sees float32 here and there; everything else is float64.
    np.testing.assert_allclose(found.prior_bpd, prior, rtol=1e-9)
    np.testing.assert_allclose(found.diffusion_bpd, steps, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.reconstruction_bpd, last, rtol=1e-6)
    np.testing.assert_allclose(found.total_bpd, prior + steps.sum(axis=1) + last, rtol=0, atol=1e-6)


def test_the_total_is_the_sum_of_its_terms_to_a_millionth(pictures: torch.Tensor) -> None:
    """Summed picture by picture and message by message, or at once from the means."""
    model = calibrated(random_ddpm(), pictures)
    for kind in ALL_KINDS:
        setting = model.bound_setting(6, "dp", kind)
        denoiser = model.bound_denoiser(CPU, "float32")
        found = evaluate_bound(
            denoiser, [pictures], setting.transform, setting.chain, setting.prior, variance=setting.variances
        )
        values = found.to_dict()
        terms = [values["prior_bpd"], *values["diffusion_bpd"], values["reconstruction_bpd"]]  # type: ignore[misc]
        assert values["total_bpd"] == pytest.approx(sum(terms), abs=1e-6)


def test_the_prior_of_the_linear_schedule_has_its_closed_form(pictures: torch.Tensor) -> None:
    """L_T = 1/2 [alpha_bar_T (mean x^2 - 1) - ln(1 - alpha_bar_T)] per dimension; about 1e-5 bits at T = 1000."""
    published = random_ddpm()
    schedule = NoiseSchedule.linear_beta()
    process = type(published.process)(schedule)
    model = DdpmModel(Published("t", published.unet, published.weights, process, 16))
    setting = model.bound_setting(3, "even", "beta")
    found = evaluate_bound(
        model.bound_denoiser(CPU, "float32"),
        [pictures],
        setting.transform,
        setting.chain,
        setting.prior,
        variance=setting.variances,
    )
    alpha_bar = float(np.prod(1.0 - np.linspace(1e-4, 0.02, 1000)))
    power = pictures.double().square().mean(dim=(1, 2, 3)).numpy()
    closed = 0.5 * (alpha_bar * (power - 1.0) - math.log1p(-alpha_bar)) / math.log(2.0)
    np.testing.assert_allclose(found.prior_bpd, closed, rtol=1e-9)
    assert (found.prior_bpd < 2e-5).all()
    assert (found.prior_bpd > 1e-6).all()


def test_what_a_fixed_variance_costs(pictures: torch.Tensor) -> None:
    """The table that chains are chosen by agrees with the bound, given the errors of the bound's own noise."""
    published = random_ddpm()
    model = DdpmModel(published)
    levels = published.process.schedule.log_snr
    for kind in ("beta", "beta-tilde"):
        setting = model.bound_setting(None, "even", kind)
        denoiser = model.bound_denoiser(CPU, "float32")
        found = evaluate_bound(
            denoiser, [pictures], setting.transform, setting.chain, setting.prior, variance=setting.variances, seed=4
        )
        errors = measure_errors(denoiser, [pictures], setting.transform, levels.tolist(), 4)
        table = fixed_transition(levels, errors.mse.mean(axis=1), kind)
        expected = np.array([table[k, k + 1] for k in range(len(levels) - 1)]) / math.log(2.0)
        np.testing.assert_allclose(found.diffusion_bpd.mean(axis=0), expected, rtol=1e-4)


def test_chosen_levels_are_the_best_of_all(pictures: torch.Tensor) -> None:
    """Dynamic programming against every subset, both ends fixed."""
    from itertools import combinations

    published = random_ddpm(timesteps=9)
    model = calibrated(published, pictures)
    assert model.calibration is not None
    levels = published.process.schedule.log_snr
    mse = np.exp([model.calibration.log_variance(level, "class") for level in levels.tolist()])
    tables = {
        "class": transition_from_mse(levels, mse),
        "level": transition_from_mse(levels, mse.mean(axis=1)),
        "beta": fixed_transition(levels, mse.mean(axis=1), "beta"),
        "beta-tilde": fixed_transition(levels, mse.mean(axis=1), "beta-tilde"),
    }
    for kind, table in tables.items():
        costs = {
            inner: sum(table[s, t] for s, t in zip((0, *inner), (*inner, 8), strict=True))
            for inner in combinations(range(1, 8), 3)
        }
        chain = model.bound_setting(4, "dp", kind).chain  # type: ignore[arg-type]
        found = tuple(np.searchsorted(-levels, -np.array(chain.log_snr)).tolist())
        assert found == (0, *min(costs, key=lambda inner: costs[inner]), 8)


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear_beta(), NoiseSchedule.cosine(4000)])
@pytest.mark.parametrize("count", [50, 400, 900])
def test_candidates_leave_out_what_has_close_neighbours(schedule: NoiseSchedule, count: int) -> None:
    """Both ends, and every timestep that is alone at the clean end, where a missing one would cost most."""
    levels = schedule.log_snr
    chosen = _candidates(levels, count)
    assert (np.diff(chosen) > 0).all()
    assert (chosen[0], chosen[-1]) == (0, len(levels) - 1)
    assert 0.9 * count <= len(chosen) <= count + 1
    step = (levels[0] - levels[-1]) / (count - 1)
    alone = np.flatnonzero((levels[:-2] - levels[1:-1] > step) & (levels[1:-1] - levels[2:] > step)) + 1
    assert len(alone) > 0
    assert set(alone) <= set(chosen)
    assert len(_candidates(levels[:20], count)) == 20


def test_levels_count_timesteps(pictures: torch.Tensor) -> None:
    model = calibrated(random_ddpm(), pictures)
    for levels in (2, 5, 20):
        for schedule in ("even", "dp"):
            setting = model.bound_setting(model.chain_steps(levels), schedule, "level")
            assert len(setting.chain.log_snr) == levels
    assert len(model.bound_setting(None, None, "predicted").chain.log_snr) == 20
    assert model.bound_setting(4, None, "predicted").schedule == "dp"
    assert DdpmModel(model.published).bound_setting(4, None, "predicted").schedule == "even"
    assert len(model.chain_sigmas()) == 20
    assert [model.has_chain(steps) for steps in (0, 1, 19, 20)] == [False, True, True, False]


def test_what_a_model_has_not_is_refused(pictures: torch.Tensor) -> None:
    bare = DdpmModel(random_ddpm())
    for kind in ("class", "level"):
        with pytest.raises(InputError, match=r"\A[^\n]*no calibration[^\n]*\Z"):
            bare.bound_setting(4, "even", kind)
    with pytest.raises(ModelError, match=r"\A[^\n]*needs a calibration[^\n]*\Z"):
        bare.bound_setting(4, "dp", "beta")
    with pytest.raises(ModelError, match=r"\A[^\n]*needs a calibration[^\n]*\Z"):
        bare.chain_sigmas()
    model = calibrated(random_ddpm(), pictures)
    for steps in (20, 1000):
        with pytest.raises(ModelError, match=rf"\A[^\n]*has 20 timesteps, asked for {steps + 1}\Z"):
            model.bound_setting(steps, "dp", "beta")
    with pytest.raises(ModelError, match=r"\A[^\n]*at least 2 timesteps[^\n]*\Z"):
        model.chain_steps(1)


def test_calibrated_variances_are_the_best_at_every_level(pictures: torch.Tensor) -> None:
    """On the pictures and noise that they were measured on: class below level, level below any other single variance."""
    model = DdpmModel(random_ddpm())
    levels = model.process.schedule.log_snr
    denoiser = model.bound_denoiser(CPU, "float32")
    measured = measure_errors(denoiser, [pictures], colour_frequency_8x8(), levels.tolist(), 0)

    def total(calibration: Calibration, kind: VarianceKind) -> float:
        setting = DdpmModel(model.published, calibration).bound_setting(None, "even", kind)
        terms = evaluate_bound(
            denoiser, [pictures], setting.transform, setting.chain, setting.prior, variance=setting.variances
        )
        return float(terms.diffusion_bpd.sum(axis=1).mean())

    best = total(measured, "level")
    assert total(measured, "class") < best
    for factor in (0.8, 1.25):
        assert total(Calibration(levels, factor * measured.mse), "level") > best
    for kind in ("beta", "beta-tilde"):
        assert total(measured, kind) > best
