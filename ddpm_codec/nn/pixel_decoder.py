"""The pixel decoder: an autoregressive p(x_0 | z_0) at the crossing, where the chain ends.

One evaluation of the codec network's trunk on z_0 gives a mean m_0 and feature maps; a small masked network sees the
residuals (x_0 - m_0) / c_out of the pixels above and to the left, and how far these pixels are from where it stands,
(x_0 - m_0 of its own pixel) / c_out: errors of m_0, its rounding too, are not those of the neighbours. With c_skip and c_out
of :mod:`ddpm_codec.nn.denoiser` and outputs q of the masked network at each pixel,

    m_0   = c_skip z_0 + c_out f,
    green = N(mu_g, .),                                      mu = m_0 + c_out q_mean,
    red   = N(mu_r + a (x_g - mu_g), .),
    blue  = N(mu_b + b (x_g - mu_g) + c (x_r - mean_r), .),  mean_r the mean of red,

ln variance = clamp(ln c_out^2 + q_variance), and the shape of the tail one number u in [0, S - 1], a place between
the S rows of a table of (weight, ratio) of the wide component (:class:`TailTable`). A frozen decoder rounds u to a
row, and has one integer table a row; training with rounding does as it will.

Everything between the trunk's integers and the tables is products, sums and clamps: hard-swish, gates
clamp(v + 1/2, 0, 1), clamped residuals and coefficients.
"""

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddpm_codec.diffusion.pixel_likelihood import PixelParameters, TrunkMaps
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.codec_net import SIZES, CodecNetConfig, Layer, Stream, Trunk, in_full, trunk_macs_per_pixel
from ddpm_codec.nn.denoiser import preconditioning
from ddpm_codec.nn.masked_conv import MaskedConv
from ddpm_codec.nn.quantization import Quantizer, round_through
from ddpm_codec.units import GREY_PER_UNIT

Tail = Literal["two-scale", "gaussian"]
"""Shape of the distribution of a sub-pixel."""

SIDES = 4
"""Pictures must be multiples of this in both directions."""

RESIDUAL_LIMIT = 8.0
RESIDUAL_STEPS = 512
"""Steps of a rounded residual per unit."""

GATE_STEPS = 256
"""Steps of a rounded gate from shut to open."""

COEFFICIENT_LIMIT = 1.5

CROSSING_RANGE = (0.1, 1000.0)
"""Noise in grey levels that a decoder can be trained to decode from."""

LEAST_DEVIATION = 0.05
LARGEST_DEVIATION = 128.0
"""Standard deviations that are predicted, in grey levels, the same at every crossing: flat pictures want 0.1 at any."""


@dataclass(frozen=True)
class PixelDecoderConfig:
    """Widths and depths of a :class:`PixelDecoder`.

    Attributes:
        trunk: of the convolutions on z_0; its heads do not count.
        features: maps that the masked network is told about z_0.
        channels: of the masked network.
        blocks: gated blocks; all but the first have a masked 3x3 convolution.
        reach: side of the first masked convolution.
        shapes: S, rows of the table of tails; 0: a plain Gaussian.
    """

    trunk: CodecNetConfig
    features: int = 32
    channels: int = 48
    blocks: int = 3
    reach: int = 7
    shapes: int = 8

    def to_dict(self) -> dict[str, Any]:
        """Return the values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return what :meth:`to_dict` gave.

        Raises:
            ModelError: other keys, or sizes that are none.
        """
        try:
            trunk = CodecNetConfig(**values["trunk"])
            config = cls(**{**values, "trunk": trunk})
        except (TypeError, KeyError) as error:
            raise ModelError(f"not the configuration of a pixel decoder ({error})") from error
        sizes = [*asdict(trunk).values(), config.features, config.channels, config.blocks, config.reach]
        if not all(type(size) is int and 0 < size <= MAX_SIZE for size in (*sizes, config.shapes + 1)):
            raise ModelError(f"a pixel decoder of impossible sizes ({sizes})")
        if config.reach % 2 == 0 or config.shapes == 1:
            raise ModelError(f"a pixel decoder with reach {config.reach} and {config.shapes} shapes is none")
        return config


