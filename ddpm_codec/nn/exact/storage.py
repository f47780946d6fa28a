"""The exact network as named arrays, as a model file stores it."""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.nn.codec_net import CodecNetConfig
from ddpm_codec.nn.exact.parameters import (
    Array,
    Convolution,
    ExactParameters,
    Heads,
    Reading,
    Rescaling,
    refuse,
)

_READING = ("half", "shift", "zero")
_RESCALING = ("pre_shift", "multiplier", "bias", "shift")

LARGEST_NUMBER = 1 << 40
"""Magnitude of any number of an exact network."""

LARGEST_SIZE = 4096
"""Of a width or depth in a model file."""


def to_arrays(parameters: ExactParameters) -> dict[str, NDArray[np.generic]]:
    """Return every number of the network by name, in the smallest type of a fixed few that holds it."""
    out: dict[str, NDArray[np.generic]] = {}
    for name, layer in parameters.layers.items():
        out[f"{name}.weight"] = layer.weight.astype(np.int8)
        out[f"{name}.offset"] = layer.offset.astype(np.int32)
        out[f"{name}.limit"] = np.array([layer.reading.limit], np.int32)
        out |= {f"{name}.read.{key}": getattr(layer.reading, key).astype(np.int32) for key in _READING}
        if layer.rescaling is not None:
            out |= {f"{name}.scale.{key}": getattr(layer.rescaling, key).astype(np.int32) for key in _RESCALING}
    out |= {f"heads.{field.name}": getattr(parameters.heads, field.name).astype(np.int64) for field in fields(Heads)}
    return out


def from_arrays(config: CodecNetConfig, levels: int, arrays: Mapping[str, NDArray[np.generic]]) -> ExactParameters:
    """Return the network of :func:`to_arrays`, checked.

    Raises:
        KeyError: a part is missing.
        ValueError: a size that no network has.
        ModelError: it could overflow, or its parts do not fit each other.
    """

    def read(name: str) -> Array:
        if arrays[name].dtype.kind != "i":
            raise refuse(name, "values are not integers")
        values = arrays[name].astype(np.int64)
        # abs(INT64_MIN) overflows, so bounds would accept it.
        if values.min(initial=0) < -LARGEST_NUMBER or values.max(initial=0) > LARGEST_NUMBER:
            raise refuse(name, "a value needs more than 40 bits")
        return values

    sizes = [config.width, config.mid_width, config.outer_blocks, config.mid_blocks, config.variance_width]
    if not all(type(size) is int and 0 < size <= LARGEST_SIZE for size in [*sizes, config.coefficients]):
        raise ValueError(f"network sizes must be integers from 1 to {LARGEST_SIZE}")
    layers = {}
    for name, (shape, stride, head) in layer_shapes(config).items():
        weight = read(f"{name}.weight")
        reading = Reading(
            **{key: read(f"{name}.read.{key}") for key in _READING}, limit=int(read(f"{name}.limit").item())
        )
        rescaling = None if head else Rescaling(**{key: read(f"{name}.scale.{key}") for key in _RESCALING})
        layer = Convolution(weight, read(f"{name}.offset"), stride, reading, rescaling)
        vectors = [layer.offset] + ([] if rescaling is None else [rescaling.pre_shift, rescaling.shift])
        rows = [] if rescaling is None else [rescaling.multiplier, rescaling.bias]
        inputs = [reading.half, reading.shift, reading.zero]
        if (
            weight.shape != shape
            or any(vector.shape != shape[:1] for vector in vectors)
            or any(row.ndim != 2 or row.shape[1:] != shape[:1] for row in rows)
            or any(vector.shape != shape[1:2] for vector in inputs)
        ):
            raise refuse(name, "array shapes do not match the network")
        layers[name] = layer
    heads = Heads(**{field.name: read(f"heads.{field.name}") for field in fields(Heads)})
    parameters = ExactParameters(config, layers, heads, levels)
    parameters.check()
    return parameters


def layer_shapes(config: CodecNetConfig) -> dict[str, tuple[tuple[int, int, int, int], int, bool]]:
    """Return (shape of the kernel, stride, whether it is a head) of every layer, in the order of the network."""
    width, mid, variance = config.width, config.mid_width, config.variance_width
    shapes: dict[str, tuple[tuple[int, int, int, int], int, bool]] = {"stem": ((width, 12, 3, 3), 1, False)}

    def blocks(part: str, count: int, channels: int) -> None:
        for index in range(count):
            for half in ("first", "second"):
                shapes[f"{part}.{index}.{half}"] = ((channels, channels, 3, 3), 1, False)

    blocks("before", config.outer_blocks, width)
    shapes["down"] = ((mid, width, 2, 2), 2, False)
    blocks("middle", config.mid_blocks, mid)
    shapes["up"] = ((4 * width, mid, 1, 1), 1, False)
    blocks("after", config.outer_blocks, width)
    shapes["pixel_head"] = ((24, width, 3, 3), 1, True)
    shapes["variance_first"] = ((variance, width, 4, 4), 4, False)
    shapes["variance_second"] = ((config.coefficients, variance, 1, 1), 1, True)
    return shapes
