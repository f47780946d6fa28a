"""The training objective: the bound of a K-level chain, one random term an image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_codec.diffusion.gaussian import q_sample, step_kl_nats
from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.units import nats_to_bits

CLEAN_JITTER = 0.4


@dataclass(frozen=True)
class Draw:
    """Levels of a batch: the first ``clean`` images are priced by L_0, the others by the KL of one step."""

    log_snr: Tensor
    clean: int


def draw_levels(config: TrainConfig, count: int, generator: torch.Generator) -> Draw:
    """Draw one level an image, low-discrepancy over the range (Kingma et al. 2021, appendix I.1).

    Step levels t are uniform in [log_snr_min, log_snr_max - step], step = range / K, since each of the K steps from such
    a t to t + step costs about the same; clean levels lie within 0.4 of log_snr_max, where chains may end.
    """
    clean = max(1, round(config.clean_share * count)) if config.clean_share > 0 else 0
    rest = count - clean
    offset = torch.rand((), generator=generator)
    uniform = (torch.arange(rest) / max(rest, 1) + offset) % 1.0
    span = config.log_snr_max - config.log_snr_min
    steps = config.log_snr_min + span * (1.0 - 1.0 / config.levels) * uniform
    jitter = CLEAN_JITTER * (2.0 * torch.rand(clean, generator=generator) - 1.0)
    return Draw(torch.cat([config.log_snr_max + jitter, steps]), clean)


@dataclass(frozen=True)
class Loss:
    """The loss to descend, and its two parts in bits/dim."""

    total: Tensor
    steps_bpd: float
    reconstruction_bpd: float


def bound_loss(
    denoiser: Callable[[Tensor, Tensor], Prediction],
    transform: BlockTransform,
    x_0: Tensor,
    noise: Tensor,
    draw: Draw,
    config: TrainConfig,
) -> Loss:
    """Return an unbiased estimate of sum_t L_t + clean_weight L_0, in nats per dimension.

    Args:
        denoiser: the network (possibly wrapped for several processes).
        transform: W.
        x_0: model values, [B, 3, H, W].
        noise: standard normal, the same shape; W of it is standard normal as well.
        draw: one level an image.
        config: K, range and weights.
    """
    clean = draw.clean
    log_snr = draw.log_snr.to(x_0.device)
    autocast = torch.autocast(x_0.device.type, dtype=torch.bfloat16, enabled=config.dtype == "bf16")
    with autocast:
        prediction = denoiser(q_sample(x_0, log_snr, noise), log_snr)
    with torch.autocast(x_0.device.type, enabled=False):
        level = log_snr[clean:]
        step = (config.log_snr_max - config.log_snr_min) / config.levels
        error = transform.forward((x_0 - prediction.x0_mean)[clean:])
        kl = step_kl_nats(error, prediction.coef_log_var[clean:], torch.exp(level + step) - torch.exp(level))
        steps = config.levels * kl.mean()
        log_p = gaussian_log_likelihood(x_0[:clean], prediction.x0_mean[:clean], prediction.pixel_log_var[:clean])
        reconstruction = -log_p.mean() if clean else steps.new_zeros(())
    return Loss(
        steps + config.clean_weight * reconstruction,
        nats_to_bits(steps.item()),
        nats_to_bits(reconstruction.item()),
    )
