"""The masked network and its heads at one crossing as a few flat arrays, laid out for the compiled loop.

Channels are padded to multiples of :data:`LANES` with zeros. Kernels are int16 [outputs / LANES, inputs / 2, LANES, 2],
inputs in the order of the windows (rows, columns, channels; hidden pixels left out). What a channel needs beside lies in rows
of LANES numbers. Layers follow one another as the loop visits them: features, residuals, steps, then masked (but in the first
block), gates and mix of every block, then the head.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.coding.pixel_laws import TAIL_BITS
from ddpm_codec.nn.exact.decoder_parameters import (
    RESIDUAL_ZERO,
    STEMS,
    ExactPixelDecoder,
    GatedReading,
    hidden_taps,
    is_masked,
)
from ddpm_codec.nn.exact.parameters import Array, Convolution, Reading

LANES = 16
"""Numbers of a vector."""

CHUNK = 48
"""Pixels at once: as many as a front of a large tile has, and a multiple of what a product takes."""

RESCALING_ROWS = 9
"""Rows of a rescaling: offset; pre-shift with its half and odd; multiplier; bias; shift with its half and odd."""

READING_ROWS = 10
"""Rows of a reading: zero 2^shift; shift with its half and odd; A; 2 A; limit; pre with its half and odd."""

GUESS_BITS = 10
"""A guess of the position in a row of tails for each value of the upper bits of a quantile."""


class MaskedNetwork(NamedTuple):
    """A masked network with its heads, C-contiguous.

    Attributes:
        weights: kernels one after the other, int16.
        rescalings: int32, RESCALING_ROWS of LANES for every LANES outputs.
        readings: int32, READING_ROWS of LANES for every LANES inputs; of a window, of one pixel of it.
        layers: int64 [layers, 5]: place in ``weights``, ``rescalings`` and ``readings``, pairs of inputs, outputs over LANES.
        sizes: int64: channels as padded, channels of features, reach, blocks, stagger.
        heads: int64: multipliers of residuals, means (3), scales (3), coefficients (3), tails (3), base of the scales.
        tails: int32 [S, N].
        scales: int64 [2, I]: the inverse scales, and what one position in a row of tails is in 2^-16 grey levels.
        guesses: int32 [S, 2^GUESS_BITS], positions (1/64 sigma) in a row of tails at the middles of equal shares.
    """

    weights: NDArray[np.int16]
    rescalings: NDArray[np.int32]
    readings: NDArray[np.int32]
    layers: Array
    sizes: Array
    heads: Array
    tails: NDArray[np.int32]
    scales: Array
    guesses: NDArray[np.int32]

    @property
    def features(self) -> int:
        """Channels of the feature maps."""
        return int(self.sizes[1])


class Workspace(NamedTuple):
    """Memory of one evaluation.

    Attributes:
        residuals: what the masked stem reads, int16, flat [n, h + reach // 2, w + 2 (reach // 2), 3] and room behind it.
        hidden: what the masked layers of blocks 1, 2, .. read, int16, flat [blocks - 1, n, h + 1, w + 2, C].
        q: inputs of the next product, int16, flat [CHUNK, inputs] and room behind it.
        v: its sums, int32, flat [CHUNK, outputs].
        stream: int32, flat [CHUNK, C].
        pixels: tile, row and column of each pixel of the chunk, int64 [CHUNK, 3].
    """

    residuals: NDArray[np.int16]
    hidden: NDArray[np.int16]
    q: NDArray[np.int16]
    v: NDArray[np.int32]
    stream: NDArray[np.int32]
    pixels: Array


def workspace(network: MaskedNetwork, tiles: int, height: int, width: int) -> Workspace:
    """Return memory for tiles of a shape, everything outside them filled."""
    channels, _, reach, blocks, _ = (int(size) for size in network.sizes)
    border = reach // 2
    hidden = np.zeros((blocks - 1, tiles, height + 1, width + 2, channels), np.int16)
    for index in range(1, blocks):
        hidden[index - 1] = _zeros(network, len(STEMS) - 1 + 3 * index)
    layers = network.layers
    # Rows of windows are copied LANES at a time.
    room = 3 * reach + LANES
    return Workspace(
        residuals=np.full(tiles * (height + border) * (width + 2 * border) * 3 + room, RESIDUAL_ZERO, np.int16),
        hidden=hidden.reshape(-1),
        q=np.zeros(CHUNK * 2 * int(layers[:, 3].max()) + room, np.int16),
        v=np.zeros(CHUNK * LANES * int(layers[:, 4].max()), np.int32),
        stream=np.zeros(CHUNK * channels, np.int32),
        pixels=np.zeros((CHUNK, 3), np.int64),
    )


def _zeros(network: MaskedNetwork, layer: int) -> NDArray[np.int16]:
    """Return what a layer reads outside the tile, [C]."""
    start, channels = int(network.layers[layer, 2]), int(network.sizes[0])
    rows = network.readings[start : start + READING_ROWS * channels].reshape(-1, READING_ROWS, LANES)
    return (rows[:, 0] >> rows[:, 1]).reshape(-1).astype(np.int16)


def stagger(reach: int, blocks: int) -> int:
    """Return how many pixels a row is behind the row above it, so that all of one front depend on earlier fronts alone."""
    return reach // 2 + (blocks - 1) + 1


def masked_network(decoder: ExactPixelDecoder, level: int) -> MaskedNetwork:
    """Return the masked network of a decoder that has been checked, at a crossing."""
    config, heads = decoder.config, decoder.heads
    names = list(STEMS)
    for index in range(config.blocks):
        names += [f"blocks.{index}.{part}" for part in ("masked", "gates", "mix") if index or part != "masked"]
    parts = [_layer_parts(name, decoder.layers[name], level, config.channels) for name in [*names, "parameter_head"]]
    weights, rescalings, readings = (np.concatenate([part[place] for part in parts]) for place in range(3))
    table = np.zeros((len(parts), 5), np.int64)
    for index, (weight, rescaling, reading, pairs) in enumerate(parts):
        table[index, 3:] = pairs, len(weight) // (2 * LANES * pairs)
        if index + 1 < len(parts):
            table[index + 1, :3] = table[index, :3] + (len(weight), len(rescaling), len(reading))
    tails = decoder.tails.astype(np.int32)
    numbers = [
        heads.residual_multiplier[level : level + 1],
        heads.pixel_mean_multiplier[level],
        *(heads.scale_multiplier, heads.coefficient_multiplier, heads.tail_multiplier),
        heads.scale_base[level : level + 1],
    ]
    delay = stagger(config.reach, config.blocks)
    sizes = [_padded(config.channels), config.features, config.reach, config.blocks, delay]
    return MaskedNetwork(
        weights=weights.astype(np.int16),
        rescalings=rescalings.astype(np.int32),
        readings=readings.astype(np.int32),
        layers=table,
        sizes=np.array(sizes, np.int64),
        heads=np.concatenate(numbers).astype(np.int64),
        tails=np.ascontiguousarray(tails),
        scales=np.stack([decoder.inverse_scales, (1 << 36) // decoder.inverse_scales]).astype(np.int64),
        guesses=_guesses(tails),
    )


def _padded(channels: int) -> int:
    return -(-channels // LANES) * LANES


def _layer_parts(name: str, layer: Convolution, level: int, channels: int) -> tuple[Array, Array, Array, int]:
    """Return kernel, rows of rescaling, rows of reading, all flat, and pairs of inputs."""
    outputs, _inputs, side, _ = layer.weight.shape
    # The halves of the gates are padded each on its own.
    halves = 2 if name.endswith(".gates") else 1
    weight = layer.weight.reshape(halves, outputs // halves, *layer.weight.shape[1:])
    of_stream = name not in STEMS
    weight = _pad(weight, 1, LANES)
    weight = _pad(weight, 2, LANES) if of_stream else weight
    weight = weight.reshape(-1, *weight.shape[2:])
    hidden = hidden_taps(side, own=name != "masked_stem") if is_masked(name) else np.zeros((side, side), np.int64)
    taps = weight[:, :, hidden == 0].transpose(0, 2, 1).reshape(len(weight), -1)
    taps = _pad(taps, 1, 2)
    pairs = taps.shape[1] // 2
    kernel = taps.reshape(-1, LANES, pairs, 2).transpose(0, 2, 1, 3)
    reading = _reading_rows(layer.reading) if of_stream else np.zeros((0, READING_ROWS, LANES), np.int64)
    return kernel.ravel(), _rescaling_rows(layer, level, halves).ravel(), reading.ravel(), pairs


def _pad(values: Array, axis: int, multiple: int) -> Array:
    width = [(0, 0)] * values.ndim
    width[axis] = 0, -values.shape[axis] % multiple
    return np.pad(values, width)


def _rows(vectors: list[Array], halves: int = 1) -> Array:
    """Return vectors [C] as [C / LANES, rows, LANES]."""
    padded = _pad(np.stack(vectors).reshape(len(vectors), halves, -1), 2, LANES)
    return padded.reshape(len(vectors), -1, LANES).transpose(1, 0, 2)


def _rounding(shift: Array) -> list[Array]:
    """Return what R(a, shift) = (a + half + ((a >> shift) & odd)) >> shift needs: shift, half, odd."""
    return [shift, np.maximum((1 << shift >> 1) - 1, 0), (shift > 0).astype(np.int64)]


def _rescaling_rows(layer: Convolution, level: int, halves: int) -> Array:
    none = np.zeros_like(layer.offset)
    scale = layer.rescaling
    if scale is None:
        return _rows([layer.offset] + [none] * (RESCALING_ROWS - 1))
    multiplier, bias = scale.at(level)
    numbers = [layer.offset, *_rounding(scale.pre_shift), multiplier, bias, *_rounding(scale.shift)]
    return _rows(numbers, halves)


def _reading_rows(reading: Reading) -> Array:
    pre = reading.pre if isinstance(reading, GatedReading) else np.zeros_like(reading.zero)
    limit = np.full_like(reading.zero, reading.limit)
    start = reading.zero << reading.shift
    numbers = [start, *_rounding(reading.shift), reading.half, 2 * reading.half, limit, *_rounding(pre)]
    return _rows(numbers)


def _guesses(tails: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return about the inverse of each row; where a guess is wrong the loop goes on from there."""
    shares = ((2 * np.arange(1 << GUESS_BITS) + 1) << (TAIL_BITS - GUESS_BITS)) >> 1
    below = shares < 1 << (TAIL_BITS - 1)
    mirrored = np.where(below, (1 << TAIL_BITS) - shares, shares)
    places = np.stack([np.searchsorted(row, mirrored) for row in tails])
    return np.where(below, -places, places).astype(np.int32)
