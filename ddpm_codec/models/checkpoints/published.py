"""The common form that every kind of model folder is read into."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.errors import ModelError
from ddpm_codec.nn.ddpm_unet import UNetConfig, weight_shapes


@dataclass(frozen=True, eq=False)
class Published:
    """A trained DDPM.

    Attributes:
        name: short name.
        unet: architecture.
        weights: by the names of :class:`~ddpm_codec.nn.ddpm_unet.network.UNet`, float32.
        process: schedule, kind of output, variance, clipping.
        sample_size: side of the pictures it was trained on.
        training: how it was made; free-form, informative.
    """

    name: str
    unet: UNetConfig
    weights: dict[str, Tensor]
    process: ReverseProcess
    sample_size: int
    training: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return what there is to say about it, ready for JSON."""
        return {
            "name": self.name,
            "parameters": sum(value.numel() for value in self.weights.values()),
            "timesteps": self.process.timesteps,
            "prediction": self.process.output,
            "variance": self.process.variance,
            "clip": self.process.clip,
            "sample_size": self.sample_size,
        }


def rename_weights(
    found: dict[str, Tensor], names: dict[str, str], config: UNetConfig, source: str
) -> dict[str, Tensor]:
    """Return weights under our names, checked against the architecture.

    Args:
        found: weights under the names of the source.
        names: for each of ours, that of the source.
        config: the architecture.
        source: for messages.

    Raises:
        ModelError: naming, in the words of the source, the first key that is missing, left over, not finite, or of a wrong
            shape.
    """
    renamed: dict[str, Tensor] = {}
    for key, shape in weight_shapes(config).items():
        theirs = names[key]
        if theirs not in found:
            raise ModelError(f"{source}: weight {theirs!r} is missing")
        renamed[key] = checked_weight(found[theirs], theirs, shape, source)
    left = sorted(set(found) - set(names.values()))
    if left:
        raise ModelError(f"{source}: unexpected weight {left[0]!r}")
    return renamed


def checked_weight(value: Tensor, name: str, shape: tuple[int, ...], source: str) -> Tensor:
    """Return a weight in single precision.

    Raises:
        ModelError: naming it, where it has another shape or holds other things than finite numbers.
    """
    if value.shape != shape:
        raise ModelError(f"{source}: weight {name!r} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    # Half and quarter precision: all the same to us.
    numbers = value.float() if value.is_floating_point() else value
    if not value.is_floating_point() or not torch.isfinite(numbers).all():
        raise ModelError(f"{source}: weight {name!r} must hold finite floating-point values")
    return numbers


def own_weights(found: dict[str, Tensor], config: UNetConfig, source: str) -> dict[str, Tensor]:
    """Return weights that have our names, checked as :func:`rename_weights` does."""
    return rename_weights(found, {name: name for name in weight_shapes(config)}, config, source)
