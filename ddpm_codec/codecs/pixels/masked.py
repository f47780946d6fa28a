"""The masked network for many pixels at once, in compiled passes over a workspace that stays in the cache.

The rounding R(a, s) = a / 2^s, half to even, is (a + half + ((a >> s) & odd)) >> s with half = 2^(s - 1) - 1 and odd = 1, both 0
where s is 0. All values fit int32, which the decoder's check has proved.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.lanes import (
    LANES,
    PIXELS,
    WIDE_REGISTERS,
    fill16,
    least,
    load16,
    most,
    product_of_one,
    product_of_two,
    store16,
)
from ddpm_codec.codecs.pixels.network import READING_ROWS, RESCALING_ROWS, MaskedNetwork
from ddpm_codec.compilation import compiled
from ddpm_codec.nn.exact.decoder_parameters import GATE_HALF, RESIDUAL_ZERO
from ddpm_codec.nn.exact.parameters import STREAM_LIMIT, T_LIMIT

CHUNK = 48
"""Pixels at once: as many as a front of a large tile has, and a multiple of PIXELS."""

_OF_OUTPUTS, _OF_INPUTS = RESCALING_ROWS * LANES, READING_ROWS * LANES
_FEATURE_STEM, _MASKED_STEM = 0, 1

Shorts = NDArray[np.int16]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


class Workspace(NamedTuple):
    """Memory of one evaluation.

    Attributes:
        residuals: what the masked stem reads, int16, flat [n, h + reach // 2, w + 2 (reach // 2), 3].
        hidden: what the masked layers of blocks 1, 2, .. read, int16, flat [blocks - 1, n, h + 1, w + 2, C].
        q: inputs of the next product, int16, flat [CHUNK, inputs].
        v: its sums, int32, flat [CHUNK, outputs].
        stream: int32, flat [CHUNK, C].
        pixels: tile, row and column of each pixel of the chunk, int64 [CHUNK, 3].
    """

    residuals: Shorts
    hidden: Shorts
    q: Shorts
    v: Ints
    stream: Ints
    pixels: Longs


def workspace(network: MaskedNetwork, tiles: int, height: int, width: int) -> Workspace:
    """Return memory for tiles of a shape, everything outside them filled."""
    channels, _, reach, blocks, _ = (int(size) for size in network.sizes)
    border = reach // 2
    hidden = np.zeros((blocks - 1, tiles, height + 1, width + 2, channels), np.int16)
    for index in range(1, blocks):
        hidden[index - 1] = _zeros(network, 1 + 3 * index)
    layers = network.layers
    return Workspace(
        residuals=np.full(tiles * (height + border) * (width + 2 * border) * 3, RESIDUAL_ZERO, np.int16),
        hidden=hidden.reshape(-1),
        q=np.zeros(CHUNK * 2 * int(layers[:, 3].max()), np.int16),
        v=np.zeros(CHUNK * LANES * int(layers[:, 4].max()), np.int32),
        stream=np.zeros(CHUNK * channels, np.int32),
        pixels=np.zeros((CHUNK, 3), np.int64),
    )


def _zeros(network: MaskedNetwork, layer: int) -> Shorts:
    """Return what a layer reads outside the tile, [C]."""
    start, channels = int(network.layers[layer, 2]), int(network.sizes[0])
    rows = network.readings[start : start + READING_ROWS * channels].reshape(-1, READING_ROWS, LANES)
    return (rows[:, 0] >> rows[:, 1]).reshape(-1).astype(np.int16)


@compiled
def _rounded(a: Any, numbers: Ints, place: int) -> Any:  # noqa: ANN401 - a vector
    """Return R(a, s) by the three rows at a place."""
    shift = load16(numbers, place)
    return (a + load16(numbers, place + LANES) + ((a >> shift) & load16(numbers, place + 2 * LANES))) >> shift


@compiled
def _clamped(a: Any, low: Any, high: Any) -> Any:  # noqa: ANN401
    return most(least(a, high), low)


@compiled
def _rescaled(v: Any, base: Any, rows: Ints, place: int) -> Any:  # noqa: ANN401
    """Return R(t multiplier + base 2^shift, shift)."""
    reach = fill16(np.int32(T_LIMIT))
    t = _clamped(_rounded(v + load16(rows, place), rows, place + LANES), fill16(np.int32(-T_LIMIT)), reach)
    shift = load16(rows, place + 6 * LANES)
    return _rounded(t * load16(rows, place + 4 * LANES) + (base << shift), rows, place + 6 * LANES)


@compiled
def _swish(s: Any, rows: Ints, place: int) -> Any:  # noqa: ANN401
    """Return s clamp(s + A, 0, 2 A); s itself where A is 0 is not meant."""
    return s * _clamped(s + load16(rows, place + 4 * LANES), fill16(np.int32(0)), load16(rows, place + 5 * LANES))


@compiled
def _read(a: Any, rows: Ints, place: int) -> Any:  # noqa: ANN401
    """Return q = clamp(R(zero 2^shift + a, shift), 0, limit)."""
    q = _rounded(a + load16(rows, place), rows, place + LANES)
    return _clamped(q, fill16(np.int32(0)), load16(rows, place + 6 * LANES))


@compiled
def _multiply(weights: Shorts, first: int, pairs: int, outputs: int, q: Shorts, v: Ints, count: int) -> None:
    """Set v [count, outputs LANES] to the sums of w q; up to PIXELS - 1 pixels more are computed from what lies there."""
    stride = outputs * LANES
    done = 0
    if WIDE_REGISTERS:
        while done + 2 <= outputs:
            for pixel in range(0, count, PIXELS):
                place = first + done * pairs * 2 * LANES
                product_of_two(weights, place, pairs, q, v, pixel * 2 * pairs, pixel * stride + done * LANES, stride)
            done += 2
    while done < outputs:
        for pixel in range(0, count, PIXELS):
            place = first + done * pairs * 2 * LANES
            product_of_one(weights, place, pairs, q, v, pixel * 2 * pairs, pixel * stride + done * LANES, stride)
        done += 1


@compiled
def _run(network: MaskedNetwork, layer: int, space: Workspace, count: int) -> None:
    weight, _, _, pairs, outputs = network.layers[layer]
    _multiply(network.weights, weight, pairs, outputs, space.q, space.v, count)


@compiled
def _gather_features(features: NDArray[np.uint8], network: MaskedNetwork, space: Workspace, count: int) -> None:
    maps = network.sizes[1]
    stride = 2 * network.layers[_FEATURE_STEM, 3]
    for pixel in range(count):
        tile, y, x = space.pixels[pixel]
        for channel in range(maps):
            space.q[pixel * stride + channel] = features[tile, y, x, channel]
        if stride > maps:
            space.q[pixel * stride + maps] = 0


@compiled
def _gather_residuals(height: int, width: int, network: MaskedNetwork, space: Workspace, count: int) -> None:
    """Copy the windows of residuals: whole rows above, and of the own row what lies to the left."""
    reach = network.sizes[2]
    border = reach // 2
    stride = 2 * network.layers[_MASKED_STEM, 3]
    row = 3 * (width + 2 * border)
    for pixel in range(count):
        tile, y, x = space.pixels[pixel]
        to = pixel * stride
        start = (tile * (height + border) + y) * row + 3 * x
        for above in range(border):
            for index in range(3 * reach):
                space.q[to + index] = space.residuals[start + above * row + index]
            to += 3 * reach
        for index in range(3 * border):
            space.q[to + index] = space.residuals[start + border * row + index]


@compiled
def _gather_hidden(plane: int, height: int, width: int, network: MaskedNetwork, space: Workspace, count: int) -> None:
    """Copy the windows of a masked layer: three pixels above, the one to the left and the own."""
    channels = network.sizes[0]
    row = (width + 2) * channels
    for pixel in range(count):
        tile, y, x = space.pixels[pixel]
        start = plane + ((tile * (height + 1) + y) * (width + 2) + x) * channels
        to = pixel * 5 * channels
        for index in range(3 * channels):
            space.q[to + index] = space.hidden[start + index]
        to += 3 * channels
        for index in range(2 * channels):
            space.q[to + index] = space.hidden[start + row + index]


@compiled
def _start_stream(network: MaskedNetwork, space: Workspace, count: int) -> None:
    channels, low, high = network.sizes[0], fill16(np.int32(-STREAM_LIMIT)), fill16(np.int32(STREAM_LIMIT))
    for group in range(channels // LANES):
        rows = network.layers[_FEATURE_STEM, 1] + group * _OF_OUTPUTS
        bias = load16(network.rescalings, rows + 5 * LANES)
        for pixel in range(count):
            place = pixel * channels + group * LANES
            y = _rescaled(load16(space.v, place), bias, network.rescalings, rows)
            store16(space.stream, place, _clamped(y, low, high))


@compiled
def _add_to_stream(layer: int, network: MaskedNetwork, space: Workspace, count: int) -> None:
    channels, low, high = network.sizes[0], fill16(np.int32(-STREAM_LIMIT)), fill16(np.int32(STREAM_LIMIT))
    for group in range(channels // LANES):
        rows = network.layers[layer, 1] + group * _OF_OUTPUTS
        for pixel in range(count):
            place = pixel * channels + group * LANES
            s = _rescaled(load16(space.v, place), load16(space.stream, place), network.rescalings, rows)
            store16(space.stream, place, _clamped(s, low, high))


@compiled
def _read_stream(layer: int, network: MaskedNetwork, space: Workspace, count: int) -> None:
    """Read the stream by hard-swish into q."""
    channels = network.sizes[0]
    for group in range(channels // LANES):
        rows = network.layers[layer, 2] + group * _OF_INPUTS
        for pixel in range(count):
            place = pixel * channels + group * LANES
            q = _read(_swish(load16(space.stream, place), network.readings, rows), network.readings, rows)
            store16(space.q, place, q)


@compiled
def _remember_stream(
    layer: int, plane: int, height: int, width: int, network: MaskedNetwork, space: Workspace, count: int
) -> None:
    """Read the stream by hard-swish into its place in the tile."""
    channels = network.sizes[0]
    for group in range(channels // LANES):
        rows = network.layers[layer, 2] + group * _OF_INPUTS
        for pixel in range(count):
            s = load16(space.stream, pixel * channels + group * LANES)
            q = _read(_swish(s, network.readings, rows), network.readings, rows)
            tile, y, x = space.pixels[pixel]
            at = (tile * (height + 1) + y + 1) * (width + 2) + x + 1
            store16(space.hidden, plane + at * channels + group * LANES, q)


@compiled
def _pass_on(layer: int, network: MaskedNetwork, space: Workspace, count: int) -> None:
    """Rescale the sums of a masked layer and read them plainly, for the gates after it."""
    channels = network.sizes[0]
    for group in range(channels // LANES):
        scale = network.layers[layer, 1] + group * _OF_OUTPUTS
        rows = network.layers[layer + 1, 2] + group * _OF_INPUTS
        bias = load16(network.rescalings, scale + 5 * LANES)
        for pixel in range(count):
            place = pixel * channels + group * LANES
            y = _rescaled(load16(space.v, place), bias, network.rescalings, scale)
            store16(space.q, place, _read(y, network.readings, rows))


@compiled
def _gate(layer: int, network: MaskedNetwork, space: Workspace, count: int) -> None:
    """Rescale both halves of the gates' sums and multiply them, for the mix after it."""
    channels = network.sizes[0]
    groups = channels // LANES
    half, one, none = fill16(np.int32(GATE_HALF)), fill16(np.int32(2 * GATE_HALF)), fill16(np.int32(0))
    for group in range(groups):
        scale = network.layers[layer, 1] + group * _OF_OUTPUTS
        of_gate = scale + groups * _OF_OUTPUTS
        rows = network.layers[layer + 1, 2] + group * _OF_INPUTS
        bias, bias_of_gate = (
            load16(network.rescalings, scale + 5 * LANES),
            load16(network.rescalings, of_gate + 5 * LANES),
        )
        for pixel in range(count):
            place = 2 * pixel * channels + group * LANES
            u = _rescaled(load16(space.v, place), bias, network.rescalings, scale)
            g = _rescaled(load16(space.v, place + channels), bias_of_gate, network.rescalings, of_gate)
            swish = _rounded(_swish(u, network.readings, rows), network.readings, rows + 7 * LANES)
            gated = swish * _clamped(g + half, none, one)
            store16(space.q, pixel * channels + group * LANES, _read(gated, network.readings, rows))


@compiled
def masked_sums(
    features: NDArray[np.uint8], height: int, width: int, network: MaskedNetwork, space: Workspace, count: int
) -> None:
    """Evaluate the masked network for the pixels of a chunk; sums without offset are in ``space.v``, LANES a pixel.

    Args:
        features: of the tiles, uint8 [n, >= h, >= w, F].
        height: of the tiles.
        width: of the tiles.
        network: what to evaluate.
        space: with the residuals that the pixels see, and what earlier calls for them have left in ``hidden``.
        count: pixels in ``space.pixels``, in an order in which none comes before one that it sees.
    """
    _gather_features(features, network, space, count)
    _run(network, _FEATURE_STEM, space, count)
    _start_stream(network, space, count)
    _gather_residuals(height, width, network, space, count)
    _run(network, _MASKED_STEM, space, count)
    _add_to_stream(_MASKED_STEM, network, space, count)
    layer = _MASKED_STEM + 1
    size = len(space.hidden) // max(1, network.sizes[3] - 1)
    for block in range(network.sizes[3]):
        if block == 0:
            _read_stream(layer, network, space, count)
        else:
            _remember_stream(layer, (block - 1) * size, height, width, network, space, count)
            _gather_hidden((block - 1) * size, height, width, network, space, count)
            _run(network, layer, space, count)
            _pass_on(layer, network, space, count)
            layer += 1
        _run(network, layer, space, count)
        _gate(layer, network, space, count)
        _run(network, layer + 1, space, count)
        _add_to_stream(layer + 1, network, space, count)
        layer += 2
    _read_stream(layer, network, space, count)
    _run(network, layer, space, count)
