"""The compiled loops against plain Python: the same integers, the same words, and constriction's."""

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import constriction
import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.network import MaskedNetwork, masked_network
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from tests.codecs.pixels.conftest import LEVEL, Known, all_sums, decoded, encoded, known, sampled
from tests.reference import exact_decoder, pixel_stream
from tests.toy_decoders import random_exact_decoder

ROOT = Path(__file__).resolve().parents[3]
SHAPES = [(1, 1, 1), (2, 1, 7), (1, 5, 3), (3, 2, 2), (1, 33, 17), (2, 9, 60)]


def wide_given(given: Known) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return given.mean.astype(np.int64), given.features.astype(np.int64)


@pytest.mark.parametrize(("batch", "height", "width"), SHAPES)
def test_sums_are_those_of_the_reference(
    decoder: ExactPixelDecoder, network: MaskedNetwork, batch: int, height: int, width: int
) -> None:
    given = known(decoder, batch, height, width)
    for tiles in (
        sampled(network, given, height, width),
        np.random.default_rng(7).integers(0, 256, (batch, 3, height, width)).astype(np.uint8),
    ):
        wanted = exact_decoder.sums(decoder, *wide_given(given), tiles, LEVEL)
        assert (all_sums(network, given, tiles) == wanted).all()
        assert len(np.unique(wanted)) > 1


@pytest.mark.parametrize(("batch", "height", "width"), SHAPES)
def test_words_are_those_of_the_reference(
    decoder: ExactPixelDecoder, network: MaskedNetwork, batch: int, height: int, width: int
) -> None:
    given = known(decoder, batch, height, width)
    tiles = sampled(network, given, height, width)
    words, bits = encoded(network, given, tiles)
    wanted, ranges = pixel_stream.encode(decoder, *wide_given(given), tiles, LEVEL)
    assert words.tolist() == wanted
    assert bits.sum() == pytest.approx(sum(24 - np.log2(frequency) for _, frequency in ranges))
    found, whole = decoded(network, given, height, width, words)
    assert whole
    assert (found == tiles).all()


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (2, 1, 7), (1, 5, 3)])
def test_decoding_pixel_by_pixel_gives_the_same(
    decoder: ExactPixelDecoder, network: MaskedNetwork, batch: int, height: int, width: int
) -> None:
    given = known(decoder, batch, height, width)
    words = np.random.default_rng(2).integers(0, 1 << 32, 3 * height * width, dtype=np.uint32)
    for some in (words, words[:4], words[:1], words[:0]):
        wanted, whole = pixel_stream.decode(
            decoder, *wide_given(given), (height, width), [int(word) for word in some], LEVEL
        )
        found, ended = decoded(network, given, height, width, some)
        assert (found == wanted).all()
        assert ended == whole


def push_with_constriction(ranges: list[tuple[int, int]]) -> list[int]:
    """Return the words of constriction's coder: each symbol is the second of the three that its range leaves."""
    coder = constriction.stream.stack.AnsCoder()
    for low, frequency in reversed(ranges):
        counts = [low, frequency, (1 << 24) - low - frequency]
        symbol = int(low > 0)
        frequencies = np.array([count for count in counts if count], np.float64)
        if len(frequencies) == 1:
            continue
        model = constriction.stream.model.Categorical(frequencies - 1, perfect=False)
        coder.encode_reverse(np.array([symbol], np.int32), model)
    return [int(word) for word in coder.get_compressed()]


@pytest.mark.parametrize("picture", ["sampled", "black", "white", "noise"])
def test_words_are_those_of_constriction(decoder: ExactPixelDecoder, network: MaskedNetwork, picture: str) -> None:
    height, width = 6, 9
    given = known(decoder, 2, height, width)
    tiles = {
        "sampled": sampled(network, given, height, width),
        "black": np.zeros((2, 3, height, width), np.uint8),
        "white": np.full((2, 3, height, width), 255, np.uint8),
        "noise": np.random.default_rng(5).integers(0, 256, (2, 3, height, width)).astype(np.uint8),
    }[picture]
    words, _ = encoded(network, given, tiles)
    _, ranges = pixel_stream.encode(decoder, *wide_given(given), tiles, LEVEL)
    assert words.tolist() == push_with_constriction(ranges)
    found, whole = decoded(network, given, height, width, words)
    assert whole
    assert (found == tiles).all()


