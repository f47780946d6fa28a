r"""Gaussians of the forward and the reverse process.

The variance-preserving forward process (Ho et al. 2020, eq. 4) is

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,      eps ~ N(0, I),

with ``snr = alpha_bar / (1 - alpha_bar)``, a power ratio. Throughout, ``s < t``: s is the cleaner level.
A level is given by its log-SNR alone, since ``alpha_bar = sigmoid(log_snr)``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_codec.errors import InputError


class Posterior(NamedTuple):
    """Coefficients of q(x_s | x_t, x_0) = N(a x_t + c x_0, v)."""

    a: Tensor
    c: Tensor
    v: Tensor


def _spread(level: Tensor, like: Tensor) -> Tensor:
    """Append axes to a tensor of one value an image so that it multiplies ``like``."""
    return level.reshape(level.shape + (1,) * (like.ndim - level.ndim))


def alpha_bar(log_snr: Tensor) -> Tensor:
    """Return alpha_bar = snr / (1 + snr) = sigmoid(log_snr)."""
    return torch.sigmoid(log_snr)


def sigma2(log_snr: Tensor) -> Tensor:
    """Return 1 - alpha_bar = sigmoid(-log_snr), without cancellation at clean levels."""
    return torch.sigmoid(-log_snr)


def q_sample(x_0: Tensor, log_snr: Tensor, noise: Tensor) -> Tensor:
    """Draw from q(x_t | x_0): sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise.

    Args:
        x_0: clean data, [B, ...].
        log_snr: one level an image, [B] (or a scalar tensor).
        noise: standard normal, the shape of ``x_0``.

    Returns:
        x_t, the shape of ``x_0``.

    Source: Ho et al. 2020, eq. 4.
    """
    return _spread(alpha_bar(log_snr).sqrt(), x_0) * x_0 + _spread(sigma2(log_snr).sqrt(), x_0) * noise


def posterior(log_snr_s: Tensor, log_snr_t: Tensor) -> Posterior:
    """Return a, c, v of q(x_s | x_t, x_0) = N(a x_t + c x_0, v) for any s < t.

    With r = snr_t / snr_s in (0, 1):

        a = r sqrt(alpha_bar_s / alpha_bar_t),
        c = (1 - r) sqrt(alpha_bar_s),
        v = (1 - r) (1 - alpha_bar_s),

    so that c^2 / v = snr_s - snr_t.

    Args:
        log_snr_s: level s, any shape.
        log_snr_t: level t, the same shape, nowhere above ``log_snr_s``.

    Raises:
        InputError: where t is cleaner than s.

    Source: Ho et al. 2020, eq. 7, for strides: Kingma et al. 2021 (VDM), appendix A.
    """
    if bool((log_snr_t > log_snr_s).any()):
        raise InputError("posterior needs s < t: log_snr_t must not be above log_snr_s")
    kept = -torch.expm1(log_snr_t - log_snr_s)
    ratio = torch.exp(log_snr_t - log_snr_s)
    root_s = alpha_bar(log_snr_s).sqrt()
    return Posterior(a=ratio * root_s / alpha_bar(log_snr_t).sqrt(), c=kept * root_s, v=kept * sigma2(log_snr_s))


def step_kl_nats(error: Tensor, log_variance: Tensor, snr_difference: Tensor) -> Tensor:
    """Return the KL of one reverse step per dimension, in nats.

    For p(x_s | x_t) = N(a x_t + c m, v + c^2 w) and d = snr_s - snr_t = c^2 / v,

        KL = 1/2 [ ln(1 + d w) + (1 + d (x_0 - m)^2) / (1 + d w) - 1 ].

    Args:
        error: x_0 - m, [B, ...].
        log_variance: ln w, broadcastable to ``error``; w is the predicted variance of x_0 given x_t.
        snr_difference: d, one value an image [B] or a scalar.

    Returns:
        Nats per dimension, the shape of ``error``.
    """
    d = _spread(snr_difference, error)
    return ratio_kl_nats(error, torch.log1p(d * torch.exp(log_variance)), snr_difference)


def ratio_kl_nats(error: Tensor, log_ratio: Tensor, snr_difference: Tensor) -> Tensor:
    """Return the KL of one reverse step of variance v e^rho per dimension, in nats.

    For p(x_s | x_t) = N(a x_t + c m, v e^rho) and d = snr_s - snr_t = c^2 / v,

        KL = 1/2 [ rho + e^-rho - 1 + d (x_0 - m)^2 e^-rho ],

    which is :func:`step_kl_nats` with rho = ln(1 + d w), and also holds for variances below v.

    Args:
        error: x_0 - m, [B, ...].
        log_ratio: rho, broadcastable to ``error``.
        snr_difference: d, one value an image [B] or a scalar.

    Returns:
        Nats per dimension, the shape of ``error``.
    """
    d = _spread(snr_difference, error)
    return 0.5 * (log_ratio + torch.expm1(-log_ratio) + d * error.square() * torch.exp(-log_ratio))
