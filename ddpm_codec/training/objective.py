"""The training objective of codec networks: the bound of a K-step chain, one random term per image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_codec.device import autocast
from ddpm_codec.diffusion.gaussian import q_sample, step_kl_nats
from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood
from ddpm_codec.diffusion.measurement import step_log_variance
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.task import Loss

CLEAN_JITTER = 0.4


@dataclass(frozen=True)
class Draw:
    """Levels of a batch or of one process's part of it.

    Attributes:
        log_snr: one level per image, [B]; L_0 applies to the first ``clean`` images, the KL of one step to the others.
        clean: number of clean images.
        clean_weight: weight of one clean image in the mean of L_0, 1 / clean in a whole batch.
        step_weight: weight of one other image in the mean of the KLs.
    """

    log_snr: Tensor
    clean: int
    clean_weight: float
    step_weight: float

    def part(self, rank: int, world: int) -> "Draw":
        """Return the images rank, rank + world, rank + 2 world, ... of a whole batch.

        So each process has its share of clean images, to within one, and of the range of levels. The weights make the mean
        of the losses (and gradients) over processes exactly that of the whole batch, even where shares differ by one.
        """
        clean = len(range(rank, self.clean, world))
        return Draw(self.log_snr[rank::world], clean, world * self.clean_weight, world * self.step_weight)


def draw_levels(config: TrainConfig, count: int, generator: torch.Generator) -> Draw:
    """Draw one level per image, low-discrepancy over the range (Kingma et al. 2021, appendix I.1).

    Step levels t are uniform in [log_snr_min, log_snr_max - step], step = range / K, since each of the K steps from such
    a t to t + step costs about the same; clean levels lie within 0.4 of log_snr_max, where chains may end.
    """
    clean = min(max(1, round(config.clean_share * count)), count - 1) if config.clean_share > 0 else 0
    rest = count - clean
    offset = torch.rand((), generator=generator, dtype=torch.float32)
    uniform = (torch.arange(rest, dtype=torch.float32) / rest + offset) % 1.0
    span = config.log_snr_max - config.log_snr_min
    steps = config.log_snr_min + span * (1.0 - 1.0 / config.steps) * uniform
    jitter = CLEAN_JITTER * (2.0 * torch.rand(clean, generator=generator, dtype=torch.float32) - 1.0)
    return Draw(torch.cat([config.log_snr_max + jitter, steps]), clean, 1.0 / max(clean, 1), 1.0 / rest)


def bound_loss(
    denoiser: Callable[[Tensor, Tensor], Prediction],
    transform: BlockTransform,
    x_0: Tensor,
    noise: Tensor,
    draw: Draw,
    config: TrainConfig,
) -> Loss:
    """Return an unbiased estimate of sum_t L_t + clean_weight L_0, in nats per dimension.

    For one part of a batch (:meth:`Draw.part`) it is the mean over all parts that estimates this.

    Args:
        denoiser: the network (possibly wrapped for several processes).
        transform: W.
        x_0: model values, [B, 3, H, W].
        noise: standard normal, the same shape; W of it is standard normal as well.
        draw: one level per image.
        config: K, range and weights.

    Returns:
        The loss and its parts, the steps and L_0, in nats per dimension. That of the steps has the mean
        K E[ KL( t -> t + range / K ) ], t uniform in [log_snr_min, log_snr_max - range / K]: the sum of a K-step chain's
        terms, had each its mean cost.
    """
    clean = draw.clean
    log_snr = draw.log_snr.to(x_0.device)
    with autocast(x_0.device, config.dtype):
        prediction = denoiser(q_sample(x_0, log_snr, noise), log_snr)
    with torch.autocast(x_0.device.type, enabled=False):
        level = log_snr[clean:]
        step = (config.log_snr_max - config.log_snr_min) / config.steps
        # Sliced after W, which takes no empty batch.
        error = transform.forward(x_0 - prediction.x0_mean)[clean:]
        log_variance = step_log_variance(prediction, transform)[clean:]
        kl = step_kl_nats(error, log_variance, torch.exp(level + step) - torch.exp(level))
        steps = config.steps * draw.step_weight * kl.mean(dim=(1, 2, 3)).sum()
        log_p = gaussian_log_likelihood(x_0[:clean], prediction.x0_mean[:clean], prediction.pixel_log_var[:clean])
        reconstruction = -draw.clean_weight * log_p.mean(dim=(1, 2, 3)).sum()
    total = steps + config.clean_weight * reconstruction
    return Loss(total, (steps.detach().double(), reconstruction.detach().double()))
