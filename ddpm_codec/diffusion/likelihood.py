"""Discretised likelihoods of grey levels: the last message, L_0.

A grey level k has the model value x = k / 127.5 - 1 and owns the bin [x - 1/255, x + 1/255]; the bins of 0 and 255 are
open to infinity, so that the masses of the 256 bins sum to one (Ho et al. 2020, eq. 13).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from ddpm_codec.units import BIN_WIDTH

_EDGE = 1.0 - 0.5 * BIN_WIDTH


class _LogNormalCdf(torch.autograd.Function):
    """ln Phi with a derivative that holds in the tail.

    torch differentiates ``log_ndtr`` as exp(-z^2/2 - ln Phi(z)), which cancels: at z = -5e4 it is infinite in float32
    and at z = -1e9 it is 0.4 in float64, where the derivative is -z. Here it is sqrt(2/pi) / erfcx(-z / sqrt(2)).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        value: Tensor = torch.special.log_ndtr(z)
        return value

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors  # type: ignore[attr-defined]  # torch types no context
        slope: Tensor = math.sqrt(2.0 / math.pi) / torch.special.erfcx(-math.sqrt(0.5) * z)
        return grads[0] * slope


def _log_normal_cdf(z: Tensor) -> Tensor:
    value: Tensor = _LogNormalCdf.apply(z)  # type: ignore[no-untyped-call]  # nor apply
    return value


def _log_difference(log_high: Tensor, log_low: Tensor) -> Tensor:
    """Return ln(e^high - e^low) for high > low, without cancellation: high + ln(1 - e^(low - high))."""
    gap = (log_low - log_high).clamp(max=-1e-30)
    near = gap > -0.693
    # The branch not taken must not see a gap of zero: its gradient would be infinite, and 0 times infinity is NaN.
    far_gap = torch.where(near, -1.0, gap)
    log_rest = torch.where(near, torch.log(-torch.expm1(gap)), torch.log1p(-torch.exp(far_gap)))
    return log_high + log_rest


def _bin_edges(x_0: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return both edges of each bin in units of the scale, turned so that the bin lies left of the mean.

    By symmetry the mass of a bin right of the mean equals that of its mirror image on the left, where the distribution
    function is small and its logarithm exact.
    """
    centred = x_0 - mean
    low = torch.where(x_0 < -_EDGE, -torch.inf, (centred - 0.5 * BIN_WIDTH) / scale)
    high = torch.where(x_0 > _EDGE, torch.inf, (centred + 0.5 * BIN_WIDTH) / scale)
    right = centred > 0
    return torch.where(right, -high, low), torch.where(right, -low, high)


def _log_mass(log_cdf: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Return ln(F(high) - F(low)); infinite edges are replaced before use: no gradient turns into NaN."""
    open_low, open_high = torch.isinf(low), torch.isinf(high)
    log_high = torch.where(open_high, 0.0, log_cdf(torch.where(open_high, 0.0, high)))
    log_low = log_cdf(torch.where(open_low, -1.0, low))
    inner = _log_difference(log_high, torch.where(open_low, log_high.detach() - 1.0, log_low))
    return torch.where(open_low, log_high, inner)


def gaussian_log_likelihood(x_0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return ln P(x_0) under a discretised Gaussian, per dimension, in nats.

        P(k) = Phi((x + 1/255 - m) / sd) - Phi((x - 1/255 - m) / sd),   edge bins open.

    The tails are exact: ``log_ndtr`` on the side where it is small, nothing clamped. Gradients are finite for every
    finite input. Use float64 for reported figures.

    Args:
        x_0: model values on the grid k / 127.5 - 1, [B, ...].
        mean: m, the shape of ``x_0``.
        log_variance: ln sd^2, broadcastable.

    Source: Ho et al. 2020, eq. 13.
    """
    low, high = _bin_edges(x_0, mean, torch.exp(0.5 * log_variance))
    return _log_mass(_log_normal_cdf, low, high)


def two_scale_log_likelihood(
    x_0: Tensor, mean: Tensor, log_variance: Tensor, wide_logit: Tensor, wide_log_ratio: Tensor
) -> Tensor:
    """Return ln P(x_0) under two discretised Gaussians with one mean, per dimension, in nats.

        P(k) = (1 - w) N(k; m, sd^2) + w N(k; m, (r sd)^2),   w = sigmoid(wide_logit), r = e^wide_log_ratio,

    N(k; ...) the masses of :func:`gaussian_log_likelihood`: edge bins open, tails exact, so the 256 masses sum to one.

    Args:
        x_0: model values on the grid k / 127.5 - 1, [B, ...].
        mean: m, the shape of ``x_0``.
        log_variance: ln sd^2 of the narrow component, broadcastable.
        wide_logit: ln(w / (1 - w)), broadcastable.
        wide_log_ratio: ln r, broadcastable.
    """
    narrow = functional.logsigmoid(-wide_logit) + gaussian_log_likelihood(x_0, mean, log_variance)
    wide_log_variance = log_variance + 2.0 * wide_log_ratio
    wide = functional.logsigmoid(wide_logit) + gaussian_log_likelihood(x_0, mean, wide_log_variance)
    return torch.logaddexp(narrow, wide)


def logistic_log_likelihood(x_0: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return ln P(x_0) under a discretised logistic, per dimension, in nats.

        P(k) = F((x + 1/255 - m) / e^log_scale) - F((x - 1/255 - m) / e^log_scale),   F the logistic sigmoid.

    Arguments as in :func:`gaussian_log_likelihood`; the variance is (pi e^log_scale)^2 / 3.

    Source: Salimans et al. 2017 (PixelCNN++), eq. 2.
    """
    low, high = _bin_edges(x_0, mean, torch.exp(log_scale))
    return _log_mass(functional.logsigmoid, low, high)
