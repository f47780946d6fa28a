"""Exact pixel decoders of random numbers, valid and alive: their sums neither vanish nor saturate all the time."""

import dataclasses

import numpy as np

from ddpm_codec.coding.pixel_laws import make_inverse_scales, make_tails
from ddpm_codec.nn.codec_net import CodecNetConfig
from ddpm_codec.nn.denoiser import DATA_VARIANCE
from ddpm_codec.nn.exact.decoder_parameters import (
    RESIDUAL_ZERO,
    DecoderHeads,
    ExactPixelDecoder,
    GatedReading,
    adds_to_stream,
    hidden_taps,
    is_masked,
)
from ddpm_codec.nn.exact.decoder_storage import decoder_shapes
from ddpm_codec.nn.exact.parameters import (
    BYTE,
    PICTURE,
    PICTURE_ZERO,
    T_LIMIT,
    WIDE,
    Array,
    Convolution,
    Reading,
    Rescaling,
    output_reach,
)
from ddpm_codec.nn.pixel_decoder import PixelDecoderConfig

TRUNK = CodecNetConfig(width=4, mid_width=8, outer_blocks=1, mid_blocks=1, embedding=8)
TINY = PixelDecoderConfig(TRUNK, features=4, channels=4, blocks=2, reach=5, shapes=3)
CROSSINGS = (3.2, 8.2, 20.0)
"""Noise in grey levels."""

GREY = 127.5


def random_exact_decoder(
    seed: int = 0, config: PixelDecoderConfig = TINY, *, wide: tuple[str, ...] = (), crossings: int = len(CROSSINGS)
) -> ExactPixelDecoder:
    """Return a decoder of random numbers that passes its check.

    Args:
        seed: of the numbers.
        config: widths and depths.
        wide: layers of the masked network that read two bytes; not the stems.
        crossings: how many.
    """
    rng = np.random.default_rng(seed)
    layers: dict[str, Convolution] = {}
    for name, (shape, stride, head) in decoder_shapes(config).items():
        reading = _reading(name, shape[1], WIDE if name in wide else BYTE, layers, rng)
        weight = rng.normal(0.0, 40.0, shape).clip(-127, 127).astype(np.int64)
        if is_masked(name):
            weight = weight * (1 - hidden_taps(shape[2], own=name != "masked_stem"))
        spread = _spread(weight, reading)
        centre = -np.einsum("ocij,c->o", weight, reading.zero)
        if name == "stem":
            centre = np.rint(centre / 256).astype(np.int64)
        offset = centre + np.rint(rng.normal(0.0, 0.5, shape[0]) * spread).astype(np.int64)
        rescaling = None if head else _rescaling(name, spread, crossings, rng)
        layers[name] = Convolution(weight, offset, stride, reading, rescaling)
    places = None if not config.shapes else np.linspace(0.0, 1.0, config.shapes)
    tails = make_tails(None, None) if places is None else make_tails(8.5 * places - 8.0, 1.7 - 1.6 * places)
    heads = _heads(config, layers, np.array(CROSSINGS[:crossings]))
    decoder = ExactPixelDecoder(config, layers, heads, tails, make_inverse_scales(), crossings)
    decoder.check()
    return decoder


def changed_layer(decoder: ExactPixelDecoder, name: str, **values: object) -> ExactPixelDecoder:
    """Replace attributes of a layer."""
    layer = dataclasses.replace(decoder.layers[name], **values)  # type: ignore[arg-type]  # of any attribute
    return dataclasses.replace(decoder, layers=decoder.layers | {name: layer})


