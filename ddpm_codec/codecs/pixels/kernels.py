"""The compiled loops of the pixel decoder: along a wavefront, and for all pixels at once, with the ANS coder in them.

A stream holds n tiles of one shape [h, w]. Its order: for t = 0 .. w - 1 + S (h - 1), for y ascending with x = t - S y inside
the tile, for each tile: green, red, blue. Pixels of one t, a front, depend on earlier fronts alone, so that the network runs
for many pixels at once. Words are those of constriction's ``AnsCoder`` (32-bit words, 64-bit state, 24-bit precision).

Whatever the words are, decoding ends and stays inside its arrays. All functions release the interpreter and keep nothing.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.laws import (
    ALONE,
    BLUE,
    GREEN,
    NUMBERS,
    RED,
    ROW,
    SCALE,
    cumulative,
    guessed,
    learn,
    prepare,
    residual,
)
from ddpm_codec.codecs.pixels.masked import masked_sums
from ddpm_codec.codecs.pixels.network import CHUNK, LANES, MaskedNetwork, Workspace
from ddpm_codec.coding.pixel_laws import PRECISION
from ddpm_codec.compilation import compiled, inlined
from ddpm_codec.nn.exact.decoder_parameters import OUTPUTS

Greys = NDArray[np.uint8]
Shorts = NDArray[np.int16]
Ints = NDArray[np.int32]
Words = NDArray[np.uint32]
Longs = NDArray[np.int64]

_MASK = np.uint64((1 << PRECISION) - 1)
_WORD = np.uint64(0xFFFFFFFF)
_BITS, _WORD_BITS, _TOP = np.uint64(PRECISION), np.uint64(32), np.uint64(64 - PRECISION)


@inlined
def _next_pixels(pixels: Longs, place: Longs, tiles: int, height: int, width: int, stagger: int) -> int:
    """Write the next pixels of a front, at most CHUNK; return how many.

    ``place`` is where to go on, (t, y, tile); where nothing is left, the next front has been gone to.
    """
    count = 0
    while count < CHUNK:
        y = place[1]
        x = place[0] - stagger * y
        if y >= height or x < 0:
            break
        tile = place[2]
        pixels[count, 0], pixels[count, 1], pixels[count, 2] = tile, y, x
        count += 1
        place[2] = tile + 1
        if tile + 1 == tiles:
            place[1], place[2] = y + 1, 0
    if not count:
        t = place[0] + 1
        # The least y of which t - stagger y is below the width.
        place[0], place[1], place[2] = t, 0 if t < width else (t - width) // stagger + 1, 0
    return count


@inlined
def _set_residuals(
    residuals: Shorts, tile: int, y: int, x: int, border: int, multiplier: int, greys: Greys, mean: Ints
) -> None:
    """Write the residuals of a pixel where its neighbours will look for them."""
    height, width = greys.shape[2] + border, greys.shape[3] + 2 * border
    place = 3 * ((tile * height + y + border) * width + x + border)
    for colour in range(3):
        grey, middle = int(greys[tile, colour, y, x]), int(mean[tile, colour, y, x])
        residuals[place + colour] = residual(grey, middle, multiplier)


@inlined
def _add_offsets(v: Ints, count: int, rescalings: Ints, place: int) -> None:
    for pixel in range(count):
        for index in range(LANES):
            v[pixel * LANES + index] += rescalings[place + index]


@compiled
def decode_stream(
    network: MaskedNetwork, space: Workspace, mean: Ints, features: Greys, words: Words, greys: Greys
) -> bool:
    """Decode the tiles of a stream.

    Args:
        network: at the crossing.
        space: fresh, for tiles of this number and shape.
        mean: m_0, int32 [n, 3, >= h, >= w].
        features: uint8 [n, >= h, >= w, F].
        words: of the stream; the last is not 0.
        greys: set to x_0, uint8 [n, 3, h, w].

    Returns:
        Whether the stream ended empty, as all do that are not damaged.
    """
    if not greys.size:
        return len(words) == 0
    tiles, height, width = greys.shape[0], greys.shape[2], greys.shape[3]
    v, pixels, tails, scales, heads = space.v, space.pixels, network.tails, network.scales, network.heads
    border, stagger, offsets = network.sizes[2] // 2, network.sizes[4], network.layers[-1, 1]
    place, numbers = np.zeros(3, np.int64), np.zeros(NUMBERS, np.int64)
    ans, left = np.zeros(1, np.uint64), np.zeros(1, np.int64)
    left[0] = len(words)
    while left[0] and ans[0] <= _WORD and len(words) - left[0] < 2:
        left[0] -= 1
        ans[0] = (ans[0] << _WORD_BITS) | np.uint64(words[left[0]])
    while place[0] < width + stagger * (height - 1):
        count = _next_pixels(pixels, place, tiles, height, width, stagger)
        if not count:
            continue
        masked_sums(features, greys, mean, network, space, count)
        _add_offsets(v, count, network.rescalings, offsets)
        for pixel in range(count):
            tile, y, x = pixels[pixel, 0], pixels[pixel, 1], pixels[pixel, 2]
            prepare(v, pixel * LANES, mean, tile, y, x, heads, scales.shape[1], tails.shape[0], numbers)
            for turn in range(3):
                colour = GREEN if turn == 0 else (RED if turn == 1 else BLUE)
                grey = _pop(colour, numbers, scales, tails, network.guesses, words, left, ans)
                greys[tile, colour, y, x] = grey
                learn(grey, colour, numbers)
            _set_residuals(space.residuals, tile, y, x, border, heads[0], greys, mean)
    return bool(left[0] == 0 and ans[0] == np.uint64(0))


@inlined
def _pop(
    colour: int,
    numbers: Longs,
    scales: Longs,
    tails: Ints,
    guesses: Ints,
    words: Words,
    left: Longs,
    ans: NDArray[np.uint64],
) -> int:
    """Pop a grey level: the k with cum(k) <= quantile < cum(k + 1)."""
    mean16, row, scale = numbers[ALONE + colour], numbers[ROW + colour], numbers[SCALE + colour]
    inverse, state = scales[0, scale], ans[0]
    quantile = int(state & _MASK)
    k = guessed(quantile, mean16, scales[1, scale], row, guesses)
    low = cumulative(k, mean16, inverse, row, tails)
    # cum(0) = 0 and cum(256) = 2^24 end the search.
    if quantile < low:
        high = low
        while quantile < low and k > 0:
            k, high = k - 1, low
            low = cumulative(k, mean16, inverse, row, tails)
    else:
        high = cumulative(k + 1, mean16, inverse, row, tails)
        while quantile >= high and k < 255:
            k, low = k + 1, high
            high = cumulative(k + 1, mean16, inverse, row, tails)
    state = (state >> _BITS) * np.uint64(high - low) + np.uint64(quantile - low)
    if state <= _WORD and left[0] > 0:
        left[0] -= 1
        state = (state << _WORD_BITS) | np.uint64(words[left[0]])
    ans[0] = state
    return k


@compiled
def encode_stream(
    network: MaskedNetwork, sums: Ints, mean: Ints, greys: Greys, words: Words, bits: NDArray[np.float64]
) -> int:
    """Encode the tiles of a stream.

    Args:
        network: at the crossing.
        sums: of the masked network, offset included, int32 flat [n, h, w, 12].
        mean: m_0, int32 [n, 3, >= h, >= w].
        greys: x_0, uint8 [n, 3, h, w].
        words: set to the stream; a word for each sub-pixel and two more are enough.
        bits: raised by the ideal code length of each tile, [n].

    Returns:
        How many words there are.
    """
    if not greys.size:
        return 0
    tiles, height, width = greys.shape[0], greys.shape[2], greys.shape[3]
    tails, scales, heads, stagger = network.tails, network.scales, network.heads, network.sizes[4]
    ranges = np.empty((tiles * height * width * 3, 2), np.uint32)
    pixels, place, numbers = np.zeros((CHUNK, 3), np.int64), np.zeros(3, np.int64), np.zeros(NUMBERS, np.int64)
    done = 0
    while place[0] < width + stagger * (height - 1):
        count = _next_pixels(pixels, place, tiles, height, width, stagger)
        for pixel in range(count):
            tile, y, x = pixels[pixel, 0], pixels[pixel, 1], pixels[pixel, 2]
            first = ((tile * height + y) * width + x) * OUTPUTS
            prepare(sums, first, mean, tile, y, x, heads, scales.shape[1], tails.shape[0], numbers)
            for turn in range(3):
                colour = GREEN if turn == 0 else (RED if turn == 1 else BLUE)
                grey = int(greys[tile, colour, y, x])
                mean16, row, inverse = (
                    numbers[ALONE + colour],
                    numbers[ROW + colour],
                    scales[0, numbers[SCALE + colour]],
                )
                low = cumulative(grey, mean16, inverse, row, tails)
                frequency = cumulative(grey + 1, mean16, inverse, row, tails) - low
                ranges[done, 0], ranges[done, 1] = low, frequency
                done += 1
                bits[tile] += PRECISION - math.log2(frequency)
                learn(grey, colour, numbers)
    return _push_all(ranges, words)


@inlined
def _push_all(ranges: Words, words: Words) -> int:
    """Push symbols, the last first, onto an empty coder; return how many words it is."""
    state, count = np.uint64(0), 0
    for place in range(len(ranges) - 1, -1, -1):
        low, frequency = np.uint64(ranges[place, 0]), np.uint64(ranges[place, 1])
        if (state >> _TOP) >= frequency:
            words[count] = state & _WORD
            count += 1
            state >>= _WORD_BITS
        share = state // frequency
        state = (share << _BITS) | (low + (state - share * frequency))
    while state:
        words[count] = state & _WORD
        count += 1
        state >>= _WORD_BITS
    return count


@compiled
def all_sums(network: MaskedNetwork, space: Workspace, mean: Ints, features: Greys, greys: Greys, sums: Ints) -> None:
    """Evaluate the masked network for all pixels of known tiles, in raster order.

    Args:
        network: at the crossing.
        space: fresh, for tiles of this number and shape.
        mean: m_0, int32 [n, 3, >= h, >= w].
        features: uint8 [n, >= h, >= w, F].
        greys: x_0, uint8 [n, 3, h, w].
        sums: set to the sums, offset included, int32 flat [n, h, w, 12].
    """
    tiles, height, width = greys.shape[0], greys.shape[2], greys.shape[3]
    border, offsets = network.sizes[2] // 2, network.layers[-1, 1]
    pixels, v = space.pixels, space.v
    whole = tiles * height * width
    for first in range(0, whole, CHUNK):
        count = min(CHUNK, whole - first)
        for pixel in range(count):
            line, x = (first + pixel) // width, (first + pixel) % width
            tile, y = line // height, line % height
            pixels[pixel, 0], pixels[pixel, 1], pixels[pixel, 2] = tile, y, x
            _set_residuals(space.residuals, tile, y, x, border, network.heads[0], greys, mean)
        masked_sums(features, greys, mean, network, space, count)
        _add_offsets(v, count, network.rescalings, offsets)
        for pixel in range(count):
            for index in range(OUTPUTS):
                sums[(first + pixel) * OUTPUTS + index] = v[pixel * LANES + index]
