"""From a calibrated pixel decoder in floating point to the integers of :mod:`ddpm_codec.nn.exact.decoder_parameters`.

The trunk freezes as that of a denoiser (:mod:`ddpm_codec.nn.exact.freeze`); so do the masked network's stream, its hard-swish
and its steps. A gated hard-swish with 4 f = A holds P = 8 f^2 h(u) / 2^pre and P g, where g is 256 for an open gate: a byte
that is P g / 2^shift has steps of (3/4) 2^(pre + shift - 8) / (8 f^2).
"""

import numpy as np
import torch

from ddpm_codec.coding.pixel_laws import (
    COEFFICIENT_BITS,
    HEAD_SHIFT,
    LEAST_SIGMA,
    MEAN16_BITS,
    SIGMA_STEPS,
    make_inverse_scales,
    make_tails,
)
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.denoiser import DATA_VARIANCE
from ddpm_codec.nn.exact import decoder_parameters as exact
from ddpm_codec.nn.exact.decoder_parameters import DecoderHeads, ExactPixelDecoder, GatedReading
from ddpm_codec.nn.exact.decoder_storage import decoder_shapes
from ddpm_codec.nn.exact.freeze import (
    PICTURE_STEP,
    TO_U,
    Floats,
    Sums,
    TrunkFreezer,
    convolution,
    half_for,
    integers,
    numbers,
    pre_shift_for,
    quantizer_of,
    rescaling_for,
)
from ddpm_codec.nn.exact.parameters import (
    BYTE,
    EXACT_BITS,
    MEAN_SHIFT,
    PICTURE_SHIFT,
    T_LIMIT,
    WIDE,
    Convolution,
    Reading,
    largest_shift,
    output_reach,
)
from ddpm_codec.nn.integer import MEAN_BITS, PICTURE_BITS
from ddpm_codec.nn.pixel_decoder import PixelDecoder, seen_pixels
from ddpm_codec.nn.quantization import LARGEST_OFFSET
from ddpm_codec.units import GREY_PER_UNIT

_LARGEST_STREAM_SHIFT = 18
"""Largest shift of what adds to the masked network's stream: 4095 times that power of two fits int32."""

_MASKED_SHIFT = 4
"""What ``masked`` gives is this many bits finer than the steps of its reader."""

_GATE_UNITS = 2.0 * exact.GATE_HALF


def freeze_decoder(network: PixelDecoder, log_snr: Floats, reach: dict[str, torch.Tensor]) -> ExactPixelDecoder:
    """Return the exact decoder of a calibrated one.

    Args:
        network: its weights and the steps of its quantisers; on the CPU.
        log_snr: of the crossings to make tables for, [L].
        reach: for each layer, the largest magnitude of its output that calibration saw, per channel.

    Raises:
        ModelError: the network is not calibrated, or cannot be held in integers without overflow.
    """
    if not network.calibrated:
        raise ModelError("the pixel decoder is not calibrated")
    with torch.no_grad():
        embedding = network.embedding(torch.from_numpy(log_snr).float())
        layers = _DecoderFreezer(network, embedding, reach).layers()
    tail = network.tail
    decoder = ExactPixelDecoder(
        network.config,
        {name: layer for name, (layer, _) in layers.items()},
        _heads(network, log_snr, layers),
        make_tails(None, None) if tail is None else make_tails(numbers(tail.logit), numbers(tail.log_ratio)),
        make_inverse_scales(),
        len(log_snr),
    )
    decoder.check()
    return decoder


