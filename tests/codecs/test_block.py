"""Blocks: tiles on one stack, started by their own first tiles, with hardly a bit wasted."""

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_codec.codecs import block
from ddpm_codec.codecs.block import BlockStats, decode_block, encode_block
from ddpm_codec.codecs.fallback import encode_array
from ddpm_codec.codecs.latents import DiffusionLattice, GreyChain
from ddpm_codec.codecs.tiling import MAX_BLOCK_TILES, Rect, plan_tiles, shape_runs
from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import FormatError
from ddpm_codec.nn import integer
from ddpm_codec.nn.integer import IntegerPrediction
from ddpm_codec.varint import Reader, write_varint

SIGMAS = (0.01, 0.06, 0.4)
SPREAD = 0.3
TILE = 64


class Shrinkage:
    """The optimal denoiser of white Gaussian pictures with standard deviation SPREAD, in model values."""

    def coefficients(self, picture: np.ndarray, level: int) -> IntegerPrediction:
        images, _, height, width = picture.shape
        return predict(picture, level, (images, 192, height // 8, width // 8))

    def pixels(self, picture: np.ndarray, level: int) -> IntegerPrediction:
        return predict(picture, level, picture.shape)


def predict(picture: np.ndarray, level: int, shape: tuple[int, ...]) -> IntegerPrediction:
    kept = SPREAD**2 / (SPREAD**2 + SIGMAS[level] ** 2)
    log_variance = np.log(kept * SIGMAS[level] ** 2)
    index = round((log_variance - integer.LOG_VAR_FLOOR) * integer.LOG_VAR_STEPS)
    return IntegerPrediction(np.rint(picture * (kept * 16)).astype(np.int64), np.full(shape, index, np.int16))


@pytest.fixture
def model() -> DiffusionLattice:
    prior = np.zeros(192), np.full(192, SPREAD**2)
    return DiffusionLattice(GreyChain(Shrinkage(), by_name("colour-8x8"), SIGMAS, *prior))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng([seed, height, width]).normal(127.5, SPREAD * 127.5, (height, width, 3))
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def sizes_of(regions: list[np.ndarray]) -> list[Rect]:
    return [Rect(0, 0, *region.shape[:2]) for region in regions]


def encoded(model: DiffusionLattice, regions: list[np.ndarray], tile: int = TILE) -> tuple[bytes, BlockStats]:
    result = encode_block(lambda _: model, regions, tile)
    assert result is not None
    return result


def check_round_trip(model: DiffusionLattice, regions: list[np.ndarray], tile: int = TILE) -> tuple[bytes, BlockStats]:
    payload, stats = encoded(model, regions, tile)
    decoded = decode_block(lambda _: model, payload, sizes_of(regions), tile)
    assert len(decoded) == len(regions)
    for got, region in zip(decoded, regions, strict=True):
        np.testing.assert_array_equal(got, region)
    assert stats.dims + stats.seed_dims == sum(region.size for region in regions)
    assert sum(stats.region_bits) == pytest.approx(stats.net_bits + stats.seed_bits)
    return payload, stats


PARTS = {
    "one picture": [(150, 200)],
    "a set of small ones": [(32, 32)] * 40,
    "mixed": [(64, 64), (33, 17), (64, 65), (1, 1), (90, 64), (64, 64), (5, 300)],
    "rows": [(1, 900), (1, 900), (900, 1)],
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("tile", [32, 64, 256])
def test_regions_come_back(model: DiffusionLattice, name: str, tile: int) -> None:
    check_round_trip(model, [picture(*size, seed=index) for index, size in enumerate(PARTS[name])], tile)


@settings(max_examples=15)
@given(sizes=st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=2, max_size=8))
def test_regions_of_any_sizes_come_back_or_are_too_small(sizes: list[tuple[int, int]]) -> None:
    prior = np.zeros(192), np.full(192, SPREAD**2)
    model = DiffusionLattice(GreyChain(Shrinkage(), by_name("colour-8x8"), SIGMAS, *prior))
    regions = [picture(*size) for size in sizes]
    if encode_block(lambda _: model, regions, 32) is not None:
        check_round_trip(model, regions, 32)


@pytest.mark.parametrize("name", PARTS)
def test_no_bits_are_wasted(model: DiffusionLattice, name: str) -> None:
    """The payload is the net bits, the seeds, and a plan of a few bytes."""
    payload, stats = encoded(model, [picture(*size, seed=index) for index, size in enumerate(PARTS[name])])
    assert 0 <= 8 * len(payload) - stats.net_bits - stats.seed_bits < 200


def test_the_net_rate_is_that_of_the_model(model: DiffusionLattice) -> None:
    """The entropy of a Gaussian of that spread, whatever the batches."""
    _, stats = encoded(model, [picture(256, 256)])
    entropy_bits = 0.5 * np.log2(2 * np.pi * np.e * (SPREAD * 127.5) ** 2)
    assert stats.net_bits / stats.dims == pytest.approx(entropy_bits, abs=0.02)


def test_few_pixels_are_seeds_and_batches_grow(model: DiffusionLattice) -> None:
    payload, stats = encoded(model, [picture(32, 32, seed) for seed in range(200)])
    assert stats.seed_dims <= 0.03 * stats.dims
    reader = Reader(payload)
    seeds = reader.varint()
    batches = [reader.varint() for _ in range(reader.varint())]
    assert seeds + sum(batches) == 200
    assert len(batches) < 20
    assert batches[-2] > batches[0]


def test_the_batch_limit_holds(model: DiffusionLattice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "BATCH_PIXELS", 5 * 32 * 32)
    payload, _ = check_round_trip(model, [picture(32, 32, seed) for seed in range(30)])
    reader = Reader(payload)
    reader.varint()
    assert max(reader.varint() for _ in range(reader.varint())) <= 5


@pytest.mark.parametrize("guess", [0.01, 1.0, 30.0])
def test_a_wrong_guess_of_the_initial_bits_costs_time_not_pixels(
    model: DiffusionLattice, guess: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "INITIAL_BITS", guess)
    check_round_trip(model, [picture(32, 32, seed) for seed in range(30)])


def test_the_seeds_are_the_fallback_of_the_first_tiles(model: DiffusionLattice) -> None:
    """What is left on the stack when all batches are popped."""
    regions = [picture(32, 32, seed) for seed in range(12)]
    payload, stats = encoded(model, regions)
    seeds = Reader(payload).varint()
    sheet = encode_array(np.concatenate(regions[:seeds]))
    assert stats.seed_dims == seeds * 32 * 32 * 3
    assert 0 <= stats.seed_bits - 8 * len(sheet) <= 8 * 3 + 64


def test_flat_pictures_need_more_seeds(model: DiffusionLattice) -> None:
    """The fallback makes next to nothing of them, and the chain cannot start from that."""
    flat = np.full((32, 32, 3), 128, np.uint8)
    regions = [picture(32, 32, seed) for seed in range(8)] + [flat] * 6
    payload, _ = check_round_trip(model, regions)
    # A flat one is the largest and last, and comes first.
    assert Reader(payload).varint() > 1


def test_the_share_of_a_part_is_what_it_costs(model: DiffusionLattice) -> None:
    """Within batches that good and bad pictures have in common, each is charged for its own."""
    rough = [picture(32, 32, seed) for seed in range(30)]
    smooth = [(region // 4 + 96).astype(np.uint8) for region in rough]
    mixed = [region for pair in zip(smooth, rough, strict=True) for region in pair]
    shares = [np.array(encoded(model, regions)[1].region_bits) for regions in (smooth, rough, mixed)]
    # The last regions hold the first tiles, which the fallback codes.
    apart, together = np.array([shares[0][:20], shares[1][:20]]), np.array([shares[2][:40:2], shares[2][1:40:2]])
    np.testing.assert_allclose(together.mean(axis=1), apart.mean(axis=1), rtol=0.02)
    assert apart[0].mean() < 0.95 * apart[1].mean()


@pytest.mark.parametrize("sizes", [[(1, 1)], [(8, 8)], [(64, 64)]])
def test_what_is_too_small_is_none(model: DiffusionLattice, sizes: list[tuple[int, int]]) -> None:
    assert encode_block(lambda _: model, [picture(*size) for size in sizes], TILE) is None


def test_the_same_block_has_the_same_bytes(model: DiffusionLattice) -> None:
    regions = [picture(150, 100)]
    assert encoded(model, regions) == encoded(model, regions)


def test_regions_may_be_views(model: DiffusionLattice) -> None:
    whole = picture(200, 300)
    view = whole[17:140, 20:220]
    assert encoded(model, [view])[0] == encoded(model, [np.ascontiguousarray(view)])[0]


PARTS_DAMAGED = [picture(32, 32, seed) for seed in range(8)]


@pytest.fixture(scope="module")
def payload() -> bytes:
    prior = np.zeros(192), np.full(192, SPREAD**2)
    return encoded(DiffusionLattice(GreyChain(Shrinkage(), by_name("colour-8x8"), SIGMAS, *prior)), PARTS_DAMAGED)[0]


def decode_damaged(model: DiffusionLattice, data: bytes) -> None:
    """Decode: a FormatError or other pixels, which the block's checksum sees; any other exception is a defect."""
    with contextlib.suppress(FormatError):
        decoded = decode_block(lambda _: model, data, sizes_of(PARTS_DAMAGED), TILE)
        assert any((got != region).any() for got, region in zip(decoded, PARTS_DAMAGED, strict=True))


def test_flipped_bits_never_go_by_in_silence(model: DiffusionLattice, payload: bytes) -> None:
    places = [*range(8), *range(8, len(payload), 211), *range(len(payload) - 8, len(payload))]
    for place in places:
        damaged = bytearray(payload)
        damaged[place] ^= 1 << place % 8
        decode_damaged(model, bytes(damaged))


def test_cut_payloads_never_go_by_in_silence(model: DiffusionLattice, payload: bytes) -> None:
    for end in [*range(12), *range(12, len(payload), 911), *range(len(payload) - 9, len(payload))]:
        decode_damaged(model, payload[:end])
    for extra in (b"\0", b"\1", b"\0\0\0\1", bytes(400)):
        decode_damaged(model, payload + extra)


@settings(max_examples=40)
@given(head=st.lists(st.integers(0, 12), max_size=6), tail=st.binary(max_size=600))
def test_foreign_bytes_never_are_another_exception(head: list[int], tail: bytes) -> None:
    prior = np.zeros(192), np.full(192, SPREAD**2)
    model = DiffusionLattice(GreyChain(Shrinkage(), by_name("colour-8x8"), SIGMAS, *prior))
    decode_damaged(model, bytes([2, 1, 6, *head]) + tail)


def with_plan(payload: bytes, *plan: int) -> bytes:
    """Return the payload with another plan before the same stack."""
    reader = Reader(payload)
    reader.varint()
    for _ in range(reader.varint()):
        reader.varint()
    out = bytearray()
    for value in plan:
        write_varint(out, value)
    return bytes(out) + reader.rest()


@pytest.mark.parametrize(
    "plan", [(0, 1, 8), (8, 1, 0), (1, 1, 6), (1, 1, 8), (2, 2, 6, 0), (1, 9, 7), (9, 0), (1 << 40, 1, 7), (1, 1 << 40)]
)
def test_a_plan_that_does_not_fit_is_refused(model: DiffusionLattice, payload: bytes, plan: tuple[int, ...]) -> None:
    with pytest.raises(FormatError):
        decode_block(lambda _: model, with_plan(payload, *plan), sizes_of(PARTS_DAMAGED), TILE)


def test_a_batch_of_unequal_tiles_is_refused(model: DiffusionLattice) -> None:
    regions = [picture(32, 32, seed) for seed in range(5)] + [picture(40, 40), picture(40, 40, 1)]
    payload, _ = encoded(model, regions)
    seeds = Reader(payload).varint()
    assert seeds < 6
    with pytest.raises(FormatError, match="its plan does not fit"):
        decode_block(lambda _: model, with_plan(payload, seeds, 1, 7 - seeds), sizes_of(regions), TILE)


@pytest.mark.parametrize(
    "change",
    [lambda rects: rects[:-1], lambda rects: [*rects, Rect(0, 0, 8, 8)], lambda rects: [Rect(0, 0, 32, 33)] * 8],
)
def test_sizes_of_another_block_are_refused(
    model: DiffusionLattice, payload: bytes, change: Callable[[list[Rect]], list[Rect]]
) -> None:
    with pytest.raises(FormatError):
        decode_block(lambda _: model, payload, change(sizes_of(PARTS_DAMAGED)), TILE)


def test_an_absurd_number_of_tiles_is_refused_before_they_are_made(model: DiffusionLattice, payload: bytes) -> None:
    for sizes in ([Rect(0, 0, 1 << 15, 1 << 15)], [Rect(0, 0, 1, 8)] * (MAX_BLOCK_TILES + 1)):
        with pytest.raises(FormatError, match=rf"it has \d+ tiles, more than {MAX_BLOCK_TILES}"):
            decode_block(lambda _: model, payload, sizes, 8)


def test_bytes_left_over_among_the_seeds_are_noticed() -> None:
    regions = [picture(9, 9), picture(9, 9, 1), picture(10, 9)]
    tiles = plan_tiles(sizes_of(regions), TILE)
    assert len(shape_runs(tiles)) == 2
    data = block._encode_seeds(regions, tiles)
    blank = [np.zeros_like(region) for region in regions]
    block._decode_seeds(data, tiles, blank)
    for got, region in zip(blank, regions, strict=True):
        np.testing.assert_array_equal(got, region)
    with pytest.raises(FormatError, match="extra bytes after its last tile"):
        block._decode_seeds(data + b"\0", tiles, blank)
    with pytest.raises(FormatError):
        block._decode_seeds(data[:-1], tiles, blank)
