"""From a calibrated network in floating point to the integers of :mod:`ddpm_codec.nn.exact.parameters`.

With u = 4x/3 the hard-swish is (3/4) u clamp(u + 4, 0, 8) / 8. A stream holds s = f u with 4 f = A even, so that
s clamp(s + A, 0, 2A) = 8 f^2 h(u), and a byte is that over 2^p: its step is (3/4) 2^p / (8 f^2) in x. What the noise level
changes, scales and biases, is evaluated once per level here and kept as integers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_codec.errors import ModelError
from ddpm_codec.nn.codec_net import CodecNet, CodecNetConfig, Layer, Trunk
from ddpm_codec.nn.denoiser import DATA_VARIANCE, CodecDenoiser
from ddpm_codec.nn.exact import parameters as exact
from ddpm_codec.nn.exact.parameters import Array, Convolution, ExactParameters, Heads, Reading, Rescaling
from ddpm_codec.nn.exact.storage import layer_shapes, trunk_shapes
from ddpm_codec.nn.integer import LOG_VAR_FLOOR, LOG_VAR_STEPS, MEAN_BITS, PICTURE_BITS
from ddpm_codec.nn.masked_conv import MaskedConv
from ddpm_codec.nn.quantization import LARGEST_OFFSET, WEIGHT_LIMIT, Quantizer
from ddpm_codec.units import GREY_PER_UNIT

Floats = NDArray[np.float64]

MARGIN = 1.5
"""Sums may be this much larger than the largest that calibration saw before they saturate."""

PICTURE_STEP = 1.0 / 4096.0
"""Unit of the scaled picture that the stem reads."""

TO_U = 4.0 / 3.0
_MULTIPLIER_LIMIT = 2047
_LARGEST_SHIFT = 20
_BIAS_LIMIT = 1 << 22
"""Largest bias of a head in units of its sums."""


@dataclass(frozen=True)
class Sums:
    """A layer with integer weights: v = y / step."""

    weight: Array
    offset: Array
    step: Floats
    stride: int
    reading: Reading


def freeze(denoiser: CodecDenoiser, log_snr: Floats, reach: dict[str, Tensor]) -> ExactParameters:
    """Return the exact network of a calibrated denoiser.

    Args:
        denoiser: its weights and the steps of its quantisers; on the CPU.
        log_snr: the noise levels to make tables for, [L].
        reach: for each layer, the largest magnitude of its output that calibration saw, per channel.

    Raises:
        ModelError: the network is not calibrated, or cannot be held in integers without overflow.
    """
    net = denoiser.net
    if not net.calibrated:
        raise ModelError("the network is not calibrated")
    levels = torch.from_numpy(log_snr).float()
    with torch.no_grad():
        embedding = net.embedding(levels)
        layers = _DenoiserFreezer(net, embedding, reach).layers()
        heads = _heads(net, embedding, log_snr, layers)
    parameters = ExactParameters(net.config, {name: layer for name, (layer, _) in layers.items()}, heads, len(log_snr))
    parameters.check()
    return parameters


class TrunkFreezer:
    """Builds layers in the order of the network, first of all those under its heads.

    Args:
        net: its weights, the steps of its quantisers and the units of its streams; on the CPU.
        embedding: of the noise levels, [L, E].
        reach: for each layer, the largest magnitude of its output that calibration saw, per channel.
    """

    def __init__(self, net: Trunk, embedding: Tensor, reach: dict[str, Tensor]) -> None:
        self._net, self._embedding = net, embedding
        self.reach = {name: numbers(value) for name, value in reach.items()}
        self.modules = net.layers()
        self.outer, self.middle = (numbers(net.get_buffer(f"{name}_offset")) for name in ("outer", "middle"))

    def trunk(self, config: CodecNetConfig) -> dict[str, tuple[Convolution, Floats]]:
        """Return each layer under the heads with the step of its sums."""
        out: dict[str, tuple[Convolution, Floats]] = {}
        for name in trunk_shapes(config):
            stream = self.middle if name.startswith(("middle", "up")) else self.outer
            if name == "stem":
                out[name] = self.into_stream(name, self.sums(name, _picture_reading(), PICTURE_STEP), self.outer)
            elif name.endswith(".first"):
                sums = self.sums(name, self.stream_reading(name, stream))
                second = name.removesuffix("first") + "second"
                out[name], reading = self.modulated(name, sums, second)
                out[second] = self.into_stream(second, self.sums(second, reading), stream)
            elif name in ("down", "up"):
                sums = self.sums(name, self.stream_reading(name, stream))
                out[name] = self.into_stream(name, sums, self.middle if name == "down" else self.outer.repeat(4))
        return out

    def sums(self, name: str, reading: Reading, step: float = 0.0, *, whole: bool = False) -> Sums:
        """Round the kernel, with the steps of its input folded in, as training does.

        Args:
            name: of the layer.
            reading: of its input.
            step: of its input, where it has no quantiser.
            whole: wide inputs are summed as they are, and not in units of 256.
        """
        conv, quantizer = self.modules[name].conv, self.modules[name].quantizer
        steps_in = np.full(conv.in_channels, step) if quantizer is None else numbers(quantizer.step)
        kernel = conv.kernel() if isinstance(conv, MaskedConv) else conv.weight
        weight = numbers(kernel) * steps_in[None, :, None, None]
        if conv.bias is None:
            raise TypeError("a layer of the codec network has no bias")
        least = np.full(conv.out_channels, 1e-12)
        if name.endswith("_head"):
            # Heads start at zero: beside weights that have hardly left it the bias says what is fine enough.
            least = np.maximum(np.abs(numbers(conv.bias)) / _BIAS_LIMIT, least)
        steps = np.maximum(np.abs(weight).max(axis=(1, 2, 3)) / WEIGHT_LIMIT, least)
        rounded = np.rint(weight / steps[:, None, None, None]).clip(-WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int64)
        zero = np.einsum("oiyx,i->o", rounded, reading.zero)
        offset = np.rint(numbers(conv.bias) / steps).clip(-(1 << 30), 1 << 30) - zero
        if reading.wide and not whole:
            # Sums over two-byte inputs are in units of 256.
            offset, steps = np.rint(offset / 256.0), 256.0 * steps
        return Sums(rounded, offset.astype(np.int64), steps, conv.stride[0], reading)

    def stream_reading(self, name: str, offset: Floats) -> Reading:
        """Return how a layer reads the stream with 4 = ``offset`` of its units: its steps are of that unit's ladder."""
        quantizer = quantizer_of(self.modules[name])
        unit = 4.0 / offset
        step, zero = numbers(quantizer.step), numbers(quantizer.zero_point(quantizer.step)).astype(np.int64)
        finest = (unit if quantizer.signed else unit * unit / 8.0) / TO_U
        shift = np.rint(np.log2(step / finest)).astype(np.int64)
        half = np.zeros_like(zero) if quantizer.signed else offset.astype(np.int64)
        return Reading(half, shift, zero, quantizer.largest)

    def into_stream(self, name: str, sums: Sums, offset: Floats) -> tuple[Convolution, Floats]:
        """Rescale sums to the units of a stream."""
        pre_shift = pre_shift_for(sums.step, self.reach[name])
        scale = (sums.step * np.exp2(pre_shift) * TO_U * offset / 4.0)[None, :]
        return convolution(sums, rescaling_for(name, pre_shift, scale, np.zeros_like(scale))), sums.step

    def modulated(self, name: str, sums: Sums, reader: str) -> tuple[tuple[Convolution, Floats], Reading]:
        """Rescale sums to a pre-activation whose unit suits the layer that reads it; return that one's reading too."""
        scale, bias = self._modulation(name, len(sums.step))
        pre_shift = pre_shift_for(sums.step, self.reach[name])
        unit = sums.step * np.exp2(pre_shift)
        reach = TO_U * (exact.T_LIMIT * unit * np.abs(scale) + np.abs(bias)).max(axis=0)
        quantizer = quantizer_of(self.modules[reader])
        step, zero = numbers(quantizer.step), numbers(quantizer.zero_point(quantizer.step)).astype(np.int64)
        # The largest unit for which a product of the hard-swish stays below 2^24, less two percent for rounding.
        largest = np.minimum(LARGEST_OFFSET / 4.0, np.sqrt(0.98 * (1 << exact.EXACT_BITS) / (8.0 * reach)))
        wanted = np.floor(np.log2(8.0 * largest**2 * TO_U * step))
        shift = np.clip(wanted, 0, exact.largest_shift(quantizer.largest)).astype(np.int64)
        # A small half grows by more than two percent where it is rounded up to an even number.
        over = 0.5 * reach * half_for(shift, step) ** 2 >= 0.998 * (1 << exact.EXACT_BITS)
        shift = np.maximum(shift - over, 0)
        half = half_for(shift, step)
        to_stream = TO_U * half / 4.0
        rescaling = rescaling_for(name, pre_shift, scale * unit * to_stream, bias * to_stream)
        return (convolution(sums, rescaling), sums.step), Reading(half, shift, zero, quantizer.largest)

    def _modulation(self, name: str, channels: int) -> tuple[Floats, Floats]:
        """Return scale and bias that the noise level puts on a layer's output, [L or 1, O] each."""
        if not name.endswith(".first"):
            return np.ones((1, channels)), np.zeros((1, channels))
        block = self._net.get_submodule(name.removesuffix(".first"))
        if not isinstance(block.modulation, nn.Module):
            raise TypeError("a residual block has no modulation")
        both = numbers(block.modulation(self._embedding))
        return 1.0 + both[:, :channels], both[:, channels:]