class _DecoderFreezer(TrunkFreezer):
    """Builds the layers of a pixel decoder."""

    def __init__(self, network: PixelDecoder, embedding: torch.Tensor, reach: dict[str, torch.Tensor]) -> None:
        super().__init__(network, embedding, reach)
        self._config, self._masked = network.config, numbers(network.get_buffer("masked_offset"))

    def layers(self) -> dict[str, tuple[Convolution, Floats]]:
        """Return each layer with the step of its sums."""
        out = self.trunk(self._config.trunk)
        head = self.sums("trunk_head", self.stream_reading("trunk_head", self.outer))
        out["trunk_head"] = (convolution(head, None), head.step)
        seen = seen_pixels(self._config)
        for name, reading, step in (
            ("feature_stem", _plain(self._config.features, exact.FEATURE_ZERO, BYTE), 0.0),
            ("masked_stem", _plain(3, exact.RESIDUAL_ZERO, WIDE), 1.0 / exact.RESIDUAL_UNITS),
            ("step_stem", _plain(3 * seen, exact.RESIDUAL_ZERO, WIDE), 1.0 / exact.RESIDUAL_UNITS),
        ):
            out[name] = self._into_masked_stream(name, self.sums(name, reading, step, whole=True))
        for index in range(self._config.blocks):
            self._block(f"blocks.{index}", out)
        last = self.sums("parameter_head", self.stream_reading("parameter_head", self._masked), whole=True)
        last = _padded(last, exact.OUTPUTS)
        out["parameter_head"] = (convolution(last, None), last.step)
        return {name: out[name] for name in decoder_shapes(self._config)}

    def _block(self, name: str, out: dict[str, tuple[Convolution, Floats]]) -> None:
        masked, gates, mix = f"{name}.masked", f"{name}.gates", f"{name}.mix"
        if masked in self.modules:
            sums = self.sums(masked, self.stream_reading(masked, self._masked), whole=True)
            out[masked], reading = self._into_plain(masked, sums, gates)
        else:
            reading = self.stream_reading(gates, self._masked)
        out[gates], gated = self._into_gates(gates, self.sums(gates, reading, whole=True), mix)
        out[mix] = self._into_masked_stream(mix, self.sums(mix, gated, whole=True))

    def _into_masked_stream(self, name: str, sums: Sums) -> tuple[Convolution, Floats]:
        pre_shift = pre_shift_for(sums.step, self.reach[name])
        scale = (sums.step * np.exp2(pre_shift) * TO_U * self._masked / 4.0)[None, :]
        rescaling = rescaling_for(name, pre_shift, scale, np.zeros_like(scale), _LARGEST_STREAM_SHIFT)
        return convolution(sums, rescaling), sums.step

    def _into_plain(self, name: str, sums: Sums, reader: str) -> tuple[tuple[Convolution, Floats], Reading]:
        """Rescale sums to units of 2^-_MASKED_SHIFT of the reader's steps; return its reading too."""
        quantizer = quantizer_of(self.modules[reader])
        step, zero = numbers(quantizer.step), numbers(quantizer.zero_point(quantizer.step)).astype(np.int64)
        pre_shift = pre_shift_for(sums.step, self.reach[name])
        scale = (sums.step * np.exp2(pre_shift) / step * 2.0**_MASKED_SHIFT)[None, :]
        nothing = np.zeros_like(zero)
        reading = Reading(nothing, nothing + _MASKED_SHIFT, zero, quantizer.largest)
        rescaling = rescaling_for(name, pre_shift, scale, np.zeros_like(scale))
        return (convolution(sums, rescaling), sums.step), reading

    def _into_gates(self, name: str, sums: Sums, reader: str) -> tuple[tuple[Convolution, Floats], GatedReading]:
        """Rescale sums to u, in units that suit the reader, and to gates; return the reading of both."""
        channels = self._config.channels
        pre_shift = pre_shift_for(sums.step, self.reach[name])
        unit = sums.step * np.exp2(pre_shift)
        quantizer = quantizer_of(self.modules[reader])
        step, zero = numbers(quantizer.step), numbers(quantizer.zero_point(quantizer.step)).astype(np.int64)
        # As in freeze: the largest unit for which a product of the hard-swish stays below 2^24, less two percent.
        reach = TO_U * T_LIMIT * unit[:channels]
        largest = np.minimum(LARGEST_OFFSET / 4.0, np.sqrt(0.98 * (1 << EXACT_BITS) / (8.0 * reach)))
        whole = np.maximum(np.floor(np.log2(8.0 * largest**2 * TO_U * step)), 0.0).astype(np.int64)
        over = 0.5 * reach * half_for(whole, step) ** 2 >= 0.998 * (1 << EXACT_BITS)
        whole = np.maximum(whole - over, 0)
        half = half_for(whole, step)
        scale = unit * np.concatenate([TO_U * half / 4.0, np.full(channels, _GATE_UNITS)])
        rescaling = rescaling_for(name, pre_shift, scale[None, :], np.zeros((1, 2 * channels)))
        product = output_reach(rescaling)[:channels] * 2 * half
        pre = np.ceil(np.log2((product + 1) / ((1 << exact.GATED_BITS) - 2.0))).clip(0).astype(np.int64)
        # A gate that is open takes eight bits; what then is left to shift beyond the largest shift is shifted before.
        pre = np.maximum(pre, whole + 8 - largest_shift(quantizer.largest))
        shift = np.maximum(whole + 8 - pre, 0)
        return (convolution(sums, rescaling), sums.step), GatedReading(half, shift, zero, quantizer.largest, pre)


