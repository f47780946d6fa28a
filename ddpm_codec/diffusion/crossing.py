"""Chains that end at a crossing, where a pixel decoder takes over: the cleanest level is given, the others are chosen."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_codec.diffusion.chain import Chain, LevelTable, select_chain, transition_from_mse
from ddpm_codec.diffusion.measurement import Calibration, LevelMeasurement, draw_noise, image_generators
from ddpm_codec.diffusion.noise_level import log_snr_from_sigma, sigma_from_log_snr
from ddpm_codec.diffusion.pixel_likelihood import PixelLikelihood
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


def crossing_index(crossings: Sequence[float], grey_levels: float, owner: str) -> int:
    """Return which of the crossings, in grey levels, is meant.

    Args:
        crossings: those that there are.
        grey_levels: the one that is asked for, to within one per cent.
        owner: what has the crossings, in messages.

    Raises:
        InputError: it is none of them.
    """
    for index, own in enumerate(crossings):
        if math.isclose(own, grey_levels, rel_tol=0.01):
            return index
    if not crossings:
        raise InputError(f"crossing {grey_levels:g}: {owner} has no pixel decoder, so no crossing")
    known = ", ".join(f"{own:g}" for own in crossings)
    raise InputError(f"crossing {grey_levels:g}: {owner} was trained at {known} grey levels")


def levels_above(crossing_log_snr: float, log_snr: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the levels that are noisier than a crossing, cleanest first.

    Raises:
        InputError: there is none.
    """
    found = np.flatnonzero(log_snr < crossing_log_snr - LEAST_GAP)
    if not found.size:
        raise InputError(f"no level of the model is noisier than the crossing at log-SNR {crossing_log_snr:.2f}")
    return found


def table_above(measured: LevelMeasurement, crossing: int) -> LevelTable:
    """Return the costs of chains whose cleanest level is a crossing, without those of the pixel decoder there.

    Args:
        measured: costs of steps between levels, and to crossings.
        crossing: index of one of them.

    Raises:
        InputError: no level is noisier.
    """
    at, from_crossing = float(measured.crossings[crossing]), measured.crossing_nats[crossing]
    above = levels_above(at, measured.log_snr)
    count = len(above) + 1
    transition = np.full((count, count), np.inf)
    transition[0, 1:] = from_crossing[above]
    transition[1:, 1:] = measured.predicted_nats[np.ix_(above, above)]
    pinned = np.full(count, np.inf)
    pinned[0] = 0.0
    # No chain ends where it begins.
    prior = np.concatenate([[np.inf], measured.prior_nats[above]])
    return LevelTable(np.concatenate([[at], measured.log_snr[above]]), transition, pinned, prior)


@torch.no_grad()
def measure_decoder(decoder: PixelLikelihood, batches: Iterable[Tensor], log_snr: float, seed: int) -> float:
    """Return the mean of -ln p(x_0 | z_0) at a crossing, in nats per dimension, with one noise draw an image.

    Args:
        decoder: p(x_0 | z_0), on the device of the batches.
        batches: model values x_0, each [B, 3, H, W].
        log_snr: of the crossing.
        seed: of the noise; the result does not depend on the batch size.

    Raises:
        InputError: for no pictures.
    """
    nats, dims, images = 0.0, 0, 0
    for x_0 in batches:
        noise = draw_noise(x_0, image_generators(seed, images, len(x_0)))
        levels = torch.full((len(x_0),), log_snr, dtype=x_0.dtype, device=x_0.device)
        parameters, _ = decoder.parameters_given(x_0 + float(sigma_from_log_snr(log_snr)) * noise, levels, x_0)
        nats -= parameters.log_likelihood(x_0, torch.float64).sum().item()
        dims, images = dims + x_0.numel(), images + len(x_0)
    if not images:
        raise InputError("cannot measure a pixel decoder: no pictures")
    return nats / dims


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
