"""The exact network in plain NumPy int64: slow, short, and what every faster implementation has to agree with.

Written from docs/FORMAT.md, section 10, over the parameters of :mod:`ddpm_codec.nn.exact.parameters`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.nn.codec_net import CodecNetConfig
from ddpm_codec.nn.exact.parameters import (
    COEFFICIENT_INDEX_RANGE,
    INDEX_SHIFT,
    MEAN_SHIFT,
    PICTURE_REACH,
    PICTURE_SHIFT,
    PIXEL_INDEX_RANGE,
    STREAM_LIMIT,
    T_LIMIT,
    Convolution,
    ExactParameters,
    Reading,
)
from ddpm_codec.nn.integer import LOG_VAR_INDICES

Array = NDArray[np.int64]


def shift_even(a: Array, s: Array | int) -> Array:
    """Return a / 2^s rounded half to even; shapes broadcast."""
    half = (np.int64(1) << s) >> 1
    odd = a >> s & 1
    # Just below a half is not rounded up, where the floor is even.
    rounded: Array = (a + half - np.minimum(half, 1 - odd)) >> s
    return rounded


def read(values: Array, reading: Reading) -> Array:
    """Return q for a stream or pre-activation [B, h, w, C]."""
    if reading.half.any():
        values = values * np.clip(values + reading.half, 0, 2 * reading.half)
    return np.clip(shift_even(values + (reading.zero << reading.shift), reading.shift), 0, reading.limit)


def convolve(q: Array, layer: Convolution) -> Array:
    """Return v, [B, h', w', O], for q [B, h, w, C]."""
    if layer.reading.wide:
        upper, lower = window_sums(q, layer, lambda byte: byte >> 8), window_sums(q, layer, lambda byte: byte & 255)
        return upper + shift_even(lower, 8) + layer.offset
    return window_sums(q, layer, lambda byte: byte) + layer.offset


def window_sums(q: Array, layer: Convolution, part: Callable[[Array], Array]) -> Array:
    """Return the sum of w part(q) over windows, borders filled with the zero point."""
    side, stride, pad = layer.weight.shape[2], layer.stride, layer.padding
    batch, height, width, channels = q.shape
    padded = np.broadcast_to(layer.reading.zero, (batch, height + 2 * pad, width + 2 * pad, channels)).copy()
    padded[:, pad : pad + height, pad : pad + width] = q
    windows = np.lib.stride_tricks.sliding_window_view(part(padded), (side, side), axis=(1, 2))[:, ::stride, ::stride]
    sums: Array = windows.reshape(*windows.shape[:3], -1) @ layer.weight.reshape(len(layer.weight), -1).T
    return sums


def rescale(v: Array, layer: Convolution, level: int, stream: Array | int = 0) -> Array:
    """Return y, added to a stream, for sums v [B, h, w, O]."""
    scale = layer.rescaling
    if scale is None:
        raise ValueError("a head has no rescaling")
    multiplier, bias = scale.at(level)
    t = np.clip(shift_even(v, scale.pre_shift), -T_LIMIT, T_LIMIT)
    return shift_even(t * multiplier + ((bias + stream) << scale.shift), scale.shift)


def forward(parameters: ExactParameters, picture: Array, level: int) -> tuple[Array, Array, Array]:
    """Apply the network.

    Args:
        parameters: the network.
        picture: (grey - 127.5) 2**PICTURE_BITS, [B, 3, H, W], H and W multiples of 8.
        level: row of the tables.

    Returns:
        (mean (grey - 127.5) 2**MEAN_BITS [B, 3, H, W], variance index of sub-pixels [B, 3, H, W], variance index of
        coefficients [B, D, H/8, W/8]).
    """
    layers, heads = parameters.layers, parameters.heads
    picture, outer = body(layers, parameters.config, heads.picture_multiplier[level], picture, level)
    pixel_head = layers["pixel_head"]
    v = convolve(read(outer, pixel_head.reading), pixel_head)
    skip = folded(picture * heads.mean_skip[level])
    mean = shift_even(skip + v[..., :12] * heads.mean_multiplier[level], MEAN_SHIFT)
    base = heads.index_base[level]
    pixel = np.clip(shift_even(v[..., 12:] * heads.pixel_multiplier, INDEX_SHIFT), *PIXEL_INDEX_RANGE)
    first = layers["variance_first"]
    hidden = rescale(convolve(read(outer, first.reading), first), first, level)
    last = layers["variance_second"]
    sums = convolve(read(hidden, last.reading), last)
    logs = shift_even(sums * heads.coefficient_multiplier + heads.coefficient_bias[level], INDEX_SHIFT)
    coefficient = np.clip(logs, *COEFFICIENT_INDEX_RANGE)
    return (
        to_picture(mean),
        np.clip(base + to_picture(pixel), 0, LOG_VAR_INDICES - 1),
        np.clip(base + coefficient, 0, LOG_VAR_INDICES - 1).transpose(0, 3, 1, 2),
    )


def body(
    layers: dict[str, Convolution], config: CodecNetConfig, picture_multiplier: Array, picture: Array, level: int
) -> tuple[Array, Array]:
    """Return (the clamped picture, the stream that the heads read)."""

    def apply(name: str, values: Array, stream: Array | int = 0) -> Array:
        layer = layers[name]
        return rescale(convolve(read(values, layer.reading), layer), layer, level, stream)

    def block(name: str, stream: Array) -> Array:
        return saturated(apply(f"{name}.second", apply(f"{name}.first", stream), stream))

    picture = np.clip(picture, -PICTURE_REACH, PICTURE_REACH)
    scaled = shift_even(picture * picture_multiplier, PICTURE_SHIFT)
    outer = saturated(apply("stem", folded(scaled)))
    for index in range(config.outer_blocks):
        outer = block(f"before.{index}", outer)
    inner = saturated(apply("down", outer))
    for index in range(config.mid_blocks):
        inner = block(f"middle.{index}", inner)
    outer = saturated(_shuffle(apply("up", inner, _gather(outer))))
    for index in range(config.outer_blocks):
        outer = block(f"after.{index}", outer)
    return picture, outer


def saturated(stream: Array) -> Array:
    """Return a stream within its limits."""
    return np.clip(stream, -STREAM_LIMIT, STREAM_LIMIT)


def folded(picture: Array) -> Array:
    """[B, 3, H, W] -> [B, H/2, W/2, 12], channel = 4 colour + 2 row + column."""
    batch, colours, height, width = picture.shape
    cells = picture.reshape(batch, colours, height // 2, 2, width // 2, 2)
    return cells.transpose(0, 2, 4, 1, 3, 5).reshape(batch, height // 2, width // 2, 4 * colours)


def _shuffle(values: Array) -> Array:
    """[B, h, w, 4 C] -> [B, 2h, 2w, C]."""
    batch, height, width, channels = values.shape
    cells = values.reshape(batch, height, width, channels // 4, 2, 2)
    return cells.transpose(0, 1, 4, 2, 5, 3).reshape(batch, 2 * height, 2 * width, channels // 4)


def _gather(values: Array) -> Array:
    """[B, 2h, 2w, C] -> [B, h, w, 4 C], the inverse of _shuffle."""
    return folded(values.transpose(0, 3, 1, 2))


def to_picture(values: Array) -> Array:
    """[B, H/2, W/2, 12] -> [B, 3, H, W]."""
    return _shuffle(values).transpose(0, 3, 1, 2)
