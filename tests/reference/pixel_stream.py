"""Streams of the pixel decoder in plain Python, pixel by pixel: what the compiled loop has to agree with.

Written from docs/FORMAT.md, section 10.1, over :mod:`tests.reference.exact_decoder`. Every pixel evaluates the network anew,
on what it sees.
"""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from tests.reference.exact_decoder import cumulative, pixel_laws, sums

Array = NDArray[np.int64]
Greys = NDArray[np.uint8]
GREEN_RED_BLUE = (1, 0, 2)


def order(decoder: ExactPixelDecoder, tiles: int, height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Yield (tile, y, x) in the order of the stream."""
    lag = decoder.config.reach // 2 + decoder.config.blocks
    for t in range(width + lag * (height - 1)):
        for y in range(height):
            for tile in range(tiles):
                if 0 <= t - lag * y < width:
                    yield tile, y, t - lag * y


def encode(
    decoder: ExactPixelDecoder, mean: Array, features: Array, x_0: Greys, level: int
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return (words of the stream, (cum, frequency) of its symbols in their order)."""
    v = sums(decoder, mean, features, x_0, level)
    ranges = []
    for tile, y, x in order(decoder, len(x_0), *x_0.shape[2:]):
        greys = [int(x_0[tile, j, y, x]) for j in range(3)]
        laws = pixel_laws(decoder, level, list(v[tile, y, x]), list(mean[tile, :, y, x]), greys)
        for j in GREEN_RED_BLUE:
            low = cumulative(decoder, greys[j], laws[j])
            ranges.append((low, cumulative(decoder, greys[j] + 1, laws[j]) - low))
    return push_all(ranges), ranges


def push_all(ranges: list[tuple[int, int]]) -> list[int]:
    """Return the words of an ANS stack on which symbols (cum, frequency) lie, the first on top."""
    state, words = 0, []
    for low, frequency in reversed(ranges):
        if state >> 40 >= frequency:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // frequency << 24) + low + state % frequency
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return words


def decode(
    decoder: ExactPixelDecoder, mean: Array, features: Array, shape: tuple[int, int], words: list[int], level: int
) -> tuple[Greys, bool]:
    """Return (x_0, whether the stack is empty then)."""
    words = list(words)
    state = words.pop() if words else 0
    if words:
        state = (state << 32) + words.pop()
    x_0 = np.zeros((len(mean), 3, *shape), np.uint8)
    reach = decoder.config.reach // 2 + decoder.config.blocks
    for tile, y, x in order(decoder, len(mean), *shape):
        left = max(0, x - reach)
        where = np.s_[tile : tile + 1, :, max(0, y - reach) : y + 1, left : x + reach + 1]
        seen = features[where[0], where[2], where[3]]
        v = sums(decoder, mean[..., : shape[0], : shape[1]][where], seen, x_0[where], level)[0, -1, x - left]
        for j in GREEN_RED_BLUE:
            greys = [int(x_0[tile, i, y, x]) for i in range(3)]
            law = pixel_laws(decoder, level, list(v), list(mean[tile, :, y, x]), greys)[j]
            quantile = state & 0xFFFFFF
            k = bisect_right(range(1, 256), quantile, key=lambda bound: cumulative(decoder, bound, law))
            low = cumulative(decoder, k, law)
            state = (state >> 24) * (cumulative(decoder, k + 1, law) - low) + quantile - low
            if state < 1 << 32 and words:
                state = (state << 32) + words.pop()
            x_0[tile, j, y, x] = k
    return x_0, state == 0 and not words
