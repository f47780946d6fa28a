"""Small DDPMs in folders, for tests: random ones of seconds, and the reference model that is trained."""

from pathlib import Path

import torch

from ddpm_codec.diffusion.process import OutputKind, ReverseProcess, ReverseVariance
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.models.checkpoints.own import own_files
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.nn.ddpm_unet import UNet, UNetConfig
from ddpm_codec.nn.ddpm_unet.config import UNETS

REFERENCE = Path(__file__).resolve().parents[1] / "models" / "ddpm-small"
"""A U-Net trained on CIFAR-10, with its calibration; docs/MODELS.md tells how."""


def random_ddpm(
    *,
    output: OutputKind = "eps",
    variance: ReverseVariance = "beta",
    timesteps: int = 20,
    clip: bool = True,
    seed: int = 0,
    name: str = "random",
) -> Published:
    """Return a DDPM of random weights, its output layer included; weights are multiples of 1/256, so float16 holds them."""
    config = UNetConfig.from_dict(UNETS["ddpm-tiny"].to_dict() | {"learned_range": variance == "learned-range"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = {
            key: torch.round(256.0 * (value + 0.05 * torch.randn(value.shape))) / 256.0
            for key, value in UNet(config).state_dict().items()
        }
    process = ReverseProcess(NoiseSchedule.linear_beta(timesteps, 1e-4, 0.5), output, variance, clip)
    return Published(name, config, weights, process, 16)


def write_folder(model: Published, folder: Path) -> Path:
    """Write a folder of our own; return it."""
    folder.mkdir()
    for name, content in own_files(model).items():
        (folder / name).write_bytes(content)
    return folder
