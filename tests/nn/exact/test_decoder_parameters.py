"""The proof that an exact pixel decoder cannot overflow: it refuses whatever could, in one line; and its arrays."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from ddpm_codec.errors import ModelError
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder, GatedReading
from ddpm_codec.nn.exact.decoder_storage import decoder_from_arrays, decoder_shapes, decoder_to_arrays
from ddpm_codec.nn.exact.parameters import Rescaling
from tests.toy_decoders import TINY, changed_layer, random_exact_decoder

WIDE_LAYERS = ("blocks.0.gates", "blocks.1.masked", "parameter_head")


@pytest.fixture(scope="module")
def decoder() -> ExactPixelDecoder:
    return random_exact_decoder(wide=WIDE_LAYERS)


def with_reading(decoder: ExactPixelDecoder, name: str, **values: Any) -> ExactPixelDecoder:  # noqa: ANN401 - any part
    reading = dataclasses.replace(decoder.layers[name].reading, **values)
    return changed_layer(decoder, name, reading=reading)


def with_rescaling(decoder: ExactPixelDecoder, name: str, **values: Any) -> ExactPixelDecoder:  # noqa: ANN401 - as above
    rescaling = decoder.layers[name].rescaling
    assert isinstance(rescaling, Rescaling)
    return changed_layer(decoder, name, rescaling=dataclasses.replace(rescaling, **values))


def set_one(values: np.ndarray, value: int) -> np.ndarray:
    """Return a copy of an array with its last number replaced."""
    out = values.copy()
    out.flat[-1] = value
    return out


def refuses(decoder: ExactPixelDecoder, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"\Alayer {reason}[^\n]*\Z"):
        decoder.check()


def test_layers_are_those_of_the_network(decoder: ExactPixelDecoder) -> None:
    assert list(decoder.layers) == list(decoder_shapes(TINY))
    assert all(decoder.layers[name].reading.wide for name in (*WIDE_LAYERS, "masked_stem"))


@pytest.mark.parametrize("shapes", [0, 3])
def test_arrays_come_back(shapes: int) -> None:
    decoder = random_exact_decoder(config=dataclasses.replace(TINY, shapes=shapes), wide=WIDE_LAYERS)
    arrays = decoder_to_arrays(decoder)
    again = decoder_to_arrays(decoder_from_arrays(decoder.config, decoder.levels, arrays))
    assert arrays.keys() == again.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(again[name], values)
        assert again[name].dtype == values.dtype
    assert arrays["masked_stem.weight"].dtype == np.int8
    assert arrays["tails"].shape == (max(shapes, 1), 4096)
    assert arrays["tails"].dtype == np.int32


@pytest.mark.parametrize(
    "name", ["masked_stem.weight", "blocks.0.mix.read.pre", "blocks.1.gates.scale.bias", "heads.scale_base", "tails"]
)
def test_arrays_that_do_not_fit(name: str, decoder: ExactPixelDecoder) -> None:
    arrays = decoder_to_arrays(decoder)
    with pytest.raises(ModelError, match=rf"\Alacks {re.escape(name)}: made by a pre-release\Z"):
        decoder_from_arrays(TINY, 3, {key: arrays[key] for key in arrays if key != name})
    with pytest.raises(ModelError, match=r"\A[^\n]+\Z"):
        decoder_from_arrays(TINY, 3, arrays | {name: arrays[name][:-1]})
    with pytest.raises(ModelError, match=r"values are not integers\Z"):
        decoder_from_arrays(TINY, 3, arrays | {name: arrays[name].astype(np.float32)})
    least = arrays[name].astype(np.int64)
    least.flat[0] = np.iinfo(np.int64).min
    with pytest.raises(ModelError, match=r"needs more than 40 bits\Z"):
        decoder_from_arrays(TINY, 3, arrays | {name: least})


@pytest.mark.parametrize(
    "change", [{"channels": 0}, {"blocks": 1 << 40}, {"reach": 6}, {"features": 2.0}, {"shapes": 1}]
)
def test_sizes_that_no_decoder_has(change: dict[str, Any], decoder: ExactPixelDecoder) -> None:
    with pytest.raises(ModelError, match=r"\A[^\n]+\Z"):
        decoder_from_arrays(dataclasses.replace(TINY, **change), 3, decoder_to_arrays(decoder))


@pytest.mark.parametrize(
    ("name", "tap"), [("masked_stem", (2, 2)), ("blocks.1.masked", (1, 2)), ("masked_stem", (4, 0))]
)
def test_weights_behind_the_mask_are_refused(name: str, tap: tuple[int, int], decoder: ExactPixelDecoder) -> None:
    weight = decoder.layers[name].weight.copy()
    weight[1, 0, tap[0], tap[1]] = 1
    refuses(changed_layer(decoder, name, weight=weight), f"{name}: has weights where its kernel is masked")
    arrays = decoder_to_arrays(decoder)
    with pytest.raises(ModelError, match="masked"):
        decoder_from_arrays(TINY, 3, arrays | {f"{name}.weight": weight.astype(np.int8)})


@pytest.mark.parametrize(
    ("name", "bits"), [("trunk_head", 24), ("feature_stem", 24), ("masked_stem", 30), ("parameter_head", 30)]
)
def test_sums_that_could_overflow(name: str, bits: int, decoder: ExactPixelDecoder) -> None:
    offset = set_one(decoder.layers[name].offset, 1 << bits)
    refuses(
        changed_layer(decoder, name, offset=offset), rf"{name}: its sums could reach \d+, and must stay below 2\^{bits}"
    )


def test_kernels_that_are_too_heavy(decoder: ExactPixelDecoder) -> None:
    """The bytes of two-byte inputs are summed within 2^24 too."""
    heavy = np.zeros((4, 200, 3, 3), np.int64)
    heavy[:, :, :1] = 127
    none = np.zeros(200, np.int64)
    for name, limit in (("blocks.1.masked", 8191), ("blocks.1.masked", 255)):
        reading = dataclasses.replace(decoder.layers[name].reading, limit=limit, half=none + 2, shift=none, zero=none)
        refuses(changed_layer(decoder, name, weight=heavy, reading=reading), f"{name}: its sums could reach")


@pytest.mark.parametrize(
    ("name", "part", "value", "reason"),
    [
        ("blocks.0.gates", "multiplier", 1 << 12, "its rescaling could reach"),
        ("blocks.0.gates", "bias", 1 << 22, "its rescaling could reach"),
        ("blocks.0.gates", "shift", 31, "shift outside"),
        ("blocks.0.mix", "pre_shift", -1, "shift outside"),
        # 4095 2^19 with the rounding does not fit int32.
        ("blocks.0.mix", "shift", 19, "its rescaling could reach"),
        ("blocks.0.mix", "bias", 1, "has a bias, although it adds"),
        ("masked_stem", "bias", 1, "has a bias, although it adds"),
    ],
)
def test_rescalings_that_could_overflow(
    name: str, part: str, value: int, reason: str, decoder: ExactPixelDecoder
) -> None:
    rescaling = decoder.layers[name].rescaling
    assert rescaling is not None
    refuses(
        with_rescaling(decoder, name, **{part: set_one(getattr(rescaling, part), value)}), f"{name}: [^\n]*{reason}"
    )


@pytest.mark.parametrize(
    ("name", "part", "value", "reason"),
    [
        ("blocks.0.mix", "pre", 0, "its gated hard-swish could reach"),
        ("blocks.0.mix", "pre", 31, "shift outside"),
        ("blocks.0.mix", "half", 1 << 20, "hard-swish could reach"),
        ("blocks.0.mix", "shift", 17, "shift outside 0..16"),
        ("blocks.1.masked", "half", 0, "has a hard-swish offset of 0"),
        ("blocks.1.masked", "half", 1 << 14, "its hard-swish could reach"),
        ("blocks.1.gates", "half", 2, "must read plainly"),
        ("parameter_head", "zero", 8192, "zero point out of range"),
        ("feature_stem", "zero", 127, "must read plainly, with zero 128 and limit 255"),
        ("masked_stem", "shift", 1, "must read plainly, with zero 4096 and limit 8191"),
    ],
)
def test_readings_that_could_overflow(
    name: str, part: str, value: int, reason: str, decoder: ExactPixelDecoder
) -> None:
    numbers = set_one(getattr(decoder.layers[name].reading, part), value)
    refuses(with_reading(decoder, name, **{part: numbers}), f"{name}: [^\n]*{reason}")


def test_a_mix_that_reads_no_gates(decoder: ExactPixelDecoder) -> None:
    reading = decoder.layers["blocks.0.mix"].reading
    assert isinstance(reading, GatedReading)
    plain = decoder.layers["blocks.1.masked"].reading
    refuses(changed_layer(decoder, "blocks.0.mix", reading=plain), "blocks.0.mix: does not read gates")


@pytest.mark.parametrize(
    "name",
    [
        *("picture_multiplier", "mean_multiplier", "mean_skip", "feature_multiplier", "residual_multiplier"),
        *("pixel_mean_multiplier", "scale_multiplier", "coefficient_multiplier", "tail_multiplier"),
    ],
)
def test_heads_that_could_overflow(name: str, decoder: ExactPixelDecoder) -> None:
    numbers = set_one(getattr(decoder.heads, name), (1 << 40) - 1)
    heads = dataclasses.replace(decoder.heads, **{name: numbers})
    large = changed_layer(decoder, "parameter_head", offset=set_one(decoder.layers["parameter_head"].offset, 1 << 29))
    large.check()
    refuses(dataclasses.replace(large, heads=heads), r"heads: \w+_multiplier could reach \d+; it must stay below 2\^")
    short = getattr(decoder.heads, name)[:-1]
    heads = dataclasses.replace(decoder.heads, **{name: short})
    refuses(dataclasses.replace(decoder, heads=heads), f"heads: {name} has shape")


def test_tables_that_are_none(decoder: ExactPixelDecoder) -> None:
    tails, scales = decoder.tails, decoder.inverse_scales
    for bad in (set_one(tails, (1 << 30) + 1), set_one(tails, 0), tails + 1, tails - 1):
        refuses(dataclasses.replace(decoder, tails=bad), "tables: tails must rise")
    for bad in (tails[:-1], tails[:, :-1]):
        refuses(dataclasses.replace(decoder, tails=bad), "tables: tails of shape")
    for bad in (set_one(scales, 0), set_one(scales, 1 << 38)):
        refuses(dataclasses.replace(decoder, inverse_scales=bad), "tables: inverse scales must be positive")
    refuses(dataclasses.replace(decoder, inverse_scales=scales[:-1]), "tables: tails of shape")
