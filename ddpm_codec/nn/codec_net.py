"""The codec network: convolutions only, so that it takes any picture size and can become integers.

Half resolution after a 2x2 pixel-unshuffle, quarter resolution in the middle; residual blocks without normalisation; the
noise level enters as one scale and one bias per channel, which are tables once the chain is frozen. The activation is the
hard-swish x clamp(x + 3, 0, 6) / 6, which becomes dyadic when 3/4 is folded into the neighbouring weights:
h(u) = u clamp(u + 4, 0, 8) / 8 = hardswish(3u/4) / (3/4).

The residual streams stay in float32 under autocast; bfloat16 would lose the precision that clean levels need.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_codec.nn.quantization import Limits, Quantizer, quantized_conv

STRIDE = 8
"""Pictures must be multiples of this in both directions."""

PIXEL_OUTPUTS = 6
"""Mean and log-variance of three sub-pixels."""


@dataclass(frozen=True)
class CodecNetConfig:
    """Widths and depths of a :class:`CodecNet`.

    Attributes:
        width: channels at half resolution.
        mid_width: channels at quarter resolution.
        outer_blocks: residual blocks at half resolution, before and again after the middle.
        mid_blocks: residual blocks at quarter resolution.
        variance_width: channels of the head of log-variances at one eighth.
        coefficients: coefficients of W in an 8x8 block (192), all predicted at one eighth resolution.
        embedding: width of the embedding of the noise level.
    """

    width: int = 64
    mid_width: int = 128
    outer_blocks: int = 2
    mid_blocks: int = 3
    variance_width: int = 128
    coefficients: int = 192
    embedding: int = 64

    @property
    def reach(self) -> int:
        """Pixels around a block of 8x8 that the output there depends on, at most; a multiple of 8.

        Convolutions of 3x3 reach 2 pixels at half resolution and 4 at a quarter: with b blocks before and after the middle
        and m in it, 8 b + 8 m + 4 in all, and 2 more where pixels share a cell of the middle.
        """
        return STRIDE * (self.outer_blocks + self.mid_blocks + 1)


SIZES = {
    "tiny": CodecNetConfig(width=16, mid_width=32, outer_blocks=1, mid_blocks=1, variance_width=32, embedding=16),
    "small": CodecNetConfig(outer_blocks=1, mid_blocks=2),
    "base": CodecNetConfig(outer_blocks=2, mid_blocks=4, variance_width=192),
}


class LevelEmbedding(nn.Module):
    """Embed log-SNR: sines and cosines at fixed frequencies, then a two-layer perceptron."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(math.log(0.1), math.log(3.0), 16, dtype=torch.float32))
        )
        self.layers = nn.Sequential(
            nn.Linear(33, width, dtype=torch.float32),
            nn.SiLU(),
            nn.Linear(width, width, dtype=torch.float32),
            nn.SiLU(),
        )

    def forward(self, log_snr: Tensor) -> Tensor:
        """Return [B, width] for levels [B]."""
        half = 0.5 * log_snr.float()[:, None]
        angles = half * self.frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos(), 0.25 * half], dim=1))  # type: ignore[no-any-return]  # modules return Any


class Layer(nn.Module):
    """A convolution and the quantiser of its input, which is idle until quantisation is switched on.

    Args:
        conv: the convolution.
        quantizer: of its input; None for an input that is all but exact.
    """

    def __init__(self, conv: nn.Conv2d, quantizer: Quantizer | None) -> None:
        super().__init__()
        self.conv, self.quantizer = conv, quantizer
        self.quantized = False
        self._limits: Limits | None = None

    def quantize(self, on: bool) -> None:
        """Compute with rounded weights and activations, or no longer; call it anew when the quantiser has changed."""
        self._limits = self.quantizer.limits() if on and self.quantizer is not None else None
        self.quantized = on

    def forward(self, y: Tensor) -> Tensor:
        """Convolve y [B, C, h, w]; float32 comes back, or the dtype of y where that is wider."""
        if self.quantized:
            return quantized_conv(self.conv, y, self.quantizer, self._limits)
        with torch.autocast(y.device.type, enabled=self.quantizer is not None and _autocast(y)):
            out: Tensor = self.conv(y)
        return out if out.dtype.itemsize > 2 else out.float()


