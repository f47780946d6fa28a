"""A small network with weights that are not zero, and a frozen model of it."""

import numpy as np
import torch

from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.nn.codec_net import CodecNet, CodecNetConfig
from ddpm_codec.nn.denoiser import CodecDenoiser

CONFIG = CodecNetConfig(width=8, mid_width=16, outer_blocks=1, mid_blocks=1, variance_width=16, embedding=16)


def toy_denoiser() -> CodecDenoiser:
    """Return a small denoiser in eval mode whose heads and blocks do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = CodecDenoiser(CodecNet(CONFIG))
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return built.eval().requires_grad_(False)


def toy_frozen(denoiser: CodecDenoiser) -> FrozenModel:
    """Return a frozen model with chains of one to three steps."""
    rng = np.random.default_rng(0)
    return FrozenModel(
        name="toy",
        description="a toy",
        config=CONFIG,
        transform="colour-8x8",
        weights=dict(denoiser.state_dict()),
        sigmas={(0, steps): tuple(0.005 * 3.0**level for level in range(steps + 1)) for steps in (1, 2, 3)},
        default_steps=2,
        tile=64,
        prior_mean=rng.normal(size=192),
        prior_variance=rng.uniform(0.1, 1.0, 192),
        grid_log_snr=np.linspace(10.0, -3.0, 5),
        class_mse=rng.uniform(0.1, 1.0, (5, 192)),
        training={"steps": 3},
    )
