"""A tiny exact model with a pixel decoder: random numbers near those of no network at all, so that it codes noise well.

``toy_exact()`` is the model, ``write_toy_exact(folder)`` its file; it is made once in a test session, in a second. It has two
crossings (TOY_CROSSINGS), chains of one to eight steps above each, and a prior fitted to ``noisy_picture``, the pictures of
the golden files: its bound on those of 64x64 is 6.41 bits/dim, and WebP takes 6.62.
"""

import dataclasses
import functools
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.coding.tables import tables_hash
from ddpm_codec.diffusion.noise_level import log_snr_from_sigma
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.model_file import model_bytes
from ddpm_codec.nn.codec_net import CodecNet, CodecNetConfig
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.exact.parameters import ExactParameters
from ddpm_codec.training.calibration import calibrate
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.freezing import freeze_on
from tests.golden.regenerate import noisy_picture
from tests.toy_decoders import random_exact_decoder

TOY_CROSSINGS = (3.2, 8.2)
"""Noise in grey levels."""

LONGEST = 8
"""Steps of the longest chain above each crossing."""

NOISE = 3.6 * 1.3 ** np.arange(12)
"""Of the levels above, in grey levels."""

CONFIG = CodecNetConfig(width=8, mid_width=16, outer_blocks=1, mid_blocks=1, variance_width=16, embedding=16)
CROP = 32


class _Crops:
    """Noisy pictures in the place of a sampler of training crops."""

    def batch(self, step: int, count: int, part: slice) -> NDArray[np.uint8]:
        """Return pictures, [count, 3, CROP, CROP]."""
        return np.stack([noisy_picture(1000 * step + k, CROP, CROP).transpose(2, 0, 1) for k in range(count)[part]])


@functools.cache
def toy_exact() -> FrozenModel:
    """Return the model; it is shared, so leave it as it is."""
    x_0 = to_model_values(_Crops().batch(0, 16, slice(None)), torch.device("cpu"))
    prior = PriorModel.fit([x_0], by_name("colour-8x8"))
    grid = log_snr_from_sigma((NOISE / 127.5).tolist())
    sigmas, rows = {}, {}
    for crossing, grey_levels in enumerate(TOY_CROSSINGS):
        first = int(np.flatnonzero(grey_levels * 1.1 < NOISE)[0])
        for steps in range(1, LONGEST + 1):
            rows[crossing, steps] = tuple(range(first, first + steps))
            sigmas[crossing, steps] = (grey_levels / 127.5, *(NOISE[first : first + steps] / 127.5).tolist())
    return FrozenModel(
        name="toy-exact",
        description="a toy with a pixel decoder",
        config=CONFIG,
        transform="colour-8x8",
        weights={},
        sigmas=sigmas,
        default_steps=2,
        tile=64,
        prior_mean=prior.mean,
        prior_variance=prior.variance,
        grid_log_snr=grid,
        class_mse=np.exp(-grid)[:, None] * np.ones(192),
        exact=_denoiser(x_0, grid),
        rows=rows,
        tables=tables_hash(),
        decoder=_decoder(),
        crossings=TOY_CROSSINGS,
        progressive_crossing=1,
        progressive_steps=2,
    )


def write_toy_exact(folder: Path) -> Path:
    """Write the model's file into a folder and return its path."""
    path = folder / "toy_exact.safetensors"
    path.write_bytes(model_bytes(toy_exact()))
    return path


def _denoiser(x_0: torch.Tensor, grid: NDArray[np.float64]) -> ExactParameters:
    """Return a denoiser whose means are nearly z_t, calibrated on x_0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = CodecDenoiser(CodecNet(CONFIG)).eval().requires_grad_(False)
        for parameter in built.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    calibrate(built, x_0, torch.from_numpy(grid).float(), lambda: 0.0)
    sampler = cast("CropSampler", _Crops())
    return freeze_on(built, sampler, TrainConfig(size="tiny", crop=CROP), torch.device("cpu"), 1, grid)


def _decoder() -> ExactPixelDecoder:
    """Return a random decoder whose means are nearly z_0."""
    decoder = random_exact_decoder(crossings=len(TOY_CROSSINGS))
    smaller = {
        name: getattr(decoder.heads, name) // 32
        for name in ("mean_multiplier", "pixel_mean_multiplier", "scale_multiplier", "coefficient_multiplier")
    }
    return dataclasses.replace(decoder, heads=dataclasses.replace(decoder.heads, **smaller))
