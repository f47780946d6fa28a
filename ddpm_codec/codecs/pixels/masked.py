"""The masked network for many pixels at once, in compiled passes over memory that stays in the cache.

The rounding R(a, s) = a / 2^s, half to even, is (a + half + ((a >> s) & odd)) >> s with half = 2^(s - 1) - 1 and odd = 1,
both 0 where s is 0. All values fit int32, which the decoder's check has proved. Streams and inputs lie pixel after pixel,
[count, C]; ``rows`` are those of :class:`~ddpm_codec.codecs.pixels.network.MaskedNetwork`, from ``place`` on.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.lanes import (
    PIXELS,
    WIDE_REGISTERS,
    copy16,
    fill16,
    least,
    load16,
    most,
    product_of_one,
    product_of_two,
    store16,
)
from ddpm_codec.codecs.pixels.laws import residual
from ddpm_codec.codecs.pixels.network import LANES, READING_ROWS, RESCALING_ROWS, MaskedNetwork, Workspace
from ddpm_codec.compilation import inlined
from ddpm_codec.nn.exact.decoder_parameters import GATE_HALF, RESIDUAL_ZERO
from ddpm_codec.nn.exact.parameters import STREAM_LIMIT, T_LIMIT

_OUTPUT_ROWS, _INPUT_ROWS = RESCALING_ROWS * LANES, READING_ROWS * LANES
_BIAS = 5 * LANES
_FEATURE_STEM, _MASKED_STEM, _STEP_STEM = 0, 1, 2

Bytes = NDArray[np.uint8]
Shorts = NDArray[np.int16]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@inlined
def _rounded(a: Any, rows: Ints, place: int) -> Any:  # noqa: ANN401 - a vector
    """Return R(a, s) by the three rows at a place."""
    shift = load16(rows, place)
    return (a + load16(rows, place + LANES) + ((a >> shift) & load16(rows, place + 2 * LANES))) >> shift


@inlined
def _clamped(a: Any, low: Any, high: Any) -> Any:  # noqa: ANN401
    return most(least(a, high), low)


@inlined
def _rescaled(v: Any, base: Any, rows: Ints, place: int) -> Any:  # noqa: ANN401
    """Return R(t multiplier + base 2^shift, shift)."""
    reach = fill16(np.int32(T_LIMIT))
    t = _clamped(_rounded(v + load16(rows, place), rows, place + LANES), fill16(np.int32(-T_LIMIT)), reach)
    shift = load16(rows, place + 6 * LANES)
    return _rounded(t * load16(rows, place + 4 * LANES) + (base << shift), rows, place + 6 * LANES)


@inlined
def _swish(s: Any, rows: Ints, place: int) -> Any:  # noqa: ANN401
    """Return s clamp(s + A, 0, 2 A)."""
    return s * _clamped(s + load16(rows, place + 4 * LANES), fill16(np.int32(0)), load16(rows, place + 5 * LANES))


@inlined
def _read(a: Any, rows: Ints, place: int) -> Any:  # noqa: ANN401
    """Return q = clamp(R(zero 2^shift + a, shift), 0, limit)."""
    q = _rounded(a + load16(rows, place), rows, place + LANES)
    return _clamped(q, fill16(np.int32(0)), load16(rows, place + 6 * LANES))


@inlined
def _multiply(weights: Shorts, layers: Longs, layer: int, q: Shorts, v: Ints, count: int) -> None:
    """Set v [count, outputs] to the sums of w q; up to PIXELS - 1 pixels more are computed from what lies there."""
    first, pairs, outputs = layers[layer, 0], layers[layer, 3], layers[layer, 4]
    stride = outputs * LANES
    twice = outputs // 2 if WIDE_REGISTERS else 0
    for group in range(twice):
        place = first + 2 * group * pairs * 2 * LANES
        for pixel in range(0, count, PIXELS):
            product_of_two(weights, place, pairs, q, v, pixel * 2 * pairs, pixel * stride + 2 * group * LANES, stride)
    for group in range(2 * twice, outputs):
        place = first + group * pairs * 2 * LANES
        for pixel in range(0, count, PIXELS):
            product_of_one(weights, place, pairs, q, v, pixel * 2 * pairs, pixel * stride + group * LANES, stride)


@inlined
def _gather_features(features: Bytes, pixels: Longs, count: int, q: Shorts, stride: int) -> None:
    maps = features.shape[3]
    for pixel in range(count):
        tile, y, x = pixels[pixel, 0], pixels[pixel, 1], pixels[pixel, 2]
        for channel in range(maps):
            q[pixel * stride + channel] = features[tile, y, x, channel]
        if stride > maps:
            q[pixel * stride + maps] = 0


@inlined
def _gather_residuals(
    residuals: Shorts, height: int, width: int, reach: int, pixels: Longs, count: int, q: Shorts, stride: int
) -> None:
    """Copy the windows of residuals: whole rows above, and of the own row what lies to the left; more is written over."""
    border = reach // 2
    row = 3 * (width + 2 * border)
    for pixel in range(count):
        start = (pixels[pixel, 0] * (height + border) + pixels[pixel, 1]) * row + 3 * pixels[pixel, 2]
        for above in range(border + 1):
            to, at = pixel * stride + above * 3 * reach, start + above * row
            for index in range(0, 3 * reach if above < border else 3 * border, LANES):
                copy16(residuals, at + index, q, to + index)


@inlined
def _gather_steps(
    greys: Bytes, mean: Ints, multiplier: int, reach: int, pixels: Longs, count: int, q: Shorts, stride: int
) -> None:
    """Read how far the pixels of each window are from m_0 of the pixel itself; 0 outside the tile."""
    border, width = reach // 2, greys.shape[3]
    seen = 3 * (reach * reach // 2)
    for pixel in range(count):
        tile, y, x = pixels[pixel, 0], pixels[pixel, 1], pixels[pixel, 2]
        to, above = pixel * stride, min(border, y)
        if above < border or x < border or x + border >= width:
            for index in range(stride):
                q[to + index] = RESIDUAL_ZERO
        for index in range(seen, stride):
            q[to + index] = 0
        first, last = max(0, x - border), min(width, x + border + 1)
        for colour in range(3):
            middle = int(mean[tile, colour, y, x])
            for row in range(y - above, y + 1):
                place = to + 3 * ((row - y + border) * reach + border - x) + colour
                for column in range(first, x if row == y else last):
                    q[place + 3 * column] = residual(int(greys[tile, colour, row, column]), middle, multiplier)


@inlined
def _gather_hidden(
    hidden: Shorts, plane: int, height: int, width: int, channels: int, pixels: Longs, count: int, q: Shorts
) -> None:
    """Copy the windows of a masked layer: three pixels above, the one to the left and the own."""
    row = (width + 2) * channels
    for pixel in range(count):
        at = (pixels[pixel, 0] * (height + 1) + pixels[pixel, 1]) * (width + 2) + pixels[pixel, 2]
        start, to = plane + at * channels, pixel * 5 * channels
        for index in range(0, 3 * channels, LANES):
            copy16(hidden, start + index, q, to + index)
        for index in range(0, 2 * channels, LANES):
            copy16(hidden, start + row + index, q, to + 3 * channels + index)


@inlined
def _into_stream(v: Ints, stream: Ints, channels: int, count: int, rescalings: Ints, place: int, start: bool) -> None:
    """Add rescaled sums to the stream, or start it with them."""
    low, high = fill16(np.int32(-STREAM_LIMIT)), fill16(np.int32(STREAM_LIMIT))
    for group in range(channels // LANES):
        rows = place + group * _OUTPUT_ROWS
        for pixel in range(count):
            at = pixel * channels + group * LANES
            base = load16(rescalings, rows + _BIAS) if start else load16(stream, at)
            store16(stream, at, _clamped(_rescaled(load16(v, at), base, rescalings, rows), low, high))


@inlined
def _read_stream(stream: Ints, channels: int, count: int, readings: Ints, place: int, q: Shorts) -> None:
    """Read the stream by hard-swish."""
    for group in range(channels // LANES):
        rows = place + group * _INPUT_ROWS
        for pixel in range(count):
            at = pixel * channels + group * LANES
            store16(q, at, _read(_swish(load16(stream, at), readings, rows), readings, rows))


@inlined
def _scatter(
    q: Shorts, hidden: Shorts, plane: int, height: int, width: int, channels: int, pixels: Longs, count: int
) -> None:
    """Put what a masked layer reads of the pixels into their places in the tiles."""
    for pixel in range(count):
        at = (pixels[pixel, 0] * (height + 1) + pixels[pixel, 1] + 1) * (width + 2) + pixels[pixel, 2] + 1
        for index in range(0, channels, LANES):
            copy16(q, pixel * channels + index, hidden, plane + at * channels + index)


@inlined
def _pass_on(
    v: Ints, channels: int, count: int, rescalings: Ints, scale: int, readings: Ints, place: int, q: Shorts
) -> None:
    """Rescale the sums of a masked layer and read them plainly, for the gates after it."""
    for group in range(channels // LANES):
        scales, rows = scale + group * _OUTPUT_ROWS, place + group * _INPUT_ROWS
        for pixel in range(count):
            at = pixel * channels + group * LANES
            y = _rescaled(load16(v, at), load16(rescalings, scales + _BIAS), rescalings, scales)
            store16(q, at, _read(y, readings, rows))


@inlined
def _gate(
    v: Ints, channels: int, count: int, rescalings: Ints, scale: int, readings: Ints, place: int, q: Shorts
) -> None:
    """Rescale both halves of the gates' sums and multiply them, for the mix after it."""
    half, one, none = fill16(np.int32(GATE_HALF)), fill16(np.int32(2 * GATE_HALF)), fill16(np.int32(0))
    for group in range(channels // LANES):
        scales, rows = scale + group * _OUTPUT_ROWS, place + group * _INPUT_ROWS
        of_gate = scales + channels // LANES * _OUTPUT_ROWS
        for pixel in range(count):
            at = 2 * pixel * channels + group * LANES
            u = _rescaled(load16(v, at), load16(rescalings, scales + _BIAS), rescalings, scales)
            g = _rescaled(load16(v, at + channels), load16(rescalings, of_gate + _BIAS), rescalings, of_gate)
            swish = _rounded(_swish(u, readings, rows), readings, rows + 7 * LANES)
            gated = swish * _clamped(g + half, none, one)
            store16(q, pixel * channels + group * LANES, _read(gated, readings, rows))


@inlined
def masked_sums(
    features: Bytes, greys: Bytes, mean: Ints, network: MaskedNetwork, space: Workspace, count: int
) -> None:
    """Evaluate the masked network for the pixels of a chunk; sums without offset are in ``space.v``, LANES a pixel.

    Args:
        features: of the tiles, uint8 [n, >= h, >= w, F].
        greys: x_0, uint8 [n, 3, h, w], as far as the pixels see it.
        mean: m_0, int32 [n, 3, >= h, >= w].
        network: what to evaluate.
        space: with the residuals that the pixels see, and what earlier calls for them have left in ``hidden``.
        count: pixels in ``space.pixels``, in an order in which none comes before one that it sees.
    """
    weights, layers, rescalings, readings = network.weights, network.layers, network.rescalings, network.readings
    hidden, q, v, stream, pixels = space.hidden, space.q, space.v, space.stream, space.pixels
    channels, reach, blocks = network.sizes[0], network.sizes[2], network.sizes[3]
    height, width = greys.shape[2], greys.shape[3]
    for layer in range(_STEP_STEM + 1):
        if layer == _FEATURE_STEM:
            _gather_features(features, pixels, count, q, 2 * layers[layer, 3])
        elif layer == _MASKED_STEM:
            _gather_residuals(space.residuals, height, width, reach, pixels, count, q, 2 * layers[layer, 3])
        else:
            _gather_steps(greys, mean, network.heads[0], reach, pixels, count, q, 2 * layers[layer, 3])
        _multiply(weights, layers, layer, q, v, count)
        _into_stream(v, stream, channels, count, rescalings, layers[layer, 1], layer == _FEATURE_STEM)
    size = len(hidden) // max(1, blocks - 1)
    # The first block has no masked layer: its gates read the stream.
    layer = _STEP_STEM + 1
    for block in range(blocks):
        _read_stream(stream, channels, count, readings, layers[layer, 2], q)
        if block:
            plane = (block - 1) * size
            _scatter(q, hidden, plane, height, width, channels, pixels, count)
            _gather_hidden(hidden, plane, height, width, channels, pixels, count, q)
            _multiply(weights, layers, layer, q, v, count)
            _pass_on(v, channels, count, rescalings, layers[layer, 1], readings, layers[layer + 1, 2], q)
            layer += 1
        _multiply(weights, layers, layer, q, v, count)
        _gate(v, channels, count, rescalings, layers[layer, 1], readings, layers[layer + 1, 2], q)
        _multiply(weights, layers, layer + 1, q, v, count)
        _into_stream(v, stream, channels, count, rescalings, layers[layer + 1, 1], False)
        layer += 2
    _read_stream(stream, channels, count, readings, layers[layer, 2], q)
    _multiply(weights, layers, layer, q, v, count)