def _plain(channels: int, zero: int, limit: int) -> Reading:
    nothing = np.zeros(channels, np.int64)
    return Reading(nothing, nothing, nothing + zero, limit)


def _padded(sums: Sums, outputs: int) -> Sums:
    """Add outputs that are always 0."""
    more = outputs - len(sums.step)
    weight = np.pad(sums.weight, ((0, more), (0, 0), (0, 0), (0, 0)))
    return Sums(weight, np.pad(sums.offset, (0, more)), np.pad(sums.step, (0, more)), sums.stride, sums.reading)


def _heads(network: PixelDecoder, log_snr: Floats, layers: dict[str, tuple[Convolution, Floats]]) -> DecoderHeads:
    noise = np.exp(-log_snr)
    total = DATA_VARIANCE + noise
    c_skip, c_out = DATA_VARIANCE / total, np.sqrt(DATA_VARIANCE * noise / total) * GREY_PER_UNIT
    trunk, pixel = layers["trunk_head"][1], layers["parameter_head"][1]
    features = numbers(quantizer_of(network.feature_stem).step).repeat(4)
    per_grey = 1.0 / (GREY_PER_UNIT * 2.0**PICTURE_BITS)
    return DecoderHeads(
        picture_multiplier=integers(per_grey / PICTURE_STEP / np.sqrt(total) * 2.0**PICTURE_SHIFT),
        mean_skip=integers(c_skip * 2.0 ** (MEAN_BITS - PICTURE_BITS + MEAN_SHIFT)),
        mean_multiplier=integers(c_out[:, None] * trunk[:12] * 2.0 ** (MEAN_BITS + MEAN_SHIFT)),
        feature_multiplier=integers(trunk[12:] / features * 2.0**exact.FEATURE_SHIFT),
        residual_multiplier=integers(exact.RESIDUAL_UNITS / c_out * 2.0 ** (exact.RESIDUAL_SHIFT - MEAN_BITS)),
        pixel_mean_multiplier=integers(c_out[:, None] * pixel[:3] * 2.0 ** (MEAN16_BITS + HEAD_SHIFT)),
        # ln sigma is half the log-variance.
        scale_multiplier=integers(0.5 * SIGMA_STEPS * pixel[3:6] * 2.0**HEAD_SHIFT),
        scale_base=integers(SIGMA_STEPS * np.log(c_out / LEAST_SIGMA)),
        coefficient_multiplier=integers(pixel[6:9] * 2.0 ** (COEFFICIENT_BITS + HEAD_SHIFT)),
        tail_multiplier=integers(pixel[9:12] * 2.0**HEAD_SHIFT),
    )
