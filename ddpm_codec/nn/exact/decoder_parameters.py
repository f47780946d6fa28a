"""The exact pixel decoder: what it is made of, and the proof that its arithmetic cannot overflow.

The trunk is that of :mod:`ddpm_codec.nn.exact.parameters` with one row of tables per crossing. Its head gives m_0 and feature
maps; the masked network has the same layers, but its sums are always v = sum of w q + offset, and one kind of reading more:
with g in units of 2^-8,

    q = clamp(R(zero 2^shift + R(u clamp(u + A, 0, 2A), pre) clamp(g + 128, 0, 256), shift), 0, limit).

All of the masked network, rounding included, fits int32; what turns its sums into distributions
(:mod:`ddpm_codec.coding.pixel_laws`) fits int64. docs/FORMAT.md specifies the decoder.
"""

from dataclasses import dataclass, fields

import numpy as np

from ddpm_codec.coding.pixel_laws import SCALES, TAIL_BITS, TAIL_LENGTH, LawHeads
from ddpm_codec.nn.exact.parameters import (
    BYTE,
    EXACT_BITS,
    OUTPUT_BITS,
    PICTURE_REACH,
    STREAM_LIMIT,
    T_LIMIT,
    WIDE,
    Array,
    Convolution,
    Reading,
    check_layer,
    check_reach,
    check_reading,
    output_reach,
    refuse,
)
from ddpm_codec.nn.pixel_decoder import PixelDecoderConfig

STEMS = ("feature_stem", "masked_stem", "step_stem")
"""Layers that the masked network starts with; they read features, residuals and steps plainly."""

OUTPUTS = 12
"""Sums of a pixel: mean, log-variance, coefficient and tail place of three sub-pixels."""

MEAN_LIMIT = 1 << 20
"""m_0 is clamped to this magnitude, 1024 grey levels."""

FEATURE_ZERO = 128
FEATURE_SHIFT = 24
RESIDUAL_SHIFT = 24
RESIDUAL_ZERO = 4096
"""Residuals and steps are clamped to -4096..4095, and read with this zero point."""

RESIDUAL_UNITS = 512
"""Units of a residual, or a step, to one c_out."""

GATE_HALF = 128
"""1/2 in the units of a gate."""

GATED_BITS = 15
"""Hard-swishes are below 2**15 where a gate multiplies them, so that the product is below 2**24."""

MASKED_SUM_BITS = 30
"""Sums of the masked network stay below 2**30, so that int32 also holds them while they are rounded."""

_LARGEST_RESIDUAL = MEAN_LIMIT + 255 * 512
_INT64_BITS = 62


@dataclass(frozen=True, eq=False)
class GatedReading(Reading):
    """How ``mix`` reads the two halves of what ``gates`` gave.

    Attributes:
        pre: shift of the hard-swish before the gate multiplies it, [C].
    """

    pre: Array


@dataclass(frozen=True, eq=False)
class DecoderHeads:
    """What turns sums into means, features, residuals and laws; L crossings.

    Attributes:
        picture_multiplier: of the noisy picture, before the stem, [L].
        mean_skip: of the noisy picture in m_0, [L].
        mean_multiplier: of the first 12 sums of the trunk's head in m_0, [L, 12].
        feature_multiplier: of its other 4F, [4F].
        residual_multiplier: of 1024 x - m_0, of the pixel itself or another, [L].
        pixel_mean_multiplier: of the sums 0..2 of a pixel, [L, 3].
        scale_multiplier: of 3..5, [3].
        scale_base: index of the scale where those are 0, [L].
        coefficient_multiplier: of 6..8, [3].
        tail_multiplier: of 9..11, [3].
    """

    picture_multiplier: Array
    mean_skip: Array
    mean_multiplier: Array
    feature_multiplier: Array
    residual_multiplier: Array
    pixel_mean_multiplier: Array
    scale_multiplier: Array
    scale_base: Array
    coefficient_multiplier: Array
    tail_multiplier: Array


