"""Blocks whose pixels are streams of a pixel decoder on the stack, with one that a test can see through."""

from collections.abc import Callable

import numpy as np
import pytest

from ddpm_codec.codecs.block import BlockStats, decode_block, encode_block
from ddpm_codec.codecs.latents import DiffusionLattice, GreyChain
from ddpm_codec.codecs.pixel_code import Ints, Origin, Pixels
from ddpm_codec.codecs.tiling import Rect
from ddpm_codec.coding.ans import Stack, StackExhausted
from ddpm_codec.coding.bits_back import decode_batch, encode_batch
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import FormatError
from tests.codecs.test_block import SIGMAS, SPREAD, Shrinkage, picture, sizes_of
from tests.toy_pixel_codes import PackedGiven, PackedPixels, PackedStreams

LARGE = 1.63
"""Entropy of q(n_0 | x_0), bits a dimension: log2(0.75 sqrt(2 pi e))."""


class NoisyLevels(Shrinkage):
    """A denoiser that has no level 0."""

    def pixels(self, picture: np.ndarray, level: int) -> object:  # type: ignore[override]
        raise AssertionError(f"asked for pixels at level {level}")

    def coefficients(self, picture: np.ndarray, level: int) -> object:  # type: ignore[override]
        assert level > 0
        return super().coefficients(picture, level)


def lattice(code: PackedPixels) -> DiffusionLattice:
    prior = np.zeros(192), np.full(192, SPREAD**2)
    return DiffusionLattice(GreyChain(NoisyLevels(), by_name("colour-8x8"), SIGMAS, *prior), code)  # type: ignore[arg-type]


def encoded(model: DiffusionLattice, regions: list[np.ndarray], tile: int) -> tuple[bytes, BlockStats]:
    result = encode_block(lambda _: model, regions, tile)
    assert result is not None
    return result


@pytest.mark.parametrize("run", [1, 3, 100])
@pytest.mark.parametrize(
    ("sizes", "tile"), [([(150, 200)], 64), ([(32, 32)] * 40, 32), ([(33, 17), (64, 65), (90, 64)], 32)]
)
def test_regions_come_back_and_every_bit_is_accounted_for(run: int, sizes: list[tuple[int, int]], tile: int) -> None:
    model = lattice(PackedPixels(run))
    regions = [picture(*size, seed=index) for index, size in enumerate(sizes)]
    payload, stats = encoded(model, regions, tile)
    for got, region in zip(decode_block(lambda _: model, payload, sizes_of(regions), tile), regions, strict=True):
        np.testing.assert_array_equal(got, region)
    assert 0 <= 8 * len(payload) - stats.net_bits - stats.seed_bits < 200
    assert stats.dims + stats.seed_dims == sum(region.size for region in regions)
    assert sum(stats.region_bits) == pytest.approx(stats.net_bits + stats.seed_bits)


def test_streams_and_lengths_take_their_bytes_and_the_initial_bits_are_those_of_the_latents() -> None:
    x0 = np.stack([picture(32, 32, seed).transpose(2, 0, 1) for seed in range(4)])
    sent: list[bytes] = []

    class WatchedGiven(PackedGiven):
        def encode(self, x_0: Pixels, origin: Origin = (0, 0)) -> PackedStreams:
            found = super().encode(x_0, origin)
            sent.extend(found.streams)
            return found

    class Watched(PackedPixels):
        def given(self, picture: Ints) -> PackedGiven:
            return WatchedGiven(self.run, picture)

    model, n_0 = lattice(Watched(2)), np.zeros((4, 192, 4, 4), np.int32)
    stack = Stack.seeded(bytes(range(1, 100)))
    before, prices = stack.bits, np.zeros(4)
    model.push_pictures(stack, x0, n_0, prices)
    # The longest stream of 4 pictures has 36,872 bytes: lengths take two.
    assert stack.bits - before == pytest.approx(8 * sum(len(stream) + 2 for stream in sent), abs=32)
    assert len(sent) == 2
    np.testing.assert_array_equal(prices, PackedPixels(2).given(np.zeros((4, 3, 32, 32), np.int64)).encode(x0).bits)
    np.testing.assert_array_equal(model.pop_pictures(stack, (4, 3, 32, 32), n_0), x0)
    assert stack.remainder() == bytes(range(1, 100))
    enough = np.random.default_rng(0).bytes(round(LARGE * 1.03 * x0.size / 8))
    stack = Stack.seeded(enough)
    encode_batch(stack, model, x0)
    np.testing.assert_array_equal(decode_batch(stack, model, (4, 3, 32, 32)), x0)
    assert stack.remainder() == enough
    with pytest.raises(StackExhausted):
        encode_batch(Stack.seeded(enough[: round(LARGE * 0.97 * x0.size / 8)]), model, x0)


def test_one_small_seed_starts_a_photo() -> None:
    """A tile of 64x64 in pieces: the fallback's bytes of the first are enough for the next."""
    _, stats = encoded(lattice(PackedPixels()), [picture(256, 256)], 256)
    assert stats.seed_dims == 3 * 64 * 64


@pytest.mark.parametrize(
    "change", [lambda data: data[:-40], lambda data: data + b"\1\2\3\4", lambda data: b"\0" + data[1:]]
)
def test_damaged_blocks_are_refused(change: Callable[[bytes], bytes]) -> None:
    model, regions = lattice(PackedPixels()), [picture(32, 32, seed) for seed in range(8)]
    payload, _ = encoded(model, regions, 32)
    with pytest.raises(FormatError):
        decode_block(lambda _: model, change(payload), sizes_of(regions), 32)


def test_any_flipped_bit_is_an_error_or_gives_other_pixels() -> None:
    model, regions = lattice(PackedPixels()), [picture(32, 32, seed) for seed in range(6)]
    payload, _ = encoded(model, regions, 32)
    for place in range(0, len(payload), 499):
        damaged = bytearray(payload)
        damaged[place] ^= 1 << place % 8
        try:
            found = decode_block(lambda _: model, bytes(damaged), [Rect(0, 0, 32, 32)] * 6, 32)
        except FormatError:
            continue
        assert any((got != region).any() for got, region in zip(found, regions, strict=True))
