"""Chains that end at a crossing, where a pixel decoder takes over: the cleanest level is given, the others are chosen."""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.diffusion.chain import Chain, LevelTable, select_chain, transition_from_mse
from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.diffusion.noise_level import log_snr_from_sigma
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.errors import InputError
from ddpm_codec.units import GREY_PER_UNIT

LEAST_GAP = 1e-3
"""Shortest step from the crossing to the next level, in nats of log-SNR."""

SAME_LEVEL = 0.1
"""A level of a chain this close to a crossing, in nats of log-SNR, counts as the crossing."""


def log_snr_at(grey_levels: float) -> float:
    """Return the log-SNR at which the noise has that standard deviation in grey levels: -2 ln(g / 127.5)."""
    return float(log_snr_from_sigma(grey_levels / GREY_PER_UNIT))


def levels_above(crossing_log_snr: float, log_snr: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the levels that are noisier than a crossing, cleanest first.

    Raises:
        InputError: there is none.
    """
    found = np.flatnonzero(log_snr < crossing_log_snr - LEAST_GAP)
    if not found.size:
        raise InputError(f"no level of the model is noisier than the crossing at log-SNR {crossing_log_snr:.2f}")
    return found


def pinned_chain(crossing_log_snr: float, steps: int, calibration: Calibration, prior: PriorModel) -> Chain:
    """Return the chain of ``steps`` steps above a crossing that costs least, by dynamic programming.

    The crossing need not be one of the calibrated levels: the network is never asked there. Steps are priced with one optimal
    variance per level and coefficient class, and L_T with the mean picture of the prior,

        L_T = mean_c 1/2 ln(1 + snr_T variance_c).

    Args:
        crossing_log_snr: of the cleanest level.
        steps: K.
        calibration: mean squared errors at the candidate levels.
        prior: p(x_T).

    Raises:
        InputError: there are fewer than K candidates above the crossing.
    """
    above = levels_above(crossing_log_snr, calibration.log_snr)
    levels = np.concatenate([[crossing_log_snr], calibration.log_snr[above]])
    # No step starts at the crossing, so the error there costs nothing.
    errors = np.concatenate([np.zeros((1, calibration.mse.shape[1])), calibration.mse[above]])
    pinned = np.full(len(levels), np.inf)
    pinned[0] = 0.0
    ends = 0.5 * np.log1p(np.exp(levels)[:, None] * prior.variance).mean(axis=1)
    return select_chain(LevelTable(levels, transition_from_mse(levels, errors), pinned, ends), steps)
