"""The parts of the U-Net: time embedding, residual blocks, self-attention, changes of resolution."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_codec.nn.ddpm_unet.config import UNetConfig

FOURIER_SCALE = 16.0
"""Standard deviation of random frequencies, in cycles over the whole range of times (Song et al. 2021)."""

MAX_PERIOD = 10000.0


def time_features(t: Tensor, config: UNetConfig) -> Tensor:
    """Return [sin(f_i t), cos(f_i t)] with f_i = 10000^(-i / (n - shift)), n = time_channels / 2, [B, 2 n].

    Args:
        t: timesteps, [B], 0 for the cleanest level.
        config: number, shift and order of the features.

    Source: Vaswani et al. 2017, sec. 3.5, as Ho et al. 2020 use it.
    """
    half = config.time_channels // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / (half - config.frequency_shift)
    angles = t.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
    parts = [angles.sin(), angles.cos()]
    return torch.cat(parts[::-1] if config.cosine_first else parts, dim=1)


class TimeEmbedding(nn.Module):
    """Features of the timestep and two linear layers, [B] -> [B, 4 time_channels]."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = 4 * config.time_channels
        if config.time_features == "fourier":
            self.register_buffer(
                "frequencies", torch.randn(config.time_channels // 2, dtype=torch.float32) * FOURIER_SCALE
            )
        self.linear_in = nn.Linear(config.time_channels, width, dtype=torch.float32)
        self.linear_out = nn.Linear(width, width, dtype=torch.float32)

    def forward(self, t: Tensor) -> Tensor:
        """Embed timesteps [B]."""
        t = self.config.time_scale * t.float()
        if self.config.time_features == "fourier":
            # Frequencies are drawn for times in [0, 1]; the thousand of Ho et al. is their scale here.
            frequencies: Tensor = self.get_buffer("frequencies")
            angles = (2.0 * math.pi / 1000.0) * t[:, None] * frequencies
            features = torch.cat([angles.sin(), angles.cos()], dim=1)
        else:
            features = time_features(t, self.config)
        hidden: Tensor = self.linear_out(functional.silu(self.linear_in(features)))
        return hidden


class Downsample(nn.Module):
    """Half the side: a convolution of stride 2."""

    def __init__(self, width: int, *, pad_both_sides: bool) -> None:
        super().__init__()
        self._pads = pad_both_sides
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1 if pad_both_sides else 0, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H/2, W/2]."""
        halved: Tensor = self.conv(x if self._pads else functional.pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Twice the side: nearest neighbours and a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2H, 2W]."""
        doubled: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class ResidualBlock(nn.Module):
    """Two convolutions with group norm and SiLU around the time embedding, and a shortcut.

    Args:
        inner: channels that come in.
        outer: channels that go out.
        config: the network's.
        change: ``down`` or ``up`` halves or doubles the side on the way (``resample = residual``).
    """

    def __init__(self, inner: int, outer: int, config: UNetConfig, change: str = "") -> None:
        super().__init__()
        self._scale_shift, self._change = config.conditioning == "scale-shift", change
        self.norm_in = nn.GroupNorm(config.groups, inner, eps=config.norm_eps, dtype=torch.float32)
        self.conv_in = nn.Conv2d(inner, outer, 3, padding=1, dtype=torch.float32)
        self.time = nn.Linear(4 * config.time_channels, 2 * outer if self._scale_shift else outer, dtype=torch.float32)
        self.norm_out = nn.GroupNorm(config.groups, outer, eps=config.norm_eps, dtype=torch.float32)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = nn.Conv2d(outer, outer, 3, padding=1, dtype=torch.float32)
        self.shortcut = nn.Conv2d(inner, outer, 1, dtype=torch.float32) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply to x [B, C, H, W] under the SiLU of a time embedding [B, E]."""
        hidden = self.conv_in(self._resample(functional.silu(self.norm_in(x))))
        time = self.time(embedding)[:, :, None, None]
        if self._scale_shift:
            scale, shift = time.chunk(2, dim=1)
            hidden = self.norm_out(hidden) * (1.0 + scale) + shift
        else:
            hidden = self.norm_out(hidden + time)
        hidden = self.conv_out(self.dropout(functional.silu(hidden)))
        result: Tensor = self.shortcut(self._resample(x)) + hidden
        return result

    def _resample(self, x: Tensor) -> Tensor:
        if self._change == "down":
            return functional.avg_pool2d(x, 2)
        if self._change == "up":
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return x


class Attention(nn.Module):
    """Self-attention over all places of a picture, with a shortcut.

    Args:
        width: channels; the rows of ``qkv`` are all queries, then all keys, then all values, each head after head.
        config: the network's.
    """

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        self._heads = config.heads_of(width)
        self.norm = nn.GroupNorm(config.groups, width, eps=config.norm_eps, dtype=torch.float32)
        self.qkv = nn.Conv2d(width, 3 * width, 1, dtype=torch.float32)
        self.out = nn.Conv2d(width, width, 1, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        images, width, height, side = x.shape
        qkv = self.qkv(self.norm(x)).reshape(images, 3, self._heads, width // self._heads, height * side)
        # Fast attention on a CPU wants the channels of a head side by side.
        query, key, value = qkv.transpose(3, 4).contiguous().unbind(dim=1)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = x + self.out(mixed.transpose(2, 3).reshape(images, width, height, side))
        return result