def _autocast(y: Tensor) -> bool:
    return torch.is_autocast_enabled(y.device.type)


def in_full(function: nn.Module, level: Tensor) -> Tensor:
    """Apply a function of the noise level in float32, as its tables will be made."""
    with torch.autocast(level.device.type, enabled=False):
        return function(level)  # type: ignore[no-any-return]  # modules return Any


class ResidualBlock(nn.Module):
    """x + conv(h(conv(h(x)) (1 + scale) + bias)), scale and bias from the noise level."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.first = Layer(nn.Conv2d(channels, channels, 3, padding=1, dtype=torch.float32), Quantizer(channels))
        self.second = Layer(nn.Conv2d(channels, channels, 3, padding=1, dtype=torch.float32), Quantizer(channels))
        self.modulation = nn.Linear(embedding, 2 * channels, dtype=torch.float32)
        nn.init.zeros_(self.second.conv.weight)
        nn.init.zeros_(_bias(self.second.conv))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Map [B, C, h, w] to the same shape; ``level`` is the embedding [B, E]."""
        scale, bias = in_full(self.modulation, level)[:, :, None, None].chunk(2, dim=1)
        inner = torch.addcmul(bias, self.first(functional.hardswish(x)), 1.0 + scale)
        return x + self.second(functional.hardswish(inner))  # type: ignore[no-any-return]


class Stream(NamedTuple):
    """A residual stream.

    Attributes:
        blocks: what adds to it; input and output are values of the stream.
        readers: names of the layers that read it.
    """

    blocks: list[nn.Module]
    readers: list[str]


