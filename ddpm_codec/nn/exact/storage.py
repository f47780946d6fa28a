"""The exact network as named arrays, as a model file stores it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import ModelError
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

_RESCALING = ("pre_shift", "multiplier", "bias", "shift")

LARGEST_NUMBER = 1 << 40
"""Magnitude of any number of an exact network."""

LARGEST_SIZE = 4096
"""Of a width or depth in a model file."""


Shapes = dict[str, tuple[tuple[int, int, int, int], int, bool]]
"""(Shape of the kernel, stride, whether it is a head) by layer."""


def to_arrays(parameters: ExactParameters) -> dict[str, NDArray[np.generic]]:
    """Return every number of the network by name, in the smallest type of a fixed few that holds it."""
    return layers_to_arrays(parameters.layers) | heads_to_arrays(parameters.heads)


def from_arrays(config: CodecNetConfig, levels: int, arrays: Mapping[str, NDArray[np.generic]]) -> ExactParameters:
    """Return the network of :func:`to_arrays`, checked.

    Raises:
        ValueError: a size that no network has.
        ModelError: a part is missing, it could overflow, or its parts do not fit each other.
    """
    sizes = [config.width, config.mid_width, config.outer_blocks, config.mid_blocks, config.variance_width]
    if not all(type(size) is int and 0 < size <= LARGEST_SIZE for size in [*sizes, config.coefficients]):
        raise ValueError(f"network sizes must be integers from 1 to {LARGEST_SIZE}")
    layers = layers_from_arrays(layer_shapes(config), arrays)
    heads = Heads(**{field.name: read_integers(f"heads.{field.name}", arrays) for field in fields(Heads)})
    parameters = ExactParameters(config, layers, heads, levels)
    parameters.check()
    return parameters


def layers_to_arrays(layers: Mapping[str, Convolution]) -> dict[str, NDArray[np.generic]]:
    """Return the numbers of layers by name."""
    out: dict[str, NDArray[np.generic]] = {}
    for name, layer in layers.items():
        out[f"{name}.weight"] = layer.weight.astype(np.int8)
        out[f"{name}.offset"] = layer.offset.astype(np.int32)
        out[f"{name}.limit"] = np.array([layer.reading.limit], np.int32)
        for field in _vectors(type(layer.reading)):
            out[f"{name}.read.{field}"] = getattr(layer.reading, field).astype(np.int32)
        if layer.rescaling is not None:
            out |= {f"{name}.scale.{key}": getattr(layer.rescaling, key).astype(np.int32) for key in _RESCALING}
    return out


def heads_to_arrays(heads: Any) -> dict[str, NDArray[np.generic]]:  # noqa: ANN401 - any dataclass of arrays
    """Return the arrays of a dataclass by name."""
    return {f"heads.{field.name}": getattr(heads, field.name).astype(np.int64) for field in fields(heads)}


def layers_from_arrays(
    shapes: Shapes, arrays: Mapping[str, NDArray[np.generic]], readings: Mapping[str, type[Reading]] | None = None
) -> dict[str, Convolution]:
    """Return the layers of :func:`layers_to_arrays`, of which the sizes are checked and nothing else.

    Args:
        shapes: of the layers.
        arrays: their numbers.
        readings: the kind of reading of those layers that have another than most.

    Raises:
        ValueError: a limit is more than one number.
        ModelError: a part is missing, sizes do not fit each other, or values are no integers.
    """
    layers = {}
    for name, (shape, stride, head) in shapes.items():
        kind = (readings or {}).get(name, Reading)
        inputs = {key: read_integers(f"{name}.read.{key}", arrays) for key in _vectors(kind)}
        reading = kind(**inputs, limit=int(read_integers(f"{name}.limit", arrays).item()))
        parts = {} if head else {key: read_integers(f"{name}.scale.{key}", arrays) for key in _RESCALING}
        weight, offset = (read_integers(f"{name}.{key}", arrays) for key in ("weight", "offset"))
        rows = [parts[key] for key in ("multiplier", "bias") if parts]
        vectors = [offset] + [parts[key] for key in ("pre_shift", "shift") if parts]
        if (
            weight.shape != shape
            or any(vector.shape != shape[:1] for vector in vectors)
            or any(row.ndim != 2 or row.shape[1:] != shape[:1] for row in rows)
            or any(vector.shape != shape[1:2] for vector in inputs.values())
        ):
            raise refuse(name, "array shapes do not match the network")
        rescaling = None if head else Rescaling(**parts)
        layers[name] = Convolution(weight, offset, stride, reading, rescaling)
    return layers


def read_integers(name: str, arrays: Mapping[str, NDArray[np.generic]]) -> Array:
    """Return an array as int64.

    Raises:
        ModelError: there is none of that name, or it does not hold integers of at most 40 bits.
    """
    if name not in arrays:
        raise ModelError(f"lacks {name}: made by a pre-release")
    if arrays[name].dtype.kind != "i":
        raise refuse(name, "values are not integers")
    values = arrays[name].astype(np.int64)
    # abs(INT64_MIN) overflows, so bounds would accept it.
    if values.min(initial=0) < -LARGEST_NUMBER or values.max(initial=0) > LARGEST_NUMBER:
        raise refuse(name, "a value needs more than 40 bits")
    return values


def _vectors(kind: type[Reading]) -> list[str]:
    return [field.name for field in fields(kind) if field.name != "limit"]


def layer_shapes(config: CodecNetConfig) -> Shapes:
    """Return the shapes of all layers, in the order of the network."""
    width, variance = config.width, config.variance_width
    shapes = trunk_shapes(config)
    shapes["pixel_head"] = ((24, width, 3, 3), 1, True)
    shapes["variance_first"] = ((variance, width, 4, 4), 4, False)
    shapes["variance_second"] = ((config.coefficients, variance, 1, 1), 1, True)
    return shapes


def trunk_shapes(config: CodecNetConfig) -> Shapes:
    """Return the shapes of the layers under the heads."""
    width, mid = config.width, config.mid_width
    shapes: Shapes = {"stem": ((width, 12, 3, 3), 1, False)}

    def blocks(part: str, count: int, channels: int) -> None:
        for index in range(count):
            for half in ("first", "second"):
                shapes[f"{part}.{index}.{half}"] = ((channels, channels, 3, 3), 1, False)

    blocks("before", config.outer_blocks, width)
    shapes["down"] = ((mid, width, 2, 2), 2, False)
    blocks("middle", config.mid_blocks, mid)
    shapes["up"] = ((4 * width, mid, 1, 1), 1, False)
    blocks("after", config.outer_blocks, width)
    return shapes
