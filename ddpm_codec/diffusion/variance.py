r"""Variances of the reverse steps and of the decoder L_0.

A step p(x_s | x_t) = N(a x_t + c x0_mean, v e^rho) is given by rho, the log-ratio of its variance to the posterior's. Where
the variance of x_0 given x_t is w, the reverse variance is v + c^2 w, so

    rho = ln(1 + d w),   d = snr_s - snr_t,

whatever the stride. Ho et al.'s two choices are of this kind for every s < t: beta_t is w = 1 - alpha_bar_t (data that are
standard normal), beta-tilde_t is w = 0 (data that are one point). A learned range is not: its rho may be negative.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ddpm_codec.diffusion.measurement import Calibration, VarianceKind, step_log_variance
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.errors import InputError


class Variances(Protocol):
    """Where the variances of a chain come from."""

    def log_ratio(self, prediction: Prediction, log_snr_s: float, log_snr_t: float) -> Tensor:
        """Return rho of the step t -> s in float64, broadcastable to coefficients [B, D, h, w] of W x_0."""
        ...

    def decoder_log_variance(self, prediction: Prediction, first: float, second: float) -> Tensor:
        """Return ln variance of p(x_0 | x_first) in float64, broadcastable to [B, 3, H, W]; ``second`` is the next level."""
        ...


@dataclass(frozen=True)
class NetworkVariances:
    """What the network predicts, as variances of x_0.

    Attributes:
        transform: W.
    """

    transform: BlockTransform

    def log_ratio(self, prediction: Prediction, log_snr_s: float, log_snr_t: float) -> Tensor:
        """See :class:`Variances`."""
        return _log_ratio(step_log_variance(prediction, self.transform).double(), log_snr_s, log_snr_t)

    def decoder_log_variance(self, prediction: Prediction, first: float, second: float) -> Tensor:
        """See :class:`Variances`."""
        del first, second
        return prediction.pixel_log_var.double()


@dataclass(frozen=True)
class CalibratedVariances(NetworkVariances):
    """Optimal variances of x_0, measured on training pictures; the decoder's are the network's.

    Attributes:
        calibration: measured for that W.
        kind: one per level, or one per level and coefficient class.
    """

    calibration: Calibration
    kind: Literal["class", "level"]

    def __post_init__(self) -> None:
        classes = self.calibration.mse.shape[1]
        if classes != self.transform.dims:
            name, dims = self.transform.name, self.transform.dims
            raise InputError(f"the calibration has {classes} classes, transform {name} has {dims}")

    def log_ratio(self, prediction: Prediction, log_snr_s: float, log_snr_t: float) -> Tensor:
        """See :class:`Variances`."""
        values = torch.from_numpy(self.calibration.log_variance(log_snr_t, self.kind))
        return _log_ratio(values.to(prediction.x0_mean.device)[None, :, None, None], log_snr_s, log_snr_t)


@dataclass(frozen=True)
class ProcessVariances:
    """Those of a DDPM as it was defined: beta, beta-tilde or a learned range, W = identity or any other.

    Attributes:
        process: whose ``variance`` it is.
    """

    process: ReverseProcess

    def log_ratio(self, prediction: Prediction, log_snr_s: float, log_snr_t: float) -> Tensor:
        """See :class:`Variances`."""
        s, t = (_scalar(level).to(prediction.x0_mean.device)[None] for level in (log_snr_s, log_snr_t))
        return self.process.log_ratio(s, t, _fraction(prediction))

    def decoder_log_variance(self, prediction: Prediction, first: float, second: float) -> Tensor:
        """See :class:`Variances`."""
        levels = [_scalar(level).to(prediction.x0_mean.device)[None] for level in (first, second)]
        return self.process.decoder_log_variance(levels[0], levels[1], _fraction(prediction))


def variances_of(
    kind: VarianceKind, transform: BlockTransform, calibration: Calibration | None, log_snr: tuple[float, ...]
) -> Variances:
    """Return the variances of that name.

    Args:
        kind: ``predicted`` by the network, calibrated per ``class`` or ``level``, or fixed: ``beta``, ``beta-tilde``.
        transform: W.
        calibration: measured on training pictures; needed for ``class`` and ``level``.
        log_snr: the levels of the chain.

    Raises:
        InputError: an unknown kind, or a calibration that is missing or of another transform.
    """
    if kind == "predicted":
        return NetworkVariances(transform)
    if kind in ("class", "level"):
        if calibration is None:
            raise InputError(f"variance {kind!r} needs a calibration measured on training pictures")
        return CalibratedVariances(transform, calibration, kind)
    if kind in ("beta", "beta-tilde"):
        levels = NoiseSchedule.from_log_snr(log_snr)
        return ProcessVariances(ReverseProcess(levels, variance=kind))
    raise InputError(f"unknown variance {kind!r}")


def _log_ratio(log_variance: Tensor, log_snr_s: float, log_snr_t: float) -> Tensor:
    """Return ln(1 + d w) with d = snr_s - snr_t, without cancellation for neighbouring levels."""
    difference = _scalar(log_snr_t).exp() * torch.expm1(_scalar(log_snr_s) - _scalar(log_snr_t))
    return torch.log1p(difference.to(log_variance.device) * log_variance.exp())


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _fraction(prediction: Prediction) -> Tensor | None:
    return None if prediction.range_fraction is None else prediction.range_fraction.double()
