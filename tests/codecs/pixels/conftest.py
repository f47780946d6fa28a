"""Random pixel decoders, noisy pictures and tiles that their laws would draw."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels import kernels
from ddpm_codec.codecs.pixels.network import MaskedNetwork, masked_network, workspace
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.pixel_decoder import PixelDecoderConfig
from tests.toy_decoders import TINY, TRUNK, random_exact_decoder

LEVEL = 1

CONFIGS = {
    "tiny": (TINY, ()),
    "wide": (TINY, ("blocks.0.gates", "blocks.1.masked", "blocks.1.gates", "blocks.1.mix", "parameter_head")),
    # Channels that fill vectors once and more, features that fill no pair, another reach, a Gaussian tail.
    "odd": (PixelDecoderConfig(TRUNK, features=5, channels=20, blocks=3, reach=7, shapes=0), ("blocks.2.mix",)),
    "one-block": (PixelDecoderConfig(TRUNK, features=3, channels=16, blocks=1, reach=3, shapes=2), ()),
}


class Known(NamedTuple):
    """What a decoder knows of tiles before their first pixel."""

    mean: NDArray[np.int32]
    features: NDArray[np.uint8]


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def decoder(request: pytest.FixtureRequest) -> ExactPixelDecoder:
    config, wide = CONFIGS[request.param]
    return random_exact_decoder(3, config, wide=wide)


@pytest.fixture(scope="module")
def network(decoder: ExactPixelDecoder) -> MaskedNetwork:
    return masked_network(decoder, LEVEL)


@pytest.fixture(scope="module")
def tiny() -> ExactPixelDecoder:
    return random_exact_decoder(3)


@pytest.fixture(scope="module")
def executor(tiny: ExactPixelDecoder) -> PixelDecoderExecutor:
    return PixelDecoderExecutor(tiny, torch.device("cpu"))


def known(decoder: ExactPixelDecoder, batch: int, height: int, width: int, seed: int = 0) -> Known:
    """Return random means and features; the decoder's padding of up to 3 pixels included."""
    rng = np.random.default_rng(seed)
    padded = -(-height // 4) * 4, -(-width // 4) * 4
    mean = rng.integers(-70_000, 70_000, (batch, 3, *padded)).astype(np.int32)
    return Known(mean, rng.integers(0, 256, (batch, *padded, decoder.config.features)).astype(np.uint8))


def sampled(network: MaskedNetwork, given: Known, height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    """Return tiles that the network would draw: what random words decode to."""
    batch = len(given.mean)
    words = np.random.default_rng(seed).integers(1, 1 << 32, batch * height * width * 3, dtype=np.uint32)
    return decoded(network, given, height, width, words)[0]


def all_sums(network: MaskedNetwork, given: Known, tiles: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the sums of all pixels, [B, h, w, 12]."""
    batch, _, height, width = tiles.shape
    sums = np.zeros(batch * height * width * 12, np.int32)
    kernels.all_sums(network, workspace(network, batch, height, width), *given, tiles, sums)
    return sums.reshape(batch, height, width, 12)


def encoded(
    network: MaskedNetwork, given: Known, tiles: NDArray[np.uint8], sums: NDArray[np.int32] | None = None
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Return the words of one stream, and the ideal bits of its tiles."""
    sums = all_sums(network, given, tiles) if sums is None else sums
    words, bits = np.zeros(tiles.size + 2, np.uint32), np.zeros(len(tiles))
    count = kernels.encode_stream(network, sums.reshape(-1), given.mean, tiles, words, bits)
    return words[:count].copy(), bits


def decoded(
    network: MaskedNetwork, given: Known, height: int, width: int, words: NDArray[np.uint32]
) -> tuple[NDArray[np.uint8], bool]:
    """Return the tiles of a stream and whether it ended empty."""
    batch = len(given.mean)
    tiles = np.zeros((batch, 3, height, width), np.uint8)
    space = workspace(network, batch, height, width)
    return tiles, bool(kernels.decode_stream(network, space, *given, words, tiles))
