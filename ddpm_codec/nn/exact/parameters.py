"""The exact network: what it is made of, and the proof that its arithmetic cannot overflow.

All values are integers. With R(a, s) = a / 2^s rounded half to even, a layer reads bytes q and computes

    v = sum of w q + offset,  t = clamp(R(v, pre_shift), -8191, 8191),  y = R(t multiplier + bias 2^shift, shift),

where multiplier and bias may depend on the noise level. A residual stream adds such numbers up within -4095..4095,
s <- clamp(R(s 2^shift + t multiplier, shift), -4095, 4095). It is read as

    q = clamp(R(zero 2^shift + s clamp(s + A, 0, 2A), shift), 0, 255),   the hard-swish, A being 4 in the units of s, or
    q = clamp(R(zero 2^shift + s, shift), 0, 255),                       plainly,

and outside the picture q is ``zero``. Wide inputs have 0..8191 in place of 0..255, the picture 0..65535; their sums are
v = sum of w floor(q / 256) + R(sum of w (q mod 256), 8) + offset. docs/FORMAT.md specifies the whole network.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import ModelError
from ddpm_codec.nn.codec_net import CodecNetConfig

T_LIMIT = 8191
STREAM_LIMIT = 4095
BYTE = 255
WIDE = 8191
PICTURE = 65535
PICTURE_ZERO = 32768
PICTURE_SHIFT = 20
MEAN_SHIFT = 24
INDEX_SHIFT = 24
PIXEL_INDEX_RANGE = (-384, 192)
COEFFICIENT_INDEX_RANGE = (-448, 192)

EXACT_BITS = 24
"""Sums of one-byte inputs stay below 2**24: int32 and the significand of a binary32 both hold them."""

OUTPUT_BITS = 22
"""Rescaled numbers stay below 2**22: a binary32 rounds 1.5 2**23 plus such a number to an integer."""

PICTURE_REACH = 1 << 22
"""Noisy pictures are clamped to this magnitude, 65,536 grey levels: beyond lie damaged files alone."""

Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reading:
    """How a layer reads a stream: q from s.

    Attributes:
        half: A, even, [C]; all zero where the stream is read plainly.
        shift: [C].
        zero: byte of s = 0, [C].
        limit: largest q: 255, 8191 or 65535.
    """

    half: Array
    shift: Array
    zero: Array
    limit: int

    @property
    def wide(self) -> bool:
        """Whether q takes two bytes."""
        return self.limit > BYTE


@dataclass(frozen=True, eq=False)
class Rescaling:
    """From sums v to y.

    Attributes:
        pre_shift: [O].
        multiplier: [L, O] or [1, O].
        bias: the same shape.
        shift: [O].
    """

    pre_shift: Array
    multiplier: Array
    bias: Array
    shift: Array

    def at(self, level: int) -> tuple[Array, Array]:
        """Return multiplier and bias at a level, [O] each."""
        row = level if len(self.multiplier) > 1 else 0
        return self.multiplier[row], self.bias[row]


@dataclass(frozen=True, eq=False)
class Convolution:
    """A layer: reading, kernel, rescaling.

    Attributes:
        weight: [O, I, k, k], -127..127.
        offset: added to the sums, [O].
        stride: of the convolution; where it is one, the borders are padded so that the size stays.
        reading: of its input.
        rescaling: of its sums; None for a head, whose sums go to tables of their own.
    """

    weight: Array
    offset: Array
    stride: int
    reading: Reading
    rescaling: Rescaling | None

    @property
    def padding(self) -> int:
        """Pixels of padding on each side."""
        return self.weight.shape[2] // 2 if self.stride == 1 else 0

    @property
    def largest_sum(self) -> int:
        """Largest magnitude of any partial sum of w q, in whatever order, and of v."""
        positive, negative = (
            np.maximum(self.weight, 0).sum(axis=(1, 2, 3)),
            np.maximum(-self.weight, 0).sum(axis=(1, 2, 3)),
        )
        one_sign = np.maximum(positive, negative)
        if self.reading.wide:
            # Of the upper bytes, with those of the lower bytes, less than one each, added.
            whole = one_sign * ((self.reading.limit >> 8) + 1) + 1 + np.abs(self.offset)
        else:
            whole = one_sign * BYTE + np.abs(self.offset)
        return int(np.maximum(whole, one_sign * BYTE).max())


@dataclass(frozen=True, eq=False)
class Heads:
    """From the sums of the heads to predictions, per level.

    Attributes:
        picture_multiplier: of the noisy picture, before the stem, [L].
        mean_skip: of the noisy picture in the mean, [L].
        mean_multiplier: of the sums of the pixel head's first 12 channels, [L, 12].
        pixel_multiplier: of its other 12, [12].
        coefficient_multiplier: of the sums of the variance head, [D].
        coefficient_bias: [L, D].
        index_base: variance index of log-variance 0 relative to c_out^2, [L].
    """

    picture_multiplier: Array
    mean_skip: Array
    mean_multiplier: Array
    pixel_multiplier: Array
    coefficient_multiplier: Array
    coefficient_bias: Array
    index_base: Array


@dataclass(frozen=True, eq=False)
class ExactParameters:
    """An exact network.

    Attributes:
        config: widths and depths.
        layers: the convolutions by the names of :meth:`ddpm_codec.nn.codec_net.CodecNet.layers`.
        heads: from sums to predictions.
        levels: L, number of noise levels that it has tables for.
    """

    config: CodecNetConfig
    layers: dict[str, Convolution]
    heads: Heads
    levels: int

    def check(self) -> None:
        """Prove from the actual numbers that nothing overflows, and that all shapes fit.

        Raises:
            ModelError: naming the first layer that could.
        """
        for name, layer in self.layers.items():
            check_layer(name, layer, self.levels)
        _check_heads(self)


def refuse(name: str, reason: str) -> ModelError:
    """Return the error for a layer that does not do."""
    return ModelError(f"layer {name}: {reason}")


def check_layer(name: str, layer: Convolution, levels: int) -> None:
    """Check a layer on its own, whatever it reads.

    Raises:
        ModelError: it could overflow, or is none.
    """
    if np.abs(layer.weight).max(initial=0) > 127:
        raise refuse(name, "weights exceed one byte")
    reading = layer.reading
    if layer.largest_sum >= 1 << EXACT_BITS:
        raise refuse(name, f"its sums could reach {layer.largest_sum}, and must stay below 2^{EXACT_BITS}")
    check_reading(name, reading)
    if layer.rescaling is None:
        return
    scale = layer.rescaling
    if name.endswith((".second", "up")) and scale.bias.any():
        raise refuse(name, "has a bias, although it adds to a residual stream")
    if len(scale.multiplier) not in (1, levels) or scale.multiplier.shape != scale.bias.shape:
        raise refuse(name, "tables must have one row, or one per level")
    if ((scale.shift < 0) | (scale.shift > 30) | (scale.pre_shift < 0) | (scale.pre_shift > 30)).any():
        raise refuse(name, "shift outside 0..30")
    product, whole = T_LIMIT * np.abs(scale.multiplier).max(initial=0), output_reach(scale).max(initial=0)
    if product >= 1 << EXACT_BITS or whole + STREAM_LIMIT >= 1 << OUTPUT_BITS:
        raise refuse(
            name, f"its rescaling could reach {product} and {whole}; the limits are 2^{EXACT_BITS} and 2^{OUTPUT_BITS}"
        )


def check_reading(name: str, reading: Reading) -> None:
    """Check the numbers of a reading, whatever it reads.

    Raises:
        ModelError: it is none.
    """
    of_picture = reading.limit == PICTURE and not (reading.half.any() or reading.shift.any())
    if of_picture != (name == "stem") or (not of_picture and reading.limit not in (BYTE, WIDE)):
        raise refuse(name, f"unexpected input limit {reading.limit}")
    if of_picture and (reading.zero != PICTURE_ZERO).any():
        raise refuse(name, f"zero point of the picture is not {PICTURE_ZERO}")
    if (reading.zero < 0).any() or (reading.zero > reading.limit).any():
        raise refuse(name, "zero point out of range")
    if (reading.half % 2 != 0).any() or (reading.half < 0).any():
        raise refuse(name, "hard-swish offset is odd or negative")
    most = largest_shift(reading.limit)
    if (reading.shift < 0).any() or (reading.shift > most).any():
        raise refuse(name, f"shift outside 0..{most}")


def largest_shift(limit: int) -> int:
    """Return the largest shift of a reading: beyond 2^(24 - shift) a binary32 rounds, and there q has to be clamped."""
    return EXACT_BITS - limit.bit_length()


def check_reach(name: str, reading: Reading, reach: Array) -> None:
    """Check that a hard-swish of values up to ``reach`` [C] stays exact.

    Raises:
        ModelError: it could overflow.
    """
    product = reach * 2 * reading.half
    if product.max(initial=0) >= 1 << EXACT_BITS:
        raise refuse(name, f"its hard-swish could reach {product.max()}, and must stay below 2^{EXACT_BITS}")


def output_reach(rescaling: Rescaling) -> Array:
    """Return the largest magnitude of y at any level, [O]."""
    reach = (T_LIMIT * np.abs(rescaling.multiplier) >> rescaling.shift) + np.abs(rescaling.bias)
    return np.asarray(reach.max(axis=0) + 1)


def _check_heads(parameters: ExactParameters) -> None:
    layers, heads = parameters.layers, parameters.heads
    stream = np.array([STREAM_LIMIT])
    for name, layer in layers.items():
        if name.endswith(".second"):
            before = layers[name.removesuffix("second") + "first"].rescaling
        elif name == "variance_second":
            before = layers["variance_first"].rescaling
        else:
            before = None
        check_reach(name, layer.reading, stream if before is None else output_reach(before))
    levels, coefficients = parameters.levels, parameters.config.coefficients
    shapes = {
        "picture_multiplier": (levels,),
        "mean_skip": (levels,),
        "mean_multiplier": (levels, 12),
        "pixel_multiplier": (12,),
        "coefficient_multiplier": (coefficients,),
        "coefficient_bias": (levels, coefficients),
        "index_base": (levels,),
    }
    for name, shape in shapes.items():
        if getattr(heads, name).shape != shape:
            raise refuse("heads", f"{name} has shape {getattr(heads, name).shape}, expected {shape}")
    for field in fields(heads):
        if np.abs(getattr(heads, field.name)).max(initial=0) >= 1 << 40:
            raise refuse("heads", f"{field.name} is out of range")
    pixel, coefficient = layers["pixel_head"].largest_sum, layers["variance_second"].largest_sum
    most = {field.name: int(np.abs(getattr(heads, field.name)).max(initial=0)) for field in fields(heads)}
    largest = {
        "mean_multiplier": most["mean_multiplier"] * pixel + most["mean_skip"] * PICTURE_REACH,
        "pixel_multiplier": most["pixel_multiplier"] * pixel,
        "coefficient_multiplier": most["coefficient_multiplier"] * coefficient + most["coefficient_bias"],
        "picture_multiplier": most["picture_multiplier"] * PICTURE_REACH,
    }
    for name, reach in largest.items():
        if reach >= 1 << 53:
            raise refuse("heads", f"{name} could reach {reach}; it must stay below 2^53")
