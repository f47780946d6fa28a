"""The executor of the pixel decoder against the reference: the same integers from every kernel, size, batch and strip."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm_codec.coding.pixel_laws import cumulative, frequency, pixel_laws
from ddpm_codec.errors import ModelError
from ddpm_codec.isolation import isolated
from ddpm_codec.nn.exact import executor as executor_module
from ddpm_codec.nn.exact import fused_layer, layer
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.exact.decoder_storage import decoder_from_arrays, decoder_to_arrays
from ddpm_codec.nn.exact.kernels import KERNELS, is_exact
from ddpm_codec.nn.exact.parameters import PICTURE_REACH
from tests.nn.exact.conftest import interpret
from tests.reference import exact_decoder
from tests.toy_decoders import CROSSINGS, TINY, random_exact_decoder

CPU = torch.device("cpu")
WIDE = ("blocks.0.gates", "blocks.1.masked", "blocks.1.gates", "blocks.1.mix", "parameter_head")
SIZES = [(1, 1), (1, 9), (7, 3), (16, 13), (5, 2)]
Tiles = NDArray[np.uint8]
Found = tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int32]]


@pytest.fixture(params=sorted(KERNELS))
def kernels(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not is_exact(name, "cpu"):
        pytest.skip(f"{name} kernels are not exact on this processor, and are not used on it")
    return name


@pytest.fixture(params=[False, True], ids=["torch", "compiled"])
def compiled(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module", params=[(), WIDE], ids=["bytes", "wide"])
def decoder(request: pytest.FixtureRequest) -> ExactPixelDecoder:
    return random_exact_decoder(1, wide=request.param)


def tiles(level: int, height: int, width: int, batch: int = 3) -> tuple[NDArray[np.int64], Tiles]:
    """Return (z_0 padded to multiples of 4, x_0)."""
    rng = np.random.default_rng(level)
    smooth = np.cumsum(rng.normal(0.0, 6.0, (batch, 3, height, width)), axis=3) + rng.uniform(0, 255, (batch, 3, 1, 1))
    x_0 = smooth.clip(0, 255).astype(np.uint8)
    padded = np.pad(x_0, ((0, 0), (0, 0), (0, -height % 4), (0, -width % 4)), mode="edge")
    noise = rng.normal(0.0, CROSSINGS[level], padded.shape)
    return np.rint((padded - 127.5 + noise) * 64).astype(np.int64), x_0


def both(executor: PixelDecoderExecutor, picture: NDArray[np.int64], x_0: Tiles, level: int) -> Found:
    mean, features = executor.trunk(picture, level)
    assert mean.dtype == np.int32
    assert features.dtype == np.uint8
    v = executor.sums(mean, features, x_0, level)
    assert v.dtype == np.int32
    return mean, features, v


def reference(
    decoder: ExactPixelDecoder, picture: NDArray[np.int64], x_0: Tiles, level: int
) -> list[NDArray[np.int64]]:
    mean, features = exact_decoder.trunk(decoder, picture, level)
    return [mean, features, exact_decoder.sums(decoder, mean, features, x_0, level)]


def same(found: Found, wanted: list[NDArray[np.int64]]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("level", "size"), [(0, SIZES[0]), (1, SIZES[1]), (2, SIZES[2]), (1, SIZES[3]), (0, SIZES[4])])
def test_every_kernel_gives_the_integers_of_the_reference(
    kernels: str, compiled: bool, level: int, size: tuple[int, int], decoder: ExactPixelDecoder
) -> None:
    picture, x_0 = tiles(level, *size)
    wanted = reference(decoder, picture, x_0, level)
    same(both(PixelDecoderExecutor(decoder, CPU, kernels, compiled=compiled), picture, x_0, level), wanted)
    if size == SIZES[3]:
        # Something that could differ is there to compare.
        mean, features, v = wanted
        assert len(np.unique(mean)) > 500
        assert len(np.unique(features)) > 50
        assert all(len(np.unique(v[..., channel])) > 100 for channel in range(12))


def test_pictures_that_no_encoder_makes(kernels: str, compiled: bool, decoder: ExactPixelDecoder) -> None:
    executor = PixelDecoderExecutor(decoder, CPU, kernels, compiled=compiled)
    for value in (PICTURE_REACH, -PICTURE_REACH, 1 << 40, 0):
        picture = np.full((1, 3, 8, 8), value, np.int64)
        picture[..., ::3] *= -1
        x_0 = np.where(np.arange(8) % 2, 255, 0).astype(np.uint8) + np.zeros((1, 3, 8, 8), np.uint8)
        same(both(executor, picture, x_0, 1), reference(decoder, picture, x_0, 1))


def test_tiles_see_nothing_but_themselves(
    compiled: bool, decoder: ExactPixelDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, x_0 = tiles(2, 12, 9, batch=5)
    executor = PixelDecoderExecutor(decoder, CPU, compiled=compiled)
    whole = both(executor, picture, x_0, 2)
    for pixels, strip in ((1, 1), (2 * 12 * 12, 1 << 9), (1 << 16, 300)):
        monkeypatch.setitem(executor_module.CHUNK_PIXELS, "cpu", pixels)
        monkeypatch.setitem(layer.STRIP_VALUES, "cpu", strip)
        monkeypatch.setattr(fused_layer, "STRIP_VALUES", strip)
        for found, wanted in zip(both(executor, picture, x_0, 2), whole, strict=True):
            np.testing.assert_array_equal(found, wanted)
    one = executor.sums(whole[0][3:4], whole[1][3:4], x_0[3:4], 2)
    np.testing.assert_array_equal(one, whole[2][3:4])


def test_passes_are_the_same_without_a_compiler(decoder: ExactPixelDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted they are what a debugger and coverage see."""
    picture, x_0 = tiles(1, 4, 4, batch=1)
    wanted = both(PixelDecoderExecutor(decoder, CPU, compiled=True), picture, x_0, 1)
    interpret(monkeypatch)
    for found, other in zip(
        both(PixelDecoderExecutor(decoder, CPU, compiled=True), picture, x_0, 1), wanted, strict=True
    ):
        np.testing.assert_array_equal(found, other)


