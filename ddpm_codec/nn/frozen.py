"""Frozen models: one safetensors file with weights, chains, prior and calibration, named by its SHA-256."""

import json
import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ddpm_codec.errors import ModelError
from ddpm_codec.model_header import FORMAT, KEY, read_metadata
from ddpm_codec.nn.codec_net import CodecNet, CodecNetConfig, macs_per_pixel
from ddpm_codec.nn.denoiser import CodecDenoiser


@dataclass(frozen=True)
class FrozenModel:
    """A denoiser with everything that a codec needs beside it.

    Attributes:
        name: short name.
        description: one line.
        config: of the network.
        transform: name of W.
        weights: the network's, kernels in float16.
        sigmas: for each K, the noise standard deviations sigma = 1 / sqrt(snr) of the chain's K + 1 levels in model
            values, cleanest first.
        default_steps: K of the default chain.
        tile: default side of tiles in pixels.
        prior_mean: mean of each coefficient of W x_0, [D].
        prior_variance: its variance, [D].
        grid_log_snr: candidate levels of the calibration, [G].
        class_mse: mean squared error of each coefficient class at each candidate level, [G, D].
        training: how it was made; free-form, informative.
    """

    name: str
    description: str
    config: CodecNetConfig
    transform: str
    weights: dict[str, Tensor]
    sigmas: dict[int, tuple[float, ...]]
    default_steps: int
    tile: int
    prior_mean: NDArray[np.float64]
    prior_variance: NDArray[np.float64]
    grid_log_snr: NDArray[np.float64]
    class_mse: NDArray[np.float64]
    training: dict[str, Any] = field(default_factory=dict)

    def chain_sigmas(self, steps: int | None = None) -> tuple[float, ...]:
        """Return the sigmas of the chain of ``steps`` steps (default: the model's own).

        Raises:
            ModelError: there is no chain of that length.
        """
        wanted = self.default_steps if steps is None else steps
        if wanted not in self.sigmas:
            known = sorted(self.sigmas)
            raise ModelError(f"model {self.name} has no chain of {wanted} steps; it has {known[0]} to {known[-1]}")
        return self.sigmas[wanted]

    def denoiser(self, device: torch.device) -> CodecDenoiser:
        """Return the denoiser in eval mode on ``device``.

        Raises:
            ModelError: the weights do not fit the network.
        """
        try:
            denoiser = CodecDenoiser(CodecNet(self.config))
            denoiser.load_state_dict({key: value.float() for key, value in self.weights.items()})
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"model {self.name}: weights do not fit ({_last_line(error)})") from error
        return denoiser.place(device).eval().requires_grad_(False)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _stored(weight: Tensor) -> Tensor:
    """Return kernels as float16, the few vectors and embedding matrices as they are."""
    return (weight.to(torch.float16) if weight.ndim == 4 else weight.float()).contiguous()


_ARRAYS = ("prior_mean", "prior_variance", "grid_log_snr", "class_mse")


def model_bytes(model: FrozenModel) -> bytes:
    """Serialise ``model``; the same model gives the same bytes."""
    parameters = sum(value.numel() for key, value in model.weights.items() if "frequencies" not in key)
    metadata = {
        "format": FORMAT,
        "name": model.name,
        "description": model.description,
        "config": asdict(model.config),
        "transform": model.transform,
        "sigmas": {str(steps): list(chain) for steps, chain in sorted(model.sigmas.items())},
        "default_steps": model.default_steps,
        "tile": model.tile,
        "parameters": parameters,
        "macs_per_pixel": macs_per_pixel(model.config),
        "training": model.training,
    }
    tensors = {f"weights.{key}": _stored(value) for key, value in model.weights.items()}
    tensors |= {key: torch.from_numpy(np.ascontiguousarray(getattr(model, key))) for key in _ARRAYS}
    return save(tensors, {KEY: json.dumps(metadata, sort_keys=True)})


def load_model(path: Path) -> FrozenModel:
    """Read a model file.

    Raises:
        ModelError: missing, damaged or foreign file.
    """
    metadata = read_metadata(path)
    try:
        tensors = load(path.read_bytes())
        model = FrozenModel(
            name=metadata["name"],
            description=metadata["description"],
            config=CodecNetConfig(**metadata["config"]),
            transform=metadata["transform"],
            weights={k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")},
            sigmas={int(steps): tuple(chain) for steps, chain in metadata["sigmas"].items()},
            default_steps=metadata["default_steps"],
            tile=metadata["tile"],
            training=metadata["training"],
            **{key: tensors[key].numpy().astype(np.float64) for key in _ARRAYS},
        )
        _check(model)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{path}: not a usable model file ({_last_line(error)})") from error
    return model


def _check(model: FrozenModel) -> None:
    """Check that the parts of a model fit each other.

    Raises:
        ValueError: naming the first that does not.
    """
    dims, grid = model.prior_mean.shape, model.grid_log_snr.shape
    if len(dims) != 1 or model.prior_variance.shape != dims or model.class_mse.shape != grid + dims:
        raise ValueError("the shapes of its prior and calibration differ")
    for steps, chain in model.sigmas.items():
        # Written so that a NaN is refused as well.
        ordered = all(0.0 < fine < coarse < math.inf for fine, coarse in pairwise(chain))
        if steps < 1 or len(chain) != steps + 1 or not ordered:
            raise ValueError(f"its chain of {steps} steps is not one")
    if model.default_steps not in model.sigmas:
        raise ValueError(f"it has no chain of its default length {model.default_steps}")