@dataclass(frozen=True, eq=False)
class ExactPixelDecoder:
    """An exact pixel decoder.

    Attributes:
        config: widths and depths.
        layers: the convolutions by name, in the order of :func:`ddpm_codec.nn.exact.decoder_storage.decoder_shapes`.
        heads: from sums to means, features, residuals and laws.
        tails: T, rows of the distribution function from 0 up, [S, N].
        inverse_scales: 2^26 over sigma, [I].
        levels: L, number of crossings.
    """

    config: PixelDecoderConfig
    layers: dict[str, Convolution]
    heads: DecoderHeads
    tails: Array
    inverse_scales: Array
    levels: int

    def law_heads(self, level: int) -> LawHeads:
        """Return what turns sums of pixels into laws at a crossing."""
        heads = self.heads
        return LawHeads(
            mean=heads.pixel_mean_multiplier[level],
            scale=heads.scale_multiplier,
            scale_base=int(heads.scale_base[level]),
            coefficient=heads.coefficient_multiplier,
            tail=heads.tail_multiplier,
            rows=len(self.tails),
        )

    def check(self) -> None:
        """Prove from the actual numbers that nothing overflows, and that all shapes fit.

        Raises:
            ModelError: naming the first part that could.
        """
        for name, layer in self.layers.items():
            if is_masked_network(name):
                _check_masked_layer(name, layer, self.levels)
            else:
                check_layer(name, layer, self.levels)
        self._check_readers()
        _check_heads(self)
        _check_tables(self)

    def _check_readers(self) -> None:
        """Check products with what each layer reads: a stream, or the output of the layer before."""
        stream = np.array([STREAM_LIMIT])
        for name, layer in self.layers.items():
            if name.endswith(".second"):
                before = self.layers[name.removesuffix("second") + "first"].rescaling
                reach = stream if before is None else output_reach(before)
            elif name.endswith(".mix"):
                gates = self.layers[name.removesuffix("mix") + "gates"].rescaling
                reach = stream if gates is None else output_reach(gates)[: self.config.channels]
                _check_gated(name, layer.reading, reach)
            else:
                reach = stream
            check_reach(name, layer.reading, reach)


def is_masked_network(name: str) -> bool:
    """Return whether a layer belongs to the masked network, which runs per pixel."""
    return name.startswith((*STEMS, "blocks.", "parameter_head"))


def adds_to_stream(name: str) -> bool:
    """Return whether a layer of the masked network adds to its stream."""
    return name in ("masked_stem", "step_stem") or name.endswith(".mix")


def is_masked(name: str) -> bool:
    """Return whether a layer's kernel sees earlier pixels only."""
    return name == "masked_stem" or name.endswith(".masked")


