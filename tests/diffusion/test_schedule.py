"""Schedules against published tables, independent formulas and high-precision arithmetic."""

import math

import mpmath
import numpy as np
import pytest

from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError

SCHEDULES = {
    "linear": NoiseSchedule.linear_beta(),
    "linear, 50 levels": NoiseSchedule.linear_beta(50, 2e-3, 0.4),
    "cosine": NoiseSchedule.cosine(1000),
    "cosine, 4000 levels": NoiseSchedule.cosine(4000),
    "log-SNR": NoiseSchedule.from_log_snr(np.linspace(10.8, -4.5, 97)),
    "log-SNR, wide": NoiseSchedule.from_log_snr(np.linspace(60.0, -60.0, 11)),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_quantities_agree_with_each_other(schedule: NoiseSchedule) -> None:
    assert (np.diff(schedule.log_snr) < 0.0).all()
    np.testing.assert_allclose(schedule.alpha_bar, 1.0 / (1.0 + np.exp(-schedule.log_snr)), rtol=1e-12)
    rebuilt = NoiseSchedule.from_betas(schedule.betas[:5])
    np.testing.assert_allclose(rebuilt.log_snr, schedule.log_snr[:5], rtol=1e-9)


def test_linear_is_that_of_ho_et_al() -> None:
    schedule = SCHEDULES["linear"]
    assert schedule.alpha_bar[0] == pytest.approx(0.9999, rel=1e-12)
    assert schedule.alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)
    np.testing.assert_allclose(schedule.betas, np.linspace(1e-4, 0.02, 1000), rtol=1e-11)


def test_linear_prior_term_is_the_published_hundred_thousandth() -> None:
    # Ho et al., sec. 4: KL(q(x_T | x_0) || N(0, I)) is about 1e-5 bits/dim; natural images have E x_0^2 of about 1/4.
    alpha_bar = SCHEDULES["linear"].alpha_bar[-1]
    nats = 0.5 * ((1.0 - alpha_bar) + alpha_bar * 0.25 - 1.0 - math.log1p(-alpha_bar))
    assert 0.5e-5 < nats / math.log(2.0) < 1.5e-5


def test_linear_log_snr_is_exact_at_both_ends() -> None:
    with mpmath.workdps(40):
        log_alpha_bar = mpmath.mpf(0)
        exact = []
        for beta in np.linspace(1e-4, 0.02, 1000):
            log_alpha_bar += mpmath.log1p(-mpmath.mpf(float(beta)))
            alpha_bar = mpmath.exp(log_alpha_bar)
            exact.append(float(mpmath.log(alpha_bar / (1 - alpha_bar))))
    np.testing.assert_allclose(SCHEDULES["linear"].log_snr, exact, rtol=1e-12, atol=1e-12)


def test_cosine_is_that_of_nichol_and_dhariwal() -> None:
    schedule = SCHEDULES["cosine"]
    # Before the cap takes hold, alpha_bar_t = f(t) / f(0).
    t = np.arange(1, 999) / 1000
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alpha_bar[:998], f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2, rtol=1e-9)
    assert schedule.betas[-1] == pytest.approx(0.999, rel=1e-12)
    assert schedule.betas.max() == pytest.approx(0.999, rel=1e-12)


def test_levels_given_as_log_snr_come_back() -> None:
    np.testing.assert_allclose(SCHEDULES["log-SNR"].log_snr, np.linspace(10.8, -4.5, 97), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NoiseSchedule.linear_beta(0),
        lambda: NoiseSchedule.linear_beta(10, 0.0, 0.02),
        lambda: NoiseSchedule.linear_beta(10, 1e-4, 1.0),
        lambda: NoiseSchedule.cosine(10, max_beta=1.0),
        lambda: NoiseSchedule.from_log_snr([-4.0, 4.0]),
        lambda: NoiseSchedule.from_log_snr([]),
        lambda: NoiseSchedule(np.array([-1.0, np.nan])),
        lambda: NoiseSchedule(np.array([0.0, -1.0])),
        lambda: NoiseSchedule(np.zeros((0,))),
    ],
)
def test_impossible_schedules_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]
