"""The exact pixel decoder as named arrays, as a model file stores it."""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.nn.exact.decoder_parameters import OUTPUTS, DecoderHeads, ExactPixelDecoder, GatedReading
from ddpm_codec.nn.exact.storage import (
    Shapes,
    heads_to_arrays,
    layers_from_arrays,
    layers_to_arrays,
    read_integers,
    trunk_shapes,
)
from ddpm_codec.nn.pixel_decoder import PixelDecoderConfig, seen_pixels


def decoder_to_arrays(decoder: ExactPixelDecoder) -> dict[str, NDArray[np.generic]]:
    """Return every number of the decoder by name, in the smallest type of a fixed few that holds it."""
    tables: dict[str, NDArray[np.generic]] = {
        "tails": decoder.tails.astype(np.int32),
        "inverse_scales": decoder.inverse_scales.astype(np.int64),
    }
    return layers_to_arrays(decoder.layers) | heads_to_arrays(decoder.heads) | tables


def decoder_from_arrays(
    config: PixelDecoderConfig, levels: int, arrays: Mapping[str, NDArray[np.generic]]
) -> ExactPixelDecoder:
    """Return the decoder of :func:`decoder_to_arrays`, checked.

    Args:
        config: widths and depths, as untrusted as the arrays.
        levels: number of crossings.
        arrays: of the decoder; others are ignored.

    Raises:
        ValueError: a limit is more than one number.
        ModelError: a missing part, sizes that no decoder has, numbers that could overflow, or parts that do not fit each
            other.
    """
    config = PixelDecoderConfig.from_dict(config.to_dict())
    shapes = decoder_shapes(config)
    mixes: dict[str, type[GatedReading]] = {name: GatedReading for name in shapes if name.endswith(".mix")}
    decoder = ExactPixelDecoder(
        config,
        layers_from_arrays(shapes, arrays, mixes),
        DecoderHeads(**{field.name: read_integers(f"heads.{field.name}", arrays) for field in fields(DecoderHeads)}),
        read_integers("tails", arrays),
        read_integers("inverse_scales", arrays),
        levels,
    )
    decoder.check()
    return decoder


def decoder_shapes(config: PixelDecoderConfig) -> Shapes:
    """Return the shapes of all layers, in the order of the network."""
    channels = config.channels
    shapes = trunk_shapes(config.trunk)
    shapes["trunk_head"] = ((4 * (3 + config.features), config.trunk.width, 3, 3), 1, True)
    shapes["masked_stem"] = ((channels, 3, config.reach, config.reach), 1, False)
    shapes["step_stem"] = ((channels, 3 * seen_pixels(config), 1, 1), 1, False)
    shapes["feature_stem"] = ((channels, config.features, 1, 1), 1, False)
    for index in range(config.blocks):
        if index:
            shapes[f"blocks.{index}.masked"] = ((channels, channels, 3, 3), 1, False)
        shapes[f"blocks.{index}.gates"] = ((2 * channels, channels, 1, 1), 1, False)
        shapes[f"blocks.{index}.mix"] = ((channels, channels, 1, 1), 1, False)
    shapes["parameter_head"] = ((OUTPUTS, channels, 1, 1), 1, True)
    return shapes