def hidden_taps(side: int, *, own: bool) -> Array:
    """Return 1 where a masked kernel must be zero, [side, side]: all pixels from its own on in raster order."""
    taps = np.arange(side * side).reshape(side, side)
    return np.asarray(taps >= side * side // 2 + own, dtype=np.int64)


def largest_masked_sum(layer: Convolution) -> int:
    """Return the largest magnitude of any partial sum of w q, in whatever order, offset included."""
    return int((_one_sign(layer) * layer.reading.limit + np.abs(layer.offset)).max())


def _one_sign(layer: Convolution) -> Array:
    """Return the sum of the positive or of the negative weights of each output, whichever is larger in magnitude."""
    positive = np.maximum(layer.weight, 0).sum(axis=(1, 2, 3))
    negative = np.maximum(-layer.weight, 0).sum(axis=(1, 2, 3))
    return np.asarray(np.maximum(positive, negative))


def _check_masked_layer(name: str, layer: Convolution, levels: int) -> None:
    if np.abs(layer.weight).max(initial=0) > 127:
        raise refuse(name, "weights exceed one byte")
    if is_masked(name) and (layer.weight * hidden_taps(layer.weight.shape[2], own=name != "masked_stem")).any():
        raise refuse(name, "has weights where its kernel is masked")
    reading = layer.reading
    check_reading(name, reading)
    _check_inputs(name, reading)
    # Bytes are summed within 2^24 as everywhere; two bytes in two such sums, put together as one.
    parts = int(_one_sign(layer).max()) * BYTE
    whole = largest_masked_sum(layer)
    bits = MASKED_SUM_BITS if reading.wide else EXACT_BITS
    if parts >= 1 << EXACT_BITS or whole >= 1 << bits:
        raise refuse(name, f"its sums could reach {max(parts, whole)}, and must stay below 2^{bits}")
    if layer.rescaling is not None:
        _check_masked_rescaling(name, layer, levels)


def _check_inputs(name: str, reading: Reading) -> None:
    """Check the readings that are the same in every decoder: those of the stems and of outputs of ``masked``."""
    if name in STEMS:
        zero, limit = (FEATURE_ZERO, BYTE) if name == "feature_stem" else (RESIDUAL_ZERO, WIDE)
        if reading.half.any() or reading.shift.any() or (reading.zero != zero).any() or reading.limit != limit:
            raise refuse(name, f"must read plainly, with zero {zero} and limit {limit}")
        return
    plain = name.endswith(".gates") and not name.startswith("blocks.0.")
    if plain == bool(reading.half.any()):
        raise refuse(name, "must read plainly" if plain else "must read by hard-swish")
    if not plain and not reading.half.all():
        raise refuse(name, "has a hard-swish offset of 0")


def _check_masked_rescaling(name: str, layer: Convolution, levels: int) -> None:
    scale = layer.rescaling
    if scale is None:
        return
    if adds_to_stream(name) and scale.bias.any():
        raise refuse(name, "has a bias, although it adds to a residual stream")
    if len(scale.multiplier) not in (1, levels) or scale.multiplier.shape != scale.bias.shape:
        raise refuse(name, "tables must have one row, or one per level")
    if ((scale.shift < 0) | (scale.shift > 30) | (scale.pre_shift < 0) | (scale.pre_shift > 30)).any():
        raise refuse(name, "shift outside 0..30")
    products = T_LIMIT * np.abs(scale.multiplier)
    start = np.full_like(products, STREAM_LIMIT) if adds_to_stream(name) else np.abs(scale.bias)
    # Before it is rounded, with what rounding adds.
    reach = int((products + (start << scale.shift) + (1 << scale.shift)).max(initial=0))
    most = int(output_reach(scale).max(initial=0)) + STREAM_LIMIT
    if int(products.max(initial=0)) >= 1 << EXACT_BITS or most >= 1 << OUTPUT_BITS or reach >= 1 << 31:
        raise refuse(
            name,
            f"its rescaling could reach {int(products.max(initial=0))}, {reach} and {most}; "
            f"the limits are 2^{EXACT_BITS}, 2^31 and 2^{OUTPUT_BITS}",
        )


def _check_gated(name: str, reading: Reading, reach: Array) -> None:
    if not isinstance(reading, GatedReading):
        raise refuse(name, "does not read gates")
    if ((reading.pre < 0) | (reading.pre > 30)).any():
        raise refuse(name, "shift outside 0..30")
    swish = int(((reach * 2 * reading.half >> reading.pre) + 1).max(initial=0))
    if swish >= 1 << GATED_BITS:
        raise refuse(name, f"its gated hard-swish could reach {swish}, and must stay below 2^{GATED_BITS}")


def _check_heads(decoder: ExactPixelDecoder) -> None:
    heads, levels, layers = decoder.heads, decoder.levels, decoder.layers
    shapes = {
        "picture_multiplier": (levels,),
        "mean_skip": (levels,),
        "mean_multiplier": (levels, 12),
        "feature_multiplier": (4 * decoder.config.features,),
        "residual_multiplier": (levels,),
        "pixel_mean_multiplier": (levels, 3),
        "scale_multiplier": (3,),
        "scale_base": (levels,),
        "coefficient_multiplier": (3,),
        "tail_multiplier": (3,),
    }
    most = {}
    for field in fields(heads):
        values = getattr(heads, field.name)
        if values.shape != shapes[field.name]:
            raise refuse("heads", f"{field.name} has shape {values.shape}, expected {shapes[field.name]}")
        most[field.name] = int(np.abs(values).max(initial=0))
        if most[field.name] >= 1 << 40:
            raise refuse("heads", f"{field.name} is out of range")
    trunk, pixel = layers["trunk_head"].largest_sum, largest_masked_sum(layers["parameter_head"])
    limits = {
        # Evaluated in binary64 too.
        "picture_multiplier": (most["picture_multiplier"] * PICTURE_REACH, 53),
        "mean_multiplier": (most["mean_multiplier"] * trunk + most["mean_skip"] * PICTURE_REACH, 53),
        "feature_multiplier": (most["feature_multiplier"] * trunk, 53),
        "residual_multiplier": (most["residual_multiplier"] * _LARGEST_RESIDUAL, 53),
        **{
            name: (most[name] * pixel, _INT64_BITS)
            for name in ("pixel_mean_multiplier", "scale_multiplier", "coefficient_multiplier", "tail_multiplier")
        },
    }
    for name, (reach, bits) in limits.items():
        if reach >= 1 << bits:
            raise refuse("heads", f"{name} could reach {reach}; it must stay below 2^{bits}")


def _check_tables(decoder: ExactPixelDecoder) -> None:
    tails, scales = decoder.tails, decoder.inverse_scales
    rows = max(decoder.config.shapes, 1)
    if tails.shape != (rows, TAIL_LENGTH) or scales.shape != (SCALES,):
        raise refuse(
            "tables",
            f"tails of shape {tails.shape} and scales of {scales.shape}, expected {(rows, TAIL_LENGTH)} and {(SCALES,)}",
        )
    if (tails[:, 0] != 1 << TAIL_BITS - 1).any() or (np.diff(tails) < 0).any() or (tails > 1 << TAIL_BITS).any():
        raise refuse("tables", f"tails must rise from 2^{TAIL_BITS - 1} to at most 2^{TAIL_BITS}")
    # An edge is less than 2^25 from a mean, so that the product stays below 2^63.
    if (scales <= 0).any() or (scales >= 1 << 38).any():
        raise refuse("tables", "inverse scales must be positive and below 2^38")