class _DenoiserFreezer(TrunkFreezer):
    """Builds the layers of a denoiser."""

    def __init__(self, net: CodecNet, embedding: Tensor, reach: dict[str, Tensor]) -> None:
        super().__init__(net, embedding, reach)
        self._config = net.config

    def layers(self) -> dict[str, tuple[Convolution, Floats]]:
        """Return each layer with the step of its sums."""
        out = self.trunk(self._config)
        head = self.sums("pixel_head", self.stream_reading("pixel_head", self.outer))
        out["pixel_head"] = (convolution(head, None), head.step)
        first = self.sums("variance_first", self.stream_reading("variance_first", self.outer))
        out["variance_first"], reading = self.modulated("variance_first", first, "variance_second")
        last = self.sums("variance_second", reading)
        out["variance_second"] = (convolution(last, None), last.step)
        return {name: out[name] for name in layer_shapes(self._config)}


def convolution(sums: Sums, rescaling: Rescaling | None) -> Convolution:
    """Return the layer of these sums, without rescaling: a head."""
    return Convolution(sums.weight, sums.offset, sums.stride, sums.reading, rescaling)


def _picture_reading() -> Reading:
    nothing = np.zeros(12, np.int64)
    return Reading(nothing, nothing, np.full(12, exact.PICTURE_ZERO, np.int64), exact.PICTURE)