def test_threads_change_nothing(decoder: ExactPixelDecoder) -> None:
    picture, x_0 = tiles(2, 12, 9, batch=5)
    executor = PixelDecoderExecutor(decoder, CPU)
    found = []
    for threads in (1, 2, 5):
        with isolated(threads):
            found.append(both(executor, picture, x_0, 2))
    for more in found[1:]:
        for one, other in zip(more, found[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_tiles(decoder: ExactPixelDecoder) -> None:
    picture, x_0 = tiles(0, 4, 4)
    mean, features, v = both(PixelDecoderExecutor(decoder, CPU), picture[:0], x_0[:0], 0)
    assert (mean.shape, features.shape, v.shape) == ((0, 3, 4, 4), (0, 4, 4, TINY.features), (0, 4, 4, 12))


def test_pixels_depend_on_earlier_ones_only(decoder: ExactPixelDecoder) -> None:
    picture, x_0 = tiles(1, 9, 10, batch=1)
    executor = PixelDecoderExecutor(decoder, CPU)
    mean, features, v = both(executor, picture, x_0, 1)
    seen = 0
    for row, column in itertools.product((0, 3, 8), (0, 4, 9)):
        changed = x_0.copy()
        changed[..., row, column] ^= 128
        differs = (executor.sums(mean, features, changed, 1) != v).any(axis=-1)[0]
        assert not differs[:row].any()
        assert not differs[row, : column + 1].any()
        seen += differs.any()
    assert seen >= 6


def test_autocast_of_the_caller_changes_nothing(kernels: str, compiled: bool, decoder: ExactPixelDecoder) -> None:
    executor = PixelDecoderExecutor(decoder, CPU, kernels, compiled=compiled)
    picture, x_0 = tiles(1, 8, 8)
    outside = both(executor, picture, x_0, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = both(executor, picture, x_0, 1)
    for found, wanted in zip(inside, outside, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_whatever_is_accepted_is_exact() -> None:
    """Damage numbers of a decoder at random: it is refused, or all ways still agree with the reference."""
    model = random_exact_decoder(5, wide=WIDE[:2])
    accepted, tries = 0, 120
    for seed in range(tries):
        rng = np.random.default_rng(seed)
        try:
            damaged = decoder_from_arrays(model.config, model.levels, damaged_arrays(model, rng))
        except ModelError:
            continue
        accepted += 1
        level = int(rng.integers(0, model.levels))
        picture, x_0 = tiles(level, 5, 8, batch=1)
        picture *= int(rng.choice([1, 40]))
        wanted = reference(damaged, picture, x_0, level)
        for compiled in (False, True):
            same(both(PixelDecoderExecutor(damaged, CPU, "float32", compiled=compiled), picture, x_0, level), wanted)
    assert 10 < accepted < tries - 10


def damaged_arrays(model: ExactPixelDecoder, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a decoder with one number in each of two of them replaced."""
    arrays: dict[str, Any] = decoder_to_arrays(model)
    for name in rng.choice(sorted(arrays), 2):
        values = arrays[name]
        place = tuple(rng.integers(0, size) for size in values.shape)
        info = np.iinfo(values.dtype.name)
        changes = [info.min, info.max, int(rng.integers(-5, 6)), 8 * int(values[place]), int(values[place]) + 1]
        values[place] = np.clip(changes[rng.integers(len(changes))], info.min, info.max)
    return arrays


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_integers(decoder: ExactPixelDecoder) -> None:
    for level, size in itertools.product(range(3), SIZES):
        picture, x_0 = tiles(level, *size)
        executor = PixelDecoderExecutor(decoder, torch.device("cuda"))
        same(both(executor, picture, x_0, level), reference(decoder, picture, x_0, level))


@pytest.mark.parametrize("shapes", [0, 3])
def test_laws_are_those_of_the_reference(shapes: int) -> None:
    config = type(TINY)(**{**vars(TINY), "shapes": shapes})
    decoder = random_exact_decoder(2, config)
    rng = np.random.default_rng(0)
    for level in range(3):
        v = rng.integers(-(1 << 23), 1 << 23, (40, 12)) // np.array([1, 64])[rng.integers(0, 2, (40, 1))]
        mean = rng.integers(-140_000, 140_000, (40, 3))
        mean[:4] = (1 << 20) * np.array([[1], [-1], [1], [-1]])
        x_0 = rng.integers(0, 256, (40, 3))
        laws = pixel_laws(v, mean, x_0, decoder.law_heads(level))
        wanted = [
            exact_decoder.pixel_laws(decoder, level, *(list(map(int, a[i])) for a in (v, mean, x_0))) for i in range(40)
        ]
        np.testing.assert_array_equal(np.stack([laws.mean16, laws.scale, laws.row], axis=-1), np.array(wanted))
        counts = np.stack([cumulative(np.array(k), laws, decoder.tails, decoder.inverse_scales) for k in range(257)])
        for pixel, channel, k in itertools.product(range(0, 40, 3), range(3), (0, 1, 2, 100, 127, 128, 200, 255, 256)):
            assert counts[k, pixel, channel] == exact_decoder.cumulative(decoder, k, wanted[pixel][channel])
        assert (np.diff(counts, axis=0) >= 1).all()
        assert (counts[0] == 0).all()
        assert (counts[256] == 1 << 24).all()
        np.testing.assert_array_equal(
            frequency(x_0, laws, decoder.tails, decoder.inverse_scales),
            np.take_along_axis(np.diff(counts, axis=0), x_0[None], axis=0)[0],
        )
