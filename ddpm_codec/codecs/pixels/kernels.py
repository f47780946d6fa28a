"""The compiled loops of the pixel decoder: along a wavefront, and for all pixels at once, with the ANS coder in them.

A stream holds n tiles of one shape [h, w]. Its order: for t = 0 .. w - 1 + S (h - 1), for y ascending with x = t - S y inside the
tile, for each tile: green, red, blue. Pixels of one t, a front, depend on earlier fronts alone, so that the network runs for
many pixels at once. Words are those of constriction's ``AnsCoder`` (32-bit words, 64-bit state, 24-bit precision).

Whatever the words are, decoding ends and stays inside its arrays. All functions release the interpreter and keep nothing.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.lanes import LANES
from ddpm_codec.codecs.pixels.laws import (
    ALONE,
    NUMBERS,
    ROW,
    SCALE,
    blue_mean,
    cumulative,
    find_grey,
    prepare,
    red_mean,
    residual,
)
from ddpm_codec.codecs.pixels.masked import CHUNK, Workspace, masked_sums
from ddpm_codec.codecs.pixels.network import MaskedNetwork
from ddpm_codec.coding.pixel_laws import PRECISION
from ddpm_codec.compilation import compiled

Greys = NDArray[np.uint8]
Ints = NDArray[np.int32]
Words = NDArray[np.uint32]
Longs = NDArray[np.int64]

_OUTPUTS = 12


@compiled
def _next_pixel(pixels: Longs, count: int, place: Longs, tiles: int, height: int, width: int, stagger: int) -> int:
    """Write pixels of the front after ``count`` of them are there; return how many there are, at most CHUNK.

    ``place`` is where to go on: (t, y, tile). A full chunk ends inside a front, the last of one at its end.
    """
    while count < CHUNK:
        t, y, tile = place
        x = t - stagger * y
        if y >= height or x < 0:
            break
        if x < width:
            pixels[count] = tile, y, x
            count += 1
            place[2] = tile + 1
        if x >= width or place[2] == tiles:
            place[1], place[2] = y + 1, 0
    return count


@compiled
def _next_front(place: Longs, height: int, width: int, stagger: int) -> None:
    """Go to the next front, whose first row inside the tile is the least y with t - stagger y < width."""
    t = place[0] + 1
    place[0], place[1], place[2] = t, max(0, (t - width) // stagger + 1), 0


@compiled
def _set_residuals(
    network: MaskedNetwork, space: Workspace, at: Longs, greys: Greys, mean: Ints, height: int, width: int
) -> None:
    """Write the residuals of a pixel where its neighbours will look for them."""
    tile, y, x = at
    border = network.sizes[2] // 2
    place = 3 * ((tile * (height + border) + y + border) * (width + 2 * border) + x + border)
    for colour in range(3):
        grey, middle = np.int64(greys[tile, colour, y, x]), np.int64(mean[tile, colour, y, x])
        space.residuals[place + colour] = residual(grey, middle, network)


@compiled
def _load_pixel(
    network: MaskedNetwork, sums: Ints, first: int, mean: Ints, at: Longs, scratch: Longs, numbers: Longs
) -> None:
    """Set the numbers of a pixel from its sums, which begin at ``first`` of a flat array."""
    for index in range(_OUTPUTS):
        scratch[index] = sums[first + index]
    tile, y, x = at
    for colour in range(3):
        scratch[_OUTPUTS + colour] = mean[tile, colour, y, x]
    prepare(scratch[:_OUTPUTS], scratch[_OUTPUTS:], network, numbers)


@compiled
def _add_offsets(network: MaskedNetwork, space: Workspace, count: int) -> None:
    start = network.layers[-1, 1]
    for pixel in range(count):
        for index in range(LANES):
            space.v[pixel * LANES + index] += network.rescalings[start + index]


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
    tiles, _, height, width = greys.shape
    stagger = network.sizes[4]
    place, numbers, scratch = np.zeros(3, np.int64), np.zeros(NUMBERS, np.int64), np.zeros(_OUTPUTS + 3, np.int64)
    ans = np.zeros(1, np.uint64)
    left = len(words)
    for _ in range(min(left, 2)):
        left -= 1
        ans[0] = (ans[0] << np.uint64(32)) | np.uint64(words[left])
    for _ in range(width + stagger * (height - 1)):
        count = _next_pixel(space.pixels, 0, place, tiles, height, width, stagger)
        while count:
            masked_sums(features, height, width, network, space, count)
            _add_offsets(network, space, count)
            for pixel in range(count):
                at = space.pixels[pixel]
                _load_pixel(network, space.v, pixel * LANES, mean, at, scratch, numbers)
                left = _pop_pixel(network, numbers, at, words, left, ans, greys)
                _set_residuals(network, space, at, greys, mean, height, width)
            count = _next_pixel(space.pixels, 0, place, tiles, height, width, stagger)
        _next_front(place, height, width, stagger)
    return left == 0 and ans[0] == np.uint64(0)


@compiled
def _pop_pixel(
    network: MaskedNetwork, numbers: Longs, at: Longs, words: Words, left: int, ans: NDArray[np.uint64], greys: Greys
) -> int:
    """Pop green, red and blue of a pixel; return how many words are left."""
    tile, y, x = at
    green, left = _pop(numbers[ALONE + 1], 1, numbers, network, words, left, ans)
    mean_of_red = red_mean(numbers, green)
    red, left = _pop(mean_of_red, 0, numbers, network, words, left, ans)
    blue, left = _pop(blue_mean(numbers, green, red, mean_of_red), 2, numbers, network, words, left, ans)
    greys[tile, 0, y, x], greys[tile, 1, y, x], greys[tile, 2, y, x] = red, green, blue
    return left


@compiled
def _pop(
    mean16: int, colour: int, numbers: Longs, network: MaskedNetwork, words: Words, left: int, ans: NDArray[np.uint64]
) -> tuple[int, int]:
    """Pop a grey level; return it and how many words are left."""
    state = ans[0]
    quantile = np.int64(state & np.uint64((1 << PRECISION) - 1))
    grey, low, frequency = find_grey(quantile, mean16, numbers[SCALE + colour], numbers[ROW + colour], network)
    state = (state >> np.uint64(PRECISION)) * np.uint64(frequency) + np.uint64(quantile - low)
    if state < np.uint64(1 << 32) and left > 0:
        left -= 1
        state = (state << np.uint64(32)) | np.uint64(words[left])
    ans[0] = state
    return grey, left


@compiled
def encode_stream(
    network: MaskedNetwork, sums: Ints, mean: Ints, greys: Greys, words: Words, bits: NDArray[np.float64]
) -> int:
    """Encode the tiles of a stream.

    Args:
        network: at the crossing.
        sums: of the masked network, offset included, int32 [n, h, w, 12].
        mean: m_0, int32 [n, 3, >= h, >= w].
        greys: x_0, uint8 [n, 3, h, w].
        words: set to the stream; a word for each sub-pixel and two more are enough.
        bits: set to the ideal code length of each tile, [n].

    Returns:
        How many words there are.
    """
    tiles, _, height, width = greys.shape
    stagger = network.sizes[4]
    ranges = np.empty((tiles * height * width * 3, 2), np.uint32)
    pixels, place = np.zeros((CHUNK, 3), np.int64), np.zeros(3, np.int64)
    numbers, scratch = np.zeros(NUMBERS, np.int64), np.zeros(_OUTPUTS + 3, np.int64)
    flat = sums.reshape(-1)
    bits[:] = 0.0
    done = 0
    for _ in range(width + stagger * (height - 1)):
        count = _next_pixel(pixels, 0, place, tiles, height, width, stagger)
        while count:
            for pixel in range(count):
                tile, y, x = pixels[pixel]
                first = ((tile * height + y) * width + x) * _OUTPUTS
                _load_pixel(network, flat, first, mean, pixels[pixel], scratch, numbers)
                bits[tile] += _price_pixel(network, numbers, pixels[pixel], greys, ranges, done)
                done += 3
            count = _next_pixel(pixels, 0, place, tiles, height, width, stagger)
        _next_front(place, height, width, stagger)
    return _push_all(ranges, words)


@compiled
def _price_pixel(
    network: MaskedNetwork, numbers: Longs, at: Longs, greys: Greys, ranges: Words, first: int
) -> float:
    """Set the ranges of a pixel's symbols in the order of popping; return their ideal code length in bits."""
    tile, y, x = at
    red, green, blue = np.int64(greys[tile, 0, y, x]), np.int64(greys[tile, 1, y, x]), np.int64(greys[tile, 2, y, x])
    mean_of_red = red_mean(numbers, green)
    bits = _price(green, numbers[ALONE + 1], 1, numbers, network, ranges, first)
    bits += _price(red, mean_of_red, 0, numbers, network, ranges, first + 1)
    mean_of_blue = blue_mean(numbers, green, red, mean_of_red)
    return bits + _price(blue, mean_of_blue, 2, numbers, network, ranges, first + 2)