def half_for(shift: Array, step: Floats) -> Array:
    """Return 4 in the unit of a pre-activation whose hard-swish over 2^shift has steps of ``step``."""
    half = 2 * np.rint(2.0 * np.sqrt(np.exp2(shift) / (8.0 * TO_U * step))).astype(np.int64)
    return np.clip(half, 2, LARGEST_OFFSET)


def pre_shift_for(step: Floats, reach: Floats) -> Array:
    """Return the least shift that brings sums within the limit of t, with a margin."""
    ratio = MARGIN * np.maximum(reach, 1e-9) / (step * exact.T_LIMIT)
    return np.ceil(np.log2(np.maximum(ratio, 1.0))).astype(np.int64)


def rescaling_for(
    name: str, pre_shift: Array, scale: Floats, bias: Floats, largest_shift: int = _LARGEST_SHIFT
) -> Rescaling:
    """Return the multipliers of at most eleven bits, and biases, of a layer for scales and biases [L or 1, O].

    Raises:
        ModelError: naming the layer; a scale is too large.
    """
    largest = np.maximum(np.abs(scale).max(axis=0), 1e-9)
    shift = np.clip(np.floor(np.log2(_MULTIPLIER_LIMIT / largest)), 0, largest_shift).astype(np.int64)
    multiplier = np.rint(scale * np.exp2(shift))
    if np.abs(multiplier).max() > _MULTIPLIER_LIMIT:
        raise exact.refuse(name, "its scales are too large for integer multipliers")
    return Rescaling(pre_shift, multiplier.astype(np.int64), integers(bias), shift)


def _heads(net: CodecNet, embedding: Tensor, log_snr: Floats, layers: dict[str, tuple[Convolution, Floats]]) -> Heads:
    noise = np.exp(-log_snr)
    total = DATA_VARIANCE + noise
    c_skip, c_out2 = DATA_VARIANCE / total, DATA_VARIANCE * noise / total
    per_grey = 1.0 / (GREY_PER_UNIT * 2.0**PICTURE_BITS)
    pixel_step, coefficient_step = layers["pixel_head"][1], layers["variance_second"][1]
    mean = np.sqrt(c_out2)[:, None] * GREY_PER_UNIT * 2.0**MEAN_BITS * pixel_step[:12]
    to_index = LOG_VAR_STEPS * 2.0**exact.INDEX_SHIFT
    base = np.clip((np.log(c_out2) - LOG_VAR_FLOOR) * LOG_VAR_STEPS, -(1 << 20), 1 << 20)
    bias = numbers(net.variance_level(embedding))
    return Heads(
        picture_multiplier=integers(per_grey / PICTURE_STEP / np.sqrt(total) * 2.0**exact.PICTURE_SHIFT),
        mean_skip=integers(c_skip * 2.0 ** (MEAN_BITS - PICTURE_BITS + exact.MEAN_SHIFT)),
        mean_multiplier=integers(mean * 2.0**exact.MEAN_SHIFT),
        pixel_multiplier=integers(pixel_step[12:] * to_index),
        coefficient_multiplier=integers(coefficient_step * to_index),
        coefficient_bias=integers(bias * to_index),
        index_base=integers(base),
    )


def integers(values: Floats) -> Array:
    """Return the nearest integers."""
    return np.rint(values).astype(np.int64)


def numbers(values: Tensor) -> Floats:
    """Return a tensor as float64."""
    return values.detach().double().numpy()


def quantizer_of(layer: Layer) -> Quantizer:
    """Return the quantiser of a layer that has one."""
    if layer.quantizer is None:
        raise TypeError("the layer has no quantiser")
    return layer.quantizer