MAX_SIZE = 4096

DECODERS = {
    "decoder-tiny": PixelDecoderConfig(SIZES["tiny"], features=8, channels=8, blocks=2),
    **{f"decoder-{width}": PixelDecoderConfig(SIZES["base"], channels=width) for width in (32, 48, 64)},
}


class GatedBlock(nn.Module):
    """x + conv(h(u) clamp(v + 1/2, 0, 1)) with (u, v) = conv(masked 3x3 of h(x))."""

    def __init__(self, channels: int, *, masked: bool) -> None:
        super().__init__()
        self.masked = Layer(MaskedConv(channels, channels, 3, own=True), Quantizer(channels)) if masked else None
        self.gates = Layer(
            nn.Conv2d(channels, 2 * channels, 1, dtype=torch.float32), Quantizer(channels, signed=masked)
        )
        self.mix = Layer(nn.Conv2d(channels, channels, 1, dtype=torch.float32), Quantizer(channels))
        nn.init.zeros_(self.mix.conv.weight)
        nn.init.zeros_(self.mix.conv.bias)  # type: ignore[arg-type]  # a convolution with a bias

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        y = functional.hardswish(x)
        u, v = self.gates(y if self.masked is None else self.masked(y)).chunk(2, dim=1)
        gate = torch.clamp(v + 0.5, 0.0, 1.0)
        if self.mix.quantized:
            gate = round_through(GATE_STEPS * gate) / GATE_STEPS
        return x + self.mix(functional.hardswish(u) * gate)  # type: ignore[no-any-return]


class TailTable(nn.Module):
    """Weight and ratio of the wide component as functions of one number, linear between S rows.

    On a trained network whose weight and ratio were free they lay on one curve (correlation of their logarithms -0.97): the
    rarer the wide component, the wider. The rows begin there and are trained.
    """

    def __init__(self, shapes: int) -> None:
        super().__init__()
        self.shapes = shapes
        self.logit = nn.Parameter(torch.linspace(-8.0, 0.5, shapes, dtype=torch.float32))
        self.log_ratio = nn.Parameter(torch.linspace(1.7, 0.1, shapes, dtype=torch.float32))

    def forward(self, place: Tensor, *, rounded: bool = False) -> tuple[Tensor, Tensor]:
        """Return (logit of the weight, ln ratio) at places in [0, S - 1], clamped to it.

        v(u) = v_0 + sum_i (v_(i+1) - v_i) clamp(u - i, 0, 1), whose gradient is a sum and no scatter.

        Args:
            place: u, any shape.
            rounded: take the nearest row, with the gradient of the line between rows.
        """
        rows = torch.arange(self.shapes - 1, dtype=place.dtype, device=place.device)
        passed = (place[..., None] - rows).clamp(0.0, 1.0)
        if rounded:
            passed = round_through(passed)
        # Never narrower than the narrow one.
        log_ratio = self.log_ratio.clamp_min(0.0)
        steps = torch.stack([self.logit.diff(), log_ratio.diff()], dim=1)
        with torch.autocast(place.device.type, enabled=False):
            logit_from_first, log_ratio_from_first = (passed @ steps).unbind(-1)
        return self.logit[0] + logit_from_first, log_ratio[0] + log_ratio_from_first


