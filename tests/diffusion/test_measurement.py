"""The prior, and the pass that prices every step between levels, on data whose ideal denoiser is known."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddpm_codec.diffusion.bound import Calibration, PriorModel, measure_levels, prior_kl_nats
from ddpm_codec.diffusion.chain import transition_from_mse
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import InputError

if TYPE_CHECKING:
    from tests.diffusion.conftest import GaussianToy

GRID = np.array([9.0, 6.0, 2.0, -1.0, -6.0])


def test_prior_kl_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    y_0 = torch.randn(3, 5, 2, 4, generator=generator, dtype=torch.float64)
    mean, variance = np.linspace(-1.0, 1.0, 5), np.geomspace(0.01, 4.0, 5)
    for log_snr in (-12.0, -4.5, 0.0, 5.0):
        signal = 1.0 / (1.0 + math.exp(-log_snr))
        m, w = (torch.from_numpy(values)[None, :, None, None] for values in (mean, variance))
        q = Normal(math.sqrt(signal) * y_0, math.sqrt(1.0 - signal))
        p = Normal((math.sqrt(signal) * m).expand_as(y_0), (signal * w + 1.0 - signal).sqrt().expand_as(y_0))
        expected = kl_divergence(q, p).sum(dim=(1, 2, 3))
        ours = prior_kl_nats(y_0, log_snr, PriorModel(mean, variance))
        torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)


def test_standard_prior_is_that_of_ho_et_al() -> None:
    y_0 = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    log_snr = math.log(4.0358e-5)
    signal = 4.0358e-5 / (1.0 + 4.0358e-5)
    # KL( N(sqrt(alpha_bar) x_0, 1 - alpha_bar) || N(0, 1) )
    expected = 48 * 0.5 * ((1.0 - signal) + signal * 0.25 - 1.0 - math.log1p(-signal))
    ours = prior_kl_nats(y_0, log_snr, PriorModel.standard(3)).item()
    assert ours == pytest.approx(expected, rel=1e-9)
    assert 0.5e-5 < ours / 48 / math.log(2.0) < 1.5e-5


def test_fitted_prior_is_mean_and_variance(gaussian_toy: "GaussianToy") -> None:
    x_0 = gaussian_toy.sample(6) + 0.25
    y_0 = gaussian_toy.transform.forward(x_0).transpose(0, 1).flatten(1)
    prior = PriorModel.fit([x_0[:1], x_0[1:]], gaussian_toy.transform)
    np.testing.assert_allclose(prior.mean, y_0.mean(dim=1).numpy(), atol=1e-12)
    np.testing.assert_allclose(prior.variance, y_0.var(dim=1, correction=0).numpy(), rtol=1e-9)


def test_measured_levels_are_the_closed_forms(gaussian_toy: "GaussianToy") -> None:
    prior = PriorModel(np.zeros(192), gaussian_toy.variance)
    done: list[int] = []
    measured = measure_levels(
        gaussian_toy, gaussian_toy.sample(64).split(24), gaussian_toy.transform, GRID, prior, 0, 20.0, done.append
    )
    assert measured.images == 64
    assert sum(done) == 64 * len(GRID)
    # 256 blocks: each class's squared error has a relative standard error of sqrt(2 / 256).
    np.testing.assert_allclose(measured.mse, gaussian_toy.mse(GRID), rtol=6 * math.sqrt(2 / 256))
    exact = transition_from_mse(GRID, gaussian_toy.mse(GRID))
    above = np.isfinite(exact)
    assert (np.isfinite(measured.predicted_nats) == above).all()
    standard_error = 0.7 / math.sqrt(64 * 768)
    np.testing.assert_allclose(measured.predicted_nats[above], exact[above], rtol=0, atol=5 * standard_error)
    information = [gaussian_toy.information_nats(level) for level in GRID]
    np.testing.assert_allclose(measured.prior_nats, information, rtol=0, atol=5 * standard_error)
    np.testing.assert_allclose(measured.pixel_mse, measured.mse.mean(axis=1))


def test_tables_share_the_ends_and_rank_by_what_the_variance_knows(gaussian_toy: "GaussianToy") -> None:
    prior = PriorModel(np.zeros(192), gaussian_toy.variance)
    measured = measure_levels(gaussian_toy, [gaussian_toy.sample(8)], gaussian_toy.transform, GRID, prior, 0, 7.0)
    predicted, by_class, by_level = (measured.table(kind) for kind in ("predicted", "class", "level"))
    for table in (by_class, by_level):
        np.testing.assert_array_equal(table.reconstruction_nats, predicted.reconstruction_nats)
        np.testing.assert_array_equal(table.prior_nats, predicted.prior_nats)
    # Steps longer than 7 nats of log-SNR are priced in closed form only.
    gap = GRID[:, None] - GRID[None, :]
    np.testing.assert_array_equal(np.isfinite(predicted.transition_nats), (gap > 0) & (gap <= 7.0))
    np.testing.assert_array_equal(np.isfinite(by_class.transition_nats), gap > 0)
    above = gap > 0
    assert (by_level.transition_nats[above] > by_class.transition_nats[above]).all()


def test_measurement_does_not_depend_on_the_batch_size(gaussian_toy: "GaussianToy") -> None:
    x_0 = gaussian_toy.sample(5)
    prior = PriorModel.standard(192)
    one, other = (
        measure_levels(gaussian_toy, x_0.split(size), gaussian_toy.transform, GRID, prior, 3) for size in (5, 2)
    )
    np.testing.assert_allclose(one.predicted_nats, other.predicted_nats, rtol=1e-10)
    np.testing.assert_allclose(one.mse, other.mse, rtol=1e-10)
    np.testing.assert_allclose(one.reconstruction_nats, other.reconstruction_nats, rtol=1e-10)


def test_calibration_interpolates_errors() -> None:
    calibration = Calibration(np.array([8.0, 4.0, 0.0]), np.array([[1e-4, 3e-4], [1e-2, 3e-2], [0.1, 0.4]]))
    np.testing.assert_allclose(np.exp(calibration.log_variance(4.0, "class")), [1e-2, 3e-2])
    np.testing.assert_allclose(np.exp(calibration.log_variance(8.0, "level")), [2e-4, 2e-4])
    np.testing.assert_allclose(np.exp(calibration.log_variance(0.0, "level")), [0.25, 0.25])
    np.testing.assert_allclose(np.exp(calibration.log_variance(6.0, "class")), [1e-3, 3e-3])
    with pytest.raises(InputError, match="covers log-SNR 0 to 8"):
        calibration.log_variance(8.1, "level")
    with pytest.raises(InputError, match="predicted"):
        calibration.log_variance(4.0, "predicted")


def test_bad_measurements_are_refused(gaussian_toy: "GaussianToy") -> None:
    transform, prior = gaussian_toy.transform, PriorModel.standard(192)
    with pytest.raises(InputError, match="no pictures"):
        measure_levels(gaussian_toy, [], transform, GRID, prior, 0)
    with pytest.raises(InputError, match="strictly decreasing"):
        measure_levels(gaussian_toy, [], transform, GRID[::-1], prior, 0)
    with pytest.raises(InputError, match=r"multiples of 8; got \[1, 3, 12, 16\]"):
        measure_levels(gaussian_toy, [torch.zeros(1, 3, 12, 16)], transform, GRID, prior, 0)
    with pytest.raises(InputError, match="3 coefficient classes"):
        measure_levels(gaussian_toy, [gaussian_toy.sample(1)], transform, GRID, PriorModel.standard(3), 0)


def test_heads_that_do_not_fit_are_refused() -> None:
    def denoiser(x_t: torch.Tensor, log_snr: torch.Tensor) -> Prediction:
        return Prediction(x_t, torch.zeros(len(x_t), 5, 1, 1), torch.zeros_like(x_t))

    pictures = [torch.zeros(1, 3, 8, 8)]
    with pytest.raises(InputError, match=r"colour-8x8 needs log-variances \[1, 192, 1, 1\]"):
        measure_levels(denoiser, pictures, by_name("colour-8x8"), GRID, PriorModel.standard(192), 0)
    # With W = identity the head of sub-pixels serves instead.
    assert measure_levels(denoiser, pictures, by_name("identity"), GRID, PriorModel.standard(3), 0).images == 1


@pytest.mark.parametrize(
    ("mean", "variance"),
    [
        (np.zeros(3), np.ones(2)),
        (np.zeros((1, 3)), np.ones((1, 3))),
        (np.zeros(2), np.array([1.0, 0.0])),
        (np.array([np.nan, 0.0]), np.ones(2)),
    ],
)
def test_impossible_priors_are_refused(mean: np.ndarray, variance: np.ndarray) -> None:
    with pytest.raises(InputError):
        PriorModel(mean, variance)


def test_prior_of_no_pictures_is_refused() -> None:
    with pytest.raises(InputError, match="no pictures"):
        PriorModel.fit([], by_name("identity"))