def _reading(name: str, channels: int, limit: int, before: dict[str, Convolution], rng: np.random.Generator) -> Reading:
    none = np.zeros(channels, np.int64)
    if name == "stem":
        return Reading(none, none, none + PICTURE_ZERO, PICTURE)
    if name == "feature_stem":
        return Reading(none, none, none + 128, BYTE)
    if name in ("masked_stem", "step_stem"):
        return Reading(none, none, none + RESIDUAL_ZERO, WIDE)
    finer = 5 if limit == WIDE else 0
    half = 2 * rng.integers(60, 250, channels)
    if name in ("down", "up") or (name.endswith(".gates") and not name.startswith("blocks.0.")):
        return Reading(none, none + 4 - finer * 4 // 5, (none + 128) << finer, limit)
    if name.endswith(".mix"):
        gates = before[name.removesuffix("mix") + "gates"].rescaling
        assert gates is not None
        reach = output_reach(gates)[:channels] * 2 * half
        pre = np.ceil(np.log2(reach / 32000.0)).clip(0).astype(np.int64)
        shift = none + 13 - finer
        zero = -(-(half**2 // 4 * 256 >> pre) >> shift) + 1
        return GatedReading(half, shift, zero.clip(0, limit), limit, pre)
    shift = np.rint(np.log2(400 * (400 + half) / 100)).astype(np.int64) - finer
    return Reading(half, shift, (-(-(half**2) // 4 >> shift) + 1).clip(0, limit), limit)


def _spread(weight: Array, reading: Reading) -> Array:
    """Return about the standard deviation of sums."""
    of_input = {BYTE: 30.0, WIDE: 1000.0, PICTURE: 4000.0 / 256.0}[reading.limit]
    root: Array = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=(1, 2, 3))) * of_input
    return np.maximum(root, 1.0)


def _rescaling(name: str, spread: Array, levels: int, rng: np.random.Generator) -> Rescaling:
    outputs = len(spread)
    pre_shift = np.ceil(np.log2(4.0 * spread / T_LIMIT)).clip(0).astype(np.int64)
    size = 300.0 / (spread / np.exp2(pre_shift))
    if name.endswith(".gates"):
        size[outputs // 2 :] /= 3.0
    shift = np.full(outputs, 11, np.int64)
    rows = levels if name.endswith(".first") else 1
    multiplier = np.rint(size * 2.0**11 * rng.uniform(0.7, 1.3, (rows, outputs))).astype(np.int64)
    bias = np.rint(rng.normal(0.0, 60.0, (rows, outputs))).astype(np.int64)
    if name.endswith(".second") or name == "up" or adds_to_stream(name):
        bias = np.zeros_like(bias)
    return Rescaling(pre_shift, multiplier.clip(-2047, 2047), bias, shift)


def _heads(config: PixelDecoderConfig, layers: dict[str, Convolution], sigma: Array) -> DecoderHeads:
    noise = (sigma / GREY) ** 2
    total = DATA_VARIANCE + noise
    c_out = np.sqrt(DATA_VARIANCE * noise / total) * GREY
    trunk, pixel = (
        _spread(layers[name].weight, layers[name].reading).mean() for name in ("trunk_head", "parameter_head")
    )
    tails = np.full(3, 0.5 * max(config.shapes - 1, 0)) * 2.0**24 / pixel
    one = np.ones(3)
    return DecoderHeads(
        **{
            name: np.rint(values).astype(np.int64)
            for name, values in {
                "picture_multiplier": 4096.0 / (GREY * 64.0) / np.sqrt(total) * 2.0**20,
                "mean_skip": DATA_VARIANCE / total * 2.0**28,
                "mean_multiplier": 0.3 * c_out[:, None] * np.ones(12) * 2.0**34 / trunk,
                "feature_multiplier": np.full(4 * config.features, 40.0) * 2.0**24 / trunk,
                "residual_multiplier": 2.0**23 / c_out,
                "pixel_mean_multiplier": 0.5 * c_out[:, None] * one * 2.0**40 / pixel,
                "scale_multiplier": 40.0 * one * 2.0**24 / pixel,
                "scale_base": 64.0 * np.log(c_out / 0.05),
                "coefficient_multiplier": 2500.0 * one * 2.0**24 / pixel,
                "tail_multiplier": tails,
            }.items()
        }
    )
