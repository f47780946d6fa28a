"""Chains that are pinned at a crossing, against all chains there are."""

import itertools
import math

import numpy as np
import pytest

from ddpm_codec.diffusion.crossing import levels_above, log_snr_at, pinned_chain
from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.errors import InputError

LEVELS = np.linspace(9.0, -3.0, 13)
PRIOR = PriorModel(np.zeros(4), np.array([2.0, 0.4, 0.1, 0.02]))


def calibration() -> Calibration:
    """Errors that grow with the noise as those of a Gaussian of the prior's variances do, with bumps."""
    snr = np.exp(LEVELS)[:, None]
    bumps = 1.0 + 0.3 * np.sin(5.0 * np.arange(13))[:, None]
    return Calibration(LEVELS, bumps * PRIOR.variance / (1.0 + snr * PRIOR.variance))


def cost(chain: tuple[float, ...], mse: dict[float, np.ndarray]) -> float:
    snr = np.exp(chain)
    steps = [0.5 * np.log1p((s - t) * mse[level]).mean() for s, t, level in zip(snr, snr[1:], chain[1:], strict=False)]
    return float(sum(steps) + 0.5 * np.log1p(snr[-1] * PRIOR.variance).mean())


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("grey_levels", [3.2, 8.2, 20.0])
def test_no_chain_from_the_crossing_costs_less(steps: int, grey_levels: float) -> None:
    crossing = log_snr_at(grey_levels)
    mse = dict(zip(LEVELS.tolist(), calibration().mse, strict=True))
    above = [level for level in LEVELS.tolist() if level < crossing]
    best = min(cost((crossing, *rest), mse) for rest in itertools.combinations(above, steps))
    chain = pinned_chain(crossing, steps, calibration(), PRIOR)
    assert chain.log_snr[0] == crossing
    assert chain.steps == steps
    assert cost(chain.log_snr, mse) == pytest.approx(best, rel=1e-12)


def test_a_crossing_is_noise_in_grey_levels() -> None:
    for grey_levels in (0.5, 3.2, 127.5):
        assert 127.5 / math.sqrt(math.exp(log_snr_at(grey_levels))) == pytest.approx(grey_levels)
    assert log_snr_at(127.5) == 0.0


def test_a_level_of_the_model_can_be_the_crossing() -> None:
    assert levels_above(6.0, LEVELS).tolist() == list(range(4, 13))
    assert pinned_chain(6.0, 9, calibration(), PRIOR).log_snr == tuple(LEVELS[3:].tolist())


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no level of the model is noisier than the crossing"):
        pinned_chain(-3.0, 1, calibration(), PRIOR)
    with pytest.raises(InputError, match="cannot choose 10 steps"):
        pinned_chain(6.0, 10, calibration(), PRIOR)
