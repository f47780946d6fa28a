"""The proof that nothing overflows: it holds where it must, refuses where it must, and its bounds are reached."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddpm_codec.errors import ModelError
from ddpm_codec.models.model_file import load_model
from ddpm_codec.nn.exact.executor import ExactDenoiser, ExactExecutor
from ddpm_codec.nn.exact.fused import FusedExecutor
from ddpm_codec.nn.exact.parameters import (
    BYTE,
    EXACT_BITS,
    WIDE,
    Convolution,
    ExactParameters,
    Reading,
    Rescaling,
    largest_shift,
    output_reach,
)
from ddpm_codec.nn.exact.storage import from_arrays, layer_shapes, to_arrays
from tests.golden.regenerate import EXACT
from tests.reference import exact_network

ONE_LINE = r"\A[^\n]+\Z"


def changed(parameters: ExactParameters, layer: str, **values: Any) -> ExactParameters:  # noqa: ANN401 - of any part
    """Replace attributes of a layer."""
    layers = parameters.layers | {layer: dataclasses.replace(parameters.layers[layer], **values)}
    return dataclasses.replace(parameters, layers=layers)


def test_round_trip(parameters: ExactParameters) -> None:
    arrays = to_arrays(parameters)
    read = from_arrays(parameters.config, parameters.levels, arrays)
    again = to_arrays(read)
    assert arrays.keys() == again.keys()
    for key, value in arrays.items():
        np.testing.assert_array_equal(again[key], value)
        assert again[key].dtype == value.dtype
    assert arrays["stem.weight"].dtype == np.int8


def test_the_network_passes(parameters: ExactParameters) -> None:
    parameters.check()
    assert list(parameters.layers) == list(layer_shapes(parameters.config))
    assert parameters.layers["before.0.first"].reading.wide


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_sum_exceeds_its_bound_and_some_reach_it(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    limit = data.draw(st.sampled_from([BYTE, WIDE]))
    channels = data.draw(st.integers(1, 6))
    weight = rng.integers(-127, 128, (2, channels, 3, 3))
    offset = rng.integers(-5000, 5000, 2)
    nothing = np.zeros(channels, np.int64)
    layer = Convolution(weight, offset, 1, Reading(nothing, nothing, nothing, limit), None)
    for sign in (weight > 0, weight < 0):
        # The input that makes output 0 as large, or as small, as it gets.
        q = np.where(sign[0], limit, 0).transpose(1, 2, 0)[None]
        v = exact_network.convolve(q, layer)[0, 1, 1]
        assert np.abs(v).max() <= layer.largest_sum
    ones = np.abs(weight)
    high = dataclasses.replace(layer, weight=ones, offset=np.abs(offset))
    v = exact_network.convolve(np.full((1, 3, 3, channels), limit), high)[0, 1, 1]
    # Of a wide input, the lower bytes have a sum of their own.
    reached = max(v.max(), ones.sum(axis=(1, 2, 3)).max() * BYTE)
    assert reached <= high.largest_sum <= 1.001 * reached + np.abs(offset).max()


@pytest.mark.parametrize("layer", ["before.0.second", "middle.0.first", "stem", "pixel_head"])
def test_sums_that_could_overflow_are_refused(layer: str, parameters: ExactParameters) -> None:
    offset = parameters.layers[layer].offset.copy()
    offset[1] = (1 << EXACT_BITS) - 100
    with pytest.raises(ModelError, match=rf"\Alayer {layer}: its sums could reach \d+, and must stay below 2\^24\Z"):
        changed(parameters, layer, offset=offset).check()


def test_kernels_that_are_too_heavy_are_refused(parameters: ExactParameters) -> None:
    layer = parameters.layers["middle.0.second"]
    shape = (16, 16, 24, 24)
    heavy = dataclasses.replace(layer, weight=np.full(shape, 127))
    assert heavy.largest_sum > 1 << EXACT_BITS
    with pytest.raises(ModelError, match=r"its sums could reach"):
        dataclasses.replace(parameters, layers=parameters.layers | {"middle.0.second": heavy}).check()


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("multiplier", 1 << 12, "its rescaling could reach"),
        ("bias", 1 << 22, "its rescaling could reach"),
        ("shift", 31, "shift outside"),
        ("shift", -1, "shift outside"),
        ("pre_shift", -1, "shift outside"),
    ],
)
def test_rescalings_that_could_overflow(part: str, value: int, reason: str, parameters: ExactParameters) -> None:
    rescaling = parameters.layers["middle.0.first"].rescaling
    assert rescaling is not None
    numbers = getattr(rescaling, part).copy()
    numbers[..., 3] = value
    bad = dataclasses.replace(rescaling, **{part: numbers})
    with pytest.raises(ModelError, match=rf"\Alayer middle.0.first: {reason}[^\n]*\Z"):
        changed(parameters, "middle.0.first", rescaling=bad).check()


def test_a_bias_into_a_stream_is_refused(parameters: ExactParameters) -> None:
    rescaling = parameters.layers["up"].rescaling
    assert rescaling is not None
    with pytest.raises(ModelError, match=r"\Alayer up: has a bias, although it adds to a residual stream\Z"):
        changed(parameters, "up", rescaling=dataclasses.replace(rescaling, bias=rescaling.bias + 1)).check()


def test_a_stem_that_does_not_read_plainly_is_refused(parameters: ExactParameters) -> None:
    reading = parameters.layers["stem"].reading
    for change in (
        {"shift": reading.shift + 1},
        {"limit": 255, "shift": reading.shift + 12, "zero": reading.zero // 256},
    ):
        with pytest.raises(ModelError, match=r"\Alayer stem: unexpected input limit \d+\Z"):
            changed(parameters, "stem", reading=dataclasses.replace(reading, **change)).check()
    moved = dataclasses.replace(reading, zero=reading.zero + np.eye(12, dtype=np.int64)[10])
    with pytest.raises(ModelError, match=r"\Alayer stem: zero point of the picture is not 32768\Z"):
        changed(parameters, "stem", reading=moved).check()
    down = parameters.layers["down"].reading
    wide = dataclasses.replace(down, limit=65535, half=0 * down.half, shift=0 * down.shift)
    with pytest.raises(ModelError, match=r"\Alayer down: unexpected input limit 65535\Z"):
        changed(parameters, "down", reading=wide).check()


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("half", 3, "odd or negative"),
        ("half", 1 << 20, "its hard-swish could reach"),
        ("shift", 17, "shift outside 0..16"),
        ("shift", -1, "shift outside 0..16"),
        ("zero", 256, "zero point out of range"),
        ("zero", -1, "zero point out of range"),
        ("limit", 300, "unexpected input limit 300"),
    ],
)
def test_readings_that_could_overflow(part: str, value: int, reason: str, parameters: ExactParameters) -> None:
    reading = parameters.layers["middle.0.second"].reading
    numbers: Any = value
    if part != "limit":
        numbers = getattr(reading, part).copy()
        numbers[2] = value
    bad = dataclasses.replace(reading, **{part: numbers})
    with pytest.raises(ModelError, match=rf"\Alayer middle.0.second: [^\n]*{reason}[^\n]*\Z"):
        changed(parameters, "middle.0.second", reading=bad).check()


@pytest.mark.parametrize("name", ["mean_multiplier", "pixel_multiplier", "coefficient_bias", "picture_multiplier"])
def test_heads_that_could_overflow(name: str, parameters: ExactParameters) -> None:
    numbers = getattr(parameters.heads, name).copy()
    numbers.flat[0] = 1 << 39
    heads = dataclasses.replace(parameters.heads, **{name: numbers})
    if name == "coefficient_bias":
        numbers.flat[0] = 1 << 40
    with pytest.raises(ModelError, match=ONE_LINE):
        dataclasses.replace(parameters, heads=heads).check()


def test_a_reading_rounds_only_where_it_is_clamped() -> None:
    """A binary32 holds every q + 1/2 up to the limit, for the largest shift that is allowed."""
    for limit in (BYTE, WIDE):
        assert (limit + 1) << largest_shift(limit) <= 1 << EXACT_BITS


def test_the_reach_of_an_output_is_never_exceeded() -> None:
    rng = np.random.default_rng(0)
    rescaling = Rescaling(
        rng.integers(0, 9, 4), rng.integers(-2047, 2048, (3, 4)), rng.integers(-99, 99, (3, 4)), rng.integers(0, 20, 4)
    )
    for level in range(3):
        multiplier, bias = rescaling.at(level)
        for t in (-8191, 8191):
            y = exact_network.shift_even(t * multiplier + (bias << rescaling.shift), rescaling.shift)
            assert (np.abs(y) <= output_reach(rescaling)).all()


@pytest.mark.parametrize("name", ["stem.weight", "before.0.first.scale.bias", "up.read.half", "heads.mean_skip"])
def test_arrays_that_do_not_fit(name: str, parameters: ExactParameters) -> None:
    arrays = to_arrays(parameters)
    with pytest.raises(ModelError, match=rf"\Alacks {re.escape(name)}: made by a pre-release\Z"):
        from_arrays(parameters.config, parameters.levels, {key: arrays[key] for key in arrays if key != name})
    arrays[name] = arrays[name][:-1]
    with pytest.raises(ModelError, match=ONE_LINE):
        from_arrays(parameters.config, parameters.levels, arrays)


@pytest.mark.parametrize("name", ["stem.weight", "up.limit", "heads.index_base"])
def test_numbers_that_are_not_integers(name: str, parameters: ExactParameters) -> None:
    arrays = to_arrays(parameters)
    arrays[name] = arrays[name].astype(np.float32)
    with pytest.raises(ModelError, match=rf"\Alayer {name}: values are not integers\Z"):
        from_arrays(parameters.config, parameters.levels, arrays)


@pytest.mark.parametrize(
    "change", [{"outer_blocks": 1 << 40}, {"width": 0}, {"mid_width": 2.0}, {"coefficients": "192"}]
)
def test_sizes_that_no_network_has(change: dict[str, Any], parameters: ExactParameters) -> None:
    config = dataclasses.replace(parameters.config, **change)
    with pytest.raises(ValueError, match="sizes must be integers from 1 to 4096"):
        from_arrays(config, parameters.levels, to_arrays(parameters))


def test_the_least_integer_is_refused(parameters: ExactParameters) -> None:
    """Its magnitude overflows, so that bounds on magnitudes do not see it."""
    arrays = to_arrays(parameters)
    arrays["heads.pixel_multiplier"][3] = np.iinfo(np.int64).min
    with pytest.raises(ModelError, match=r"\Alayer heads\.pixel_multiplier: a value needs more than 40 bits\Z"):
        from_arrays(parameters.config, parameters.levels, arrays)


def damaged_arrays(model: ExactParameters, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a model with one number in each of two of them replaced."""
    arrays: dict[str, Any] = to_arrays(model)
    for name in rng.choice(sorted(arrays), 2):
        values = arrays[name]
        place = tuple(rng.integers(0, size) for size in values.shape)
        info = np.iinfo(values.dtype.name)
        changes = [info.min, info.max, int(rng.integers(-5, 6)), 8 * int(values[place]), int(values[place]) + 1]
        values[place] = np.clip(changes[rng.integers(len(changes))], info.min, info.max)
    return arrays


def test_whatever_is_accepted_is_exact() -> None:
    """Damage numbers of a model at random: it is refused, or kernels still agree with the reference."""
    model = load_model(EXACT).exact
    assert model is not None
    accepted, tries = 0, 80
    for seed in range(tries):
        rng = np.random.default_rng(seed)
        try:
            damaged = from_arrays(model.config, model.levels, damaged_arrays(model, rng))
        except ModelError:
            continue
        accepted += 1
        picture = rng.integers(-(1 << 20), 1 << 20, (1, 3, 8, 16))
        level = int(rng.integers(0, model.levels))
        mean, pixel, coefficient = exact_network.forward(damaged, picture, level)
        cpu = torch.device("cpu")
        for executor in (ExactExecutor(damaged, cpu, "float32"), ExactExecutor(damaged, cpu), FusedExecutor(damaged)):
            denoiser = ExactDenoiser(executor, (level,))
            pixels, coefficients = denoiser.both(picture, 0)
            np.testing.assert_array_equal(pixels.mean, mean)
            np.testing.assert_array_equal(pixels.log_var_index, pixel)
            np.testing.assert_array_equal(coefficients.log_var_index, coefficient)
    assert 5 < accepted < tries - 5