class PixelDecoder(Trunk):
    """A :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood`: trunk on z_0, masked network on residuals.

    Attributes:
        masked_offset: for each channel of the masked network's stream, 4 in its integer unit (0: not calibrated).
    """

    masked_offset: Tensor

    def __init__(self, config: PixelDecoderConfig) -> None:
        super().__init__(config.trunk)
        width, channels = config.trunk.width, config.channels
        self.config = config
        self.trunk_head = Layer(
            nn.Conv2d(width, 4 * (3 + config.features), 3, padding=1, dtype=torch.float32), Quantizer(width)
        )
        self.masked_stem = Layer(MaskedConv(3, channels, config.reach, own=False), None)
        self.step_stem = Layer(nn.Conv2d(3 * seen_pixels(config), channels, 1, dtype=torch.float32), None)
        self.feature_stem = Layer(
            nn.Conv2d(config.features, channels, 1, dtype=torch.float32), Quantizer(config.features, signed=True)
        )
        self.blocks = nn.ModuleList(GatedBlock(channels, masked=index > 0) for index in range(config.blocks))
        # Mean, log-variance and coefficient of three sub-pixels; then, where tails have shapes, their places.
        self.parameter_head = Layer(
            nn.Conv2d(channels, 12 if config.shapes else 9, 1, dtype=torch.float32), Quantizer(channels)
        )
        self.tail = TailTable(config.shapes) if config.shapes else None
        self.register_buffer("masked_offset", torch.zeros(channels, dtype=torch.float32))
        with torch.no_grad():
            self.trunk_head.conv.weight[: 4 * 3] = 0.0
            self.step_stem.conv.weight.zero_()
            self.parameter_head.conv.weight.zero_()
            for layer in (self.trunk_head, self.step_stem, self.parameter_head):
                layer.conv.bias.zero_()  # type: ignore[union-attr]  # a convolution with a bias
            if config.shapes:
                self.parameter_head.conv.bias[9:] = 0.6 * (config.shapes - 1)  # type: ignore[index]  # as above

    def place(self, device: torch.device) -> Self:
        """Move to ``device``, kernels in the order that its convolutions read fastest; return self."""
        self.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def streams(self) -> dict[str, Stream]:
        """See :class:`Trunk`."""
        found = super().streams()
        found["outer"].readers.append("trunk_head")
        readers = [f"blocks.{index}.{'masked' if index else 'gates'}" for index in range(len(self.blocks))]
        return found | {"masked": Stream(list(self.blocks), [*readers, "parameter_head"])}

    def trunk(self, z_0: Tensor, log_snr: Tensor) -> TrunkMaps:
        """See :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood`; sides are multiples of 4."""
        level = in_full(self.embedding, log_snr)
        scaling = preconditioning(log_snr)
        inputs = (z_0 * scaling.c_in).contiguous(memory_format=torch.channels_last)
        maps = functional.pixel_shuffle(self.trunk_head(self.body(inputs, level)), 2)
        mean = scaling.c_skip * z_0 + scaling.c_out * maps[:, :3]
        return TrunkMaps(mean, maps[:, 3:], scaling.c_out)

    def parameters_given(self, z_0: Tensor, log_snr: Tensor, x_0: Tensor) -> tuple[PixelParameters, TrunkMaps]:
        """See :class:`~ddpm_codec.diffusion.pixel_likelihood.PixelLikelihood`."""
        maps = self.trunk(z_0, log_snr)
        y = self.feature_stem(maps.features.contiguous(memory_format=torch.channels_last))
        y = y + self.masked_stem(self._limited((x_0 - maps.mean) / maps.scale))
        y = y + self.step_stem(self._limited(self._steps(x_0, maps)))
        for block in self.blocks:
            y = block(y)
        return self._distribution(self.parameter_head(functional.hardswish(y)), maps, x_0), maps

    def forward(self, z_0: Tensor, log_snr: Tensor, x_0: Tensor) -> tuple[PixelParameters, TrunkMaps]:
        """See :meth:`parameters_given`."""
        return self.parameters_given(z_0, log_snr, x_0)

    def _limited(self, values: Tensor) -> Tensor:
        """Return residuals or steps in units of c_out as the stems read them."""
        limited = values.clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT).contiguous(memory_format=torch.channels_last)
        return round_through(RESIDUAL_STEPS * limited) / RESIDUAL_STEPS if self.masked_stem.quantized else limited

    def _steps(self, x_0: Tensor, maps: TrunkMaps) -> Tensor:
        """Return from each pixel's m_0 to the pixels before it, those of residuals' windows, [B, 3 seen, H, W].

        Channels are pixels in raster order, the three colours of each together; 0 outside the picture.
        """
        reach, (height, width) = self.config.reach, x_0.shape[-2:]
        border = reach // 2
        inside = functional.pad(torch.ones_like(x_0[:1, :1]), [border] * 4)
        padded, mean = functional.pad(x_0, [border] * 4), maps.mean
        windows = []
        for place in range(seen_pixels(self.config)):
            window = ..., slice(place // reach, place // reach + height), slice(place % reach, place % reach + width)
            windows.append((padded[window] - mean) * inside[window])
        return torch.cat(windows, dim=1) / maps.scale

    def _distribution(self, outputs: Tensor, maps: TrunkMaps, x_0: Tensor) -> PixelParameters:
        """Turn outputs of the masked network into distributions; from here on a pixel's own sub-pixels are seen."""
        means = maps.mean + maps.scale * outputs[:, :3]
        low, high = (2.0 * math.log(deviation / GREY_PER_UNIT) for deviation in (LEAST_DEVIATION, LARGEST_DEVIATION))
        log_variance = (2.0 * maps.scale.log() + outputs[:, 3:6]).clamp(low, high)
        red_green, blue_green, blue_red = outputs[:, 6:9].clamp(-COEFFICIENT_LIMIT, COEFFICIENT_LIMIT).unbind(1)
        green = means[:, 1]
        red = means[:, 0] + red_green * (x_0[:, 1] - green)
        blue = means[:, 2] + blue_green * (x_0[:, 1] - green) + blue_red * (x_0[:, 0] - red)
        mean = torch.stack([red, green, blue], dim=1)
        if self.tail is None:
            return PixelParameters(mean, log_variance)
        return PixelParameters(mean, log_variance, *self.tail(outputs[:, 9:], rounded=self.parameter_head.quantized))


def completed(network: PixelDecoder, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of an older decoder with what ``network`` has beside: offsets, not calibrated, and a step stem of 0."""
    own = network.state_dict()
    new = [*(f"{name}_offset" for name in network.streams()), "step_stem.conv.weight", "step_stem.conv.bias"]
    return {key: torch.zeros_like(own[key]) for key in new} | weights


def decoder_config(size: str, tail: str) -> PixelDecoderConfig:
    """Return the configuration of a size of :data:`DECODERS` with that kind of tail."""
    config = DECODERS[size]
    if tail not in get_args(Tail):
        raise ValueError(f"unknown tail {tail!r}")
    return config if tail == "two-scale" else PixelDecoderConfig(**{**vars(config), "shapes": 0})


def checked_crossings(grey_levels: tuple[float, ...]) -> tuple[float, ...]:
    """Return crossings, noise in grey levels.

    Raises:
        ValueError: there is none, they do not increase, or are not noise that grey levels can have.
    """
    low, high = CROSSING_RANGE
    ordered = all(fine < coarse for fine, coarse in pairwise(grey_levels))
    if not grey_levels or not ordered or not low <= grey_levels[0] <= grey_levels[-1] <= high:
        raise ValueError(f"crossings must be increasing noise levels from {low:g} to {high:g} grey levels")
    return grey_levels


def parameter_count(config: PixelDecoderConfig) -> int:
    """Return the number of trained parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in PixelDecoder(config).parameters())


def seen_pixels(config: PixelDecoderConfig) -> int:
    """Return how many pixels the stems of the masked network see: those before a pixel in a square around it."""
    return config.reach**2 // 2


def masked_macs_per_pixel(config: PixelDecoderConfig) -> int:
    """Return the multiply-adds a pixel after the trunk: what decoding runs pixel by pixel."""
    channels = config.channels
    blocks = config.blocks * 3 * channels**2 + (config.blocks - 1) * 5 * channels**2
    stems, head = 2 * 3 * seen_pixels(config) + config.features, 12 if config.shapes else 9
    return stems * channels + blocks + head * channels


def decoder_macs_per_pixel(config: PixelDecoderConfig) -> tuple[float, int]:
    """Return the multiply-adds a pixel of the trunk with its head, and those after it."""
    trunk = trunk_macs_per_pixel(config.trunk) + config.trunk.width * (3 + config.features) * 9
    return trunk, masked_macs_per_pixel(config)