def test_no_tiles_are_no_words(network: MaskedNetwork, decoder: ExactPixelDecoder) -> None:
    given = known(decoder, 0, 4, 4)
    words, _ = encoded(network, given, np.zeros((0, 3, 4, 4), np.uint8))
    assert len(words) == 0
    assert decoded(network, given, 4, 4, words)[1]


@settings(deadline=None)
@for_all(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))
def test_round_trip(seed: int, batch: int, height: int, width: int) -> None:
    decoder = random_exact_decoder(seed % 5)
    network = masked_network(decoder, seed % 3)
    given = known(decoder, batch, height, width, seed)
    tiles = np.random.default_rng(seed).integers(0, 256, (batch, 3, height, width)).astype(np.uint8)
    words, bits = encoded(network, given, tiles)
    found, whole = decoded(network, given, height, width, words)
    assert whole
    assert (found == tiles).all()
    # The first symbol of an empty stack takes up to 24 bits, whatever its frequency.
    assert abs(8 * len(words.tobytes().rstrip(b"\0")) - bits.sum()) < 8 * 5


@pytest.mark.parametrize("base", [-(1 << 30), 1 << 30])
@pytest.mark.parametrize("mean", [-(1 << 20), 1 << 20])
def test_means_far_outside_and_extreme_scales(tiny: ExactPixelDecoder, base: int, mean: int) -> None:
    heads = dataclasses.replace(tiny.heads, scale_base=np.full_like(tiny.heads.scale_base, base))
    decoder = dataclasses.replace(tiny, heads=heads)
    network = masked_network(decoder, LEVEL)
    given = known(decoder, 1, 3, 4)
    given.mean[:] = mean
    for grey in (0, 1, 128, 254, 255):
        tiles = np.full((1, 3, 3, 4), grey, np.uint8)
        words, _ = encoded(network, given, tiles)
        assert words.tolist() == pixel_stream.encode(decoder, *wide_given(given), tiles, LEVEL)[0]
        found, whole = decoded(network, given, 3, 4, words)
        assert whole
        assert (found == tiles).all()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 40, 5000])
def test_whatever_the_words_decoding_ends(decoder: ExactPixelDecoder, network: MaskedNetwork, size: int) -> None:
    height, width = 11, 8
    given = known(decoder, 2, height, width)
    for seed in range(5):
        words = np.random.default_rng(seed).integers(0, 1 << 32, size, dtype=np.uint32)
        for some in (words, np.full_like(words, 0xFFFFFFFF)):
            tiles, whole = decoded(network, given, height, width, some)
            if whole:
                assert encoded(network, given, tiles)[0].tolist() == some.tolist()
            else:
                assert size > 0


def test_threads_do_not_disturb_each_other(decoder: ExactPixelDecoder, network: MaskedNetwork) -> None:
    given = known(decoder, 2, 24, 24)
    tiles = [sampled(network, given, 24, 24, seed) for seed in range(6)]
    streams = [encoded(network, given, tile)[0] for tile in tiles]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda words: decoded(network, given, 24, 24, words), streams * 3))
    assert all(whole and (tile == wanted).all() for (tile, whole), wanted in zip(found, tiles * 3, strict=True))


def test_without_compilation_the_same_words(tiny: ExactPixelDecoder) -> None:
    """Debuggers and coverage see the code that is compiled otherwise."""
    code = (
        "from ddpm_codec.codecs.pixels import kernels\n"
        "from ddpm_codec.codecs.pixels.network import masked_network\n"
        "from tests.codecs.pixels.conftest import known, sampled, encoded, decoded\n"
        "from tests.toy_decoders import random_exact_decoder\n"
        "assert not hasattr(kernels.decode_stream, 'py_func')\n"
        "decoder = random_exact_decoder(3)\n"
        "network, given = masked_network(decoder, 1), known(decoder, 1, 8, 8)\n"
        "tiles = sampled(network, given, 8, 8)\n"
        "words, bits = encoded(network, given, tiles)\n"
        "found, whole = decoded(network, given, 8, 8, words)\n"
        "assert whole and (found == tiles).all()\n"
        "print(*words)\n"
    )
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")])}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    network, given = masked_network(tiny, LEVEL), known(tiny, 1, 8, 8)
    words, _ = encoded(network, given, sampled(network, given, 8, 8))
    assert done.stdout.split() == [str(word) for word in words]
