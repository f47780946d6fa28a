"""A quick validation bound of codec networks: fixed crops and noise, evenly spaced chain."""

import torch
from torch import Tensor

from ddpm_codec.device import autocast
from ddpm_codec.diffusion.gaussian import q_sample, step_kl_nats
from ddpm_codec.diffusion.likelihood import gaussian_log_likelihood
from ddpm_codec.diffusion.measurement import step_log_variance
from ddpm_codec.diffusion.transform import BlockTransform
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.units import nats_to_bits


@torch.no_grad()
def validation_bound_bpd(denoiser: CodecDenoiser, transform: BlockTransform, x_0: Tensor, config: TrainConfig) -> float:
    """Return sum_t L_t + L_0 in bits/dim, without L_T, for model values x_0 [B, 3, H, W].

    L_0 is left out if the run does not train it, because a pixel decoder takes over at the cleanest level. The noise depends
    on the seed alone, so values of one run can be compared.
    """
    generator = torch.Generator().manual_seed(config.seed)
    levels = torch.linspace(config.log_snr_max, config.log_snr_min, config.steps + 1, dtype=torch.float32)
    total = 0.0
    for index, level in enumerate(levels):
        noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float32).to(x_0.device)
        if index == 0 and config.clean_share == 0.0:
            continue
        log_snr = level.expand(len(x_0)).to(x_0.device)
        with autocast(x_0.device, config.dtype):
            prediction = denoiser(q_sample(x_0, log_snr, noise), log_snr)
        if index == 0:
            log_p = gaussian_log_likelihood(x_0, prediction.x0_mean, prediction.pixel_log_var)
            total -= log_p.double().mean().item()
        else:
            difference = torch.exp(levels[index - 1]) - torch.exp(level)
            error = transform.forward(x_0 - prediction.x0_mean)
            kl = step_kl_nats(error, step_log_variance(prediction, transform), difference.to(x_0.device))
            total += kl.double().mean().item()
    return nats_to_bits(total)
