"""The U-Net itself.

Down: at each resolution residual blocks (each followed by attention where the resolution has it), then half the side.
Middle: block, attention, block. Up: the same as down with one block more, each reading what the way down left behind.
Source: Ho et al. 2020, appendix B; Nichol & Dhariwal 2021, appendix A; Dhariwal & Nichol 2021, sec. 3.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_codec.nn.ddpm_unet.blocks import Attention, Downsample, ResidualBlock, TimeEmbedding, Upsample
from ddpm_codec.nn.ddpm_unet.config import UNetConfig


class Stage(nn.Module):
    """The blocks of one resolution in one direction, with the change of resolution that follows them (or none)."""

    def __init__(self, inputs: list[int], width: int, config: UNetConfig, change: str, *, attends: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(inner, width, config) for inner in inputs)
        self.attentions = nn.ModuleList(Attention(width, config) for _ in inputs if attends)
        self.change = _change(width, config, change)

    def apply_block(self, index: int, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply one block and its attention."""
        x = self.blocks[index](x, embedding)
        if len(self.attentions):
            x = self.attentions[index](x)
        return x

    def apply_change(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Change the resolution."""
        changed: Tensor = self.change(x, embedding) if isinstance(self.change, ResidualBlock) else self.change(x)
        return changed


def _change(width: int, config: UNetConfig, change: str) -> nn.Module:
    if not change:
        return nn.Identity()
    if config.resample == "residual":
        return ResidualBlock(width, width, config, change)
    return Downsample(width, pad_both_sides=config.pad_both_sides) if change == "down" else Upsample(width)


class UNet(nn.Module):
    """A network (x_t, t) -> prediction.

    Args:
        config: the architecture.

    Attributes:
        config: as given.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, last = config.widths, len(config.widths) - 1
        self.time = TimeEmbedding(config)
        self.stem = nn.Conv2d(config.channels, widths[0], 3, padding=1, dtype=torch.float32)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        left_behind = [widths[0]]
        running = widths[0]
        for level, width in enumerate(widths):
            inputs = [running, *[width] * (config.blocks - 1)]
            attends = level in config.attention
            self.down.append(Stage(inputs, width, config, "down" if level < last else "", attends=attends))
            left_behind += [width] * (config.blocks + (level < last))
            running = width
        self.middle_first = ResidualBlock(running, running, config)
        self.middle_attention = Attention(running, config) if config.middle_attention else nn.Identity()
        self.middle_last = ResidualBlock(running, running, config)
        for level in reversed(range(len(widths))):
            inputs = []
            for _ in range(config.blocks + 1):
                inputs.append(running + left_behind.pop())
                running = widths[level]
            attends = level in config.attention
            self.up.append(Stage(inputs, widths[level], config, "up" if level else "", attends=attends))
        self.head_norm = nn.GroupNorm(config.groups, running, eps=config.norm_eps, dtype=torch.float32)
        self.head = nn.Conv2d(running, config.out_channels, 3, padding=1, dtype=torch.float32)
        self._initialise()

    def place(self, device: torch.device) -> Self:
        """Move to ``device``, kernels in the order that its convolutions and normalisations read fastest; return self."""
        self.to(device)
        if device.type == "cuda":
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the output for pictures x_t [B, C, H, W], sides multiples of ``config.stride``, at timesteps t [B]."""
        embedding = functional.silu(self.time(t))
        hidden = self.stem(x_t)
        left_behind = [hidden]
        for module in self.down:
            stage = cast("Stage", module)
            for index in range(len(stage.blocks)):
                hidden = stage.apply_block(index, hidden, embedding)
                left_behind.append(hidden)
            if stage is not self.down[-1]:
                hidden = stage.apply_change(hidden, embedding)
                left_behind.append(hidden)
        hidden = self.middle_last(self.middle_attention(self.middle_first(hidden, embedding)), embedding)
        for module in self.up:
            stage = cast("Stage", module)
            for index in range(len(stage.blocks)):
                hidden = stage.apply_block(index, torch.cat([hidden, left_behind.pop()], dim=1), embedding)
            hidden = stage.apply_change(hidden, embedding)
        output: Tensor = self.head(functional.silu(self.head_norm(hidden)))
        return output

    def _initialise(self) -> None:
        """Start as Ho et al. do: uniform of variance 1 / mean of fans; every shortcut's rival and the output at zero."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        last = [module.conv_out for module in self.modules() if isinstance(module, ResidualBlock)]
        last += [module.out for module in self.modules() if isinstance(module, Attention)]
        for layer in [*last, self.head]:
            nn.init.zeros_(layer.weight)


@lru_cache(maxsize=8)
def weight_shapes(config: UNetConfig) -> Mapping[str, torch.Size]:
    """Return the names and shapes of the weights of a :class:`UNet`, without allocating them."""
    with torch.device("meta"):
        return MappingProxyType({key: value.shape for key, value in UNet(config).state_dict().items()})