@compiled
def _price(
    grey: int, mean16: int, colour: int, numbers: Longs, network: MaskedNetwork, ranges: Words, place: int
) -> float:
    scale, row = numbers[SCALE + colour], numbers[ROW + colour]
    low = cumulative(grey, mean16, scale, row, network)
    frequency = cumulative(grey + 1, mean16, scale, row, network) - low
    ranges[place, 0], ranges[place, 1] = low, frequency
    return PRECISION - math.log2(float(frequency))


@compiled
def _push_all(ranges: Words, words: Words) -> int:
    """Push symbols, the last first, onto an empty coder; return how many words it is."""
    state, count = np.uint64(0), 0
    for place in range(len(ranges) - 1, -1, -1):
        low, frequency = np.uint64(ranges[place, 0]), np.uint64(ranges[place, 1])
        if (state >> np.uint64(64 - PRECISION)) >= frequency:
            words[count] = state & np.uint64(0xFFFFFFFF)
            count += 1
            state >>= np.uint64(32)
        state = ((state // frequency) << np.uint64(PRECISION)) | (low + state % frequency)
    while state:
        words[count] = state & np.uint64(0xFFFFFFFF)
        count += 1
        state >>= np.uint64(32)
    return count


@compiled
def all_sums(
    network: MaskedNetwork, space: Workspace, mean: Ints, features: Greys, greys: Greys, sums: Ints
) -> None:
    """Evaluate the masked network for all pixels of known tiles, in raster order.

    Args:
        network: at the crossing.
        space: fresh, for tiles of this number and shape.
        mean: m_0, int32 [n, 3, >= h, >= w].
        features: uint8 [n, >= h, >= w, F].
        greys: x_0, uint8 [n, 3, h, w].
        sums: set to the sums, offset included, int32 [n, h, w, 12].
    """
    tiles, _, height, width = greys.shape
    count, pixels = 0, space.pixels
    for tile in range(tiles):
        for y in range(height):
            for x in range(width):
                pixels[count] = tile, y, x
                _set_residuals(network, space, pixels[count], greys, mean, height, width)
                count += 1
                if count == CHUNK or (x == width - 1 and y == height - 1 and tile == tiles - 1):
                    masked_sums(features, height, width, network, space, count)
                    _add_offsets(network, space, count)
                    for pixel in range(count):
                        at, to, down = pixels[pixel]
                        for index in range(_OUTPUTS):
                            sums[at, to, down, index] = space.v[pixel * LANES + index]
                    count = 0