class Trunk(nn.Module):
    """The convolutions that every codec network has under its heads.

    Half resolution, quarter resolution in the middle, half resolution again; the level enters every residual block.
    Subclasses add heads, so that all of them name the trunk's weights alike and can start from each other's.

    Attributes:
        outer_offset: for each channel of the stream at half resolution, 4 in its integer unit (0: not calibrated).
        middle_offset: the same at quarter resolution.
    """

    outer_offset: Tensor
    middle_offset: Tensor

    def __init__(self, config: CodecNetConfig) -> None:
        super().__init__()
        width, mid = config.width, config.mid_width
        self.embedding = LevelEmbedding(config.embedding)
        self.stem = Layer(nn.Conv2d(12, width, 3, padding=1, dtype=torch.float32), None)
        self.before = nn.ModuleList(ResidualBlock(width, config.embedding) for _ in range(config.outer_blocks))
        self.down = Layer(nn.Conv2d(width, mid, 2, stride=2, dtype=torch.float32), Quantizer(width, signed=True))
        self.middle = nn.ModuleList(ResidualBlock(mid, config.embedding) for _ in range(config.mid_blocks))
        self.up = Layer(nn.Conv2d(mid, 4 * width, 1, dtype=torch.float32), Quantizer(mid, signed=True))
        self.after = nn.ModuleList(ResidualBlock(width, config.embedding) for _ in range(config.outer_blocks))
        self.register_buffer("outer_offset", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("middle_offset", torch.zeros(mid, dtype=torch.float32))

    def quantize(self, on: bool) -> None:
        """Compute with rounded weights and activations, or no longer; needs a calibration (or one that was loaded)."""
        for layer in self.layers().values():
            layer.quantize(on)

    @property
    def calibrated(self) -> bool:
        """Whether the steps of the quantisers have been chosen."""
        return all(bool(getattr(self, f"{name}_offset").any().item()) for name in self.streams())

    def layers(self) -> dict[str, Layer]:
        """Return the convolutions by name, in the order of the network."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Layer)}

    def streams(self) -> dict[str, Stream]:
        """Return the residual streams by name; their units are ``{name}_offset``."""
        outer = [f"{part}.{index}.first" for part in ("before", "after") for index in range(len(self.before))]
        middle = [f"middle.{index}.first" for index in range(len(self.middle))]
        return {
            "outer": Stream([*self.before, *self.after], ["down", *outer]),
            "middle": Stream(list(self.middle), ["up", *middle]),
        }

    def body(self, x: Tensor, level: Tensor) -> Tensor:
        """Return what the heads read, [B, width, H/2, W/2], of a scaled noisy picture [B, 3, H, W].

        ``level`` is the embedding [B, E]; H and W are multiples of 4.
        """
        outer: Tensor = self.stem(functional.pixel_unshuffle(x, 2))
        for block in self.before:
            outer = block(outer, level)
        inner = self.down(outer)
        for block in self.middle:
            inner = block(inner, level)
        outer = functional.pixel_shuffle(self.up(inner), 2) + outer
        for block in self.after:
            outer = block(outer, level)
        return functional.hardswish(outer)


class CodecNet(Trunk):
    """Three heads of order one at every level: mean, pixel log-variance, coefficient log-variance."""

    def __init__(self, config: CodecNetConfig) -> None:
        super().__init__(config)
        width = config.width
        self.config = config
        self.pixel_head = Layer(
            nn.Conv2d(width, 4 * PIXEL_OUTPUTS, 3, padding=1, dtype=torch.float32), Quantizer(width)
        )
        self.variance_first = Layer(
            nn.Conv2d(width, config.variance_width, 4, stride=4, dtype=torch.float32), Quantizer(width)
        )
        self.variance_second = Layer(
            nn.Conv2d(config.variance_width, config.coefficients, 1, dtype=torch.float32),
            Quantizer(config.variance_width),
        )
        self.variance_level = nn.Linear(config.embedding, config.coefficients, dtype=torch.float32)
        for layer in (self.pixel_head.conv, self.variance_second.conv, self.variance_level):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(_bias(layer))

    def forward(self, x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the network.

        Args:
            x: a scaled noisy picture of order one, [B, 3, H, W], H and W multiples of 8.
            log_snr: levels, [B].

        Returns:
            (mean [B, 3, H, W], pixel log-variance [B, 3, H, W], coefficient log-variance [B, D, H/8, W/8]).
        """
        level = in_full(self.embedding, log_snr)
        outer = self.body(x, level)
        mean, pixel = functional.pixel_shuffle(self.pixel_head(outer), 2).chunk(2, dim=1)
        hidden = functional.hardswish(self.variance_first(outer))
        coefficient = self.variance_second(hidden) + in_full(self.variance_level, level)[:, :, None, None]
        return mean, pixel, coefficient

    def streams(self) -> dict[str, Stream]:
        """See :class:`Trunk`; ``variance_first`` reads as ``pixel_head`` does."""
        found = super().streams()
        found["outer"].readers.append("pixel_head")
        return found

    def freeze_variance_head(self) -> None:
        """Keep the head of coefficient log-variances as it is: for a W that it does not belong to.

        Processes that train together wait for the gradient of every other parameter, used or not.
        """
        for layer in (self.variance_first.conv, self.variance_second.conv, self.variance_level):
            layer.requires_grad_(False)


def _bias(layer: nn.Module) -> Tensor:
    """Return the bias of a layer that surely has one."""
    bias = layer.bias
    if not isinstance(bias, Tensor):
        raise TypeError(f"{type(layer).__name__} has no bias")
    return bias


def macs_per_pixel(config: CodecNetConfig) -> float:
    """Return the multiply-adds of one evaluation per pixel of the picture, convolutions only.

    The level's embedding costs the same for any picture and is a table in a frozen model; it is not counted.
    """
    width, var = config.width, config.variance_width
    heads = width * 4 * PIXEL_OUTPUTS * 9 / 4 + (width * var * 16 + var * config.coefficients) / 64
    return trunk_macs_per_pixel(config) + heads


def trunk_macs_per_pixel(config: CodecNetConfig) -> float:
    """Return the part of :func:`macs_per_pixel` that lies under the heads."""
    width, mid = config.width, config.mid_width
    half = 12 * width * 9 + 4 * config.outer_blocks * width * width * 9
    quarter = width * mid * 4 + 2 * config.mid_blocks * mid * mid * 9 + mid * 4 * width
    return half / 4 + quarter / 16


def parameter_count(config: CodecNetConfig) -> int:
    """Return the number of trained parameters of a network."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in CodecNet(config).parameters())
