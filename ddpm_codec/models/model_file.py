"""The file of a frozen model: one safetensors file with networks, chains, prior and calibration, named by its SHA-256."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ddpm_codec.diffusion.transform import by_name
from ddpm_codec.errors import ModelError, one_line
from ddpm_codec.models.frozen import FrozenModel, Key
from ddpm_codec.models.header import DECODER_KIND, FORMAT, KEY, read_metadata
from ddpm_codec.nn.codec_net import CodecNetConfig, macs_per_pixel, parameter_count
from ddpm_codec.nn.exact.decoder_parameters import ExactPixelDecoder
from ddpm_codec.nn.exact.decoder_storage import decoder_from_arrays, decoder_to_arrays
from ddpm_codec.nn.exact.storage import from_arrays, to_arrays
from ddpm_codec.nn.pixel_decoder import PixelDecoderConfig, checked_crossings, decoder_macs_per_pixel
from ddpm_codec.nn.pixel_decoder import parameter_count as decoder_parameter_count
from ddpm_codec.units import GREY_PER_UNIT

Number = TypeVar("Number", int, float)

_ARRAYS = ("prior_mean", "prior_variance", "grid_log_snr", "class_mse")


def model_bytes(model: FrozenModel) -> bytes:
    """Serialise ``model``; the same model gives the same bytes."""
    metadata = {
        "format": FORMAT,
        "name": model.name,
        "description": model.description,
        "config": asdict(model.config),
        "transform": model.transform,
        "sigmas": _by_text(model.sigmas),
        "default_steps": model.default_steps,
        "default_crossing": model.default_crossing,
        "progressive_steps": model.progressive_steps,
        "progressive_crossing": model.progressive_crossing,
        "crossings": list(model.crossings),
        "tile": model.tile,
        "arithmetic": model.arithmetic,
        "rows": _by_text(model.rows),
        "tables": model.tables,
        "parameters": parameter_count(model.config),
        "macs_per_pixel": macs_per_pixel(model.config),
        "training": model.training,
    }
    if model.decoder is not None:
        metadata |= _decoder_metadata(model.decoder)
    tensors = {f"weights.{key}": _stored(value) for key, value in model.weights.items()}
    if model.exact is not None:
        tensors |= _tensors("exact", to_arrays(model.exact))
    if model.decoder is not None:
        tensors |= _tensors("decoder", decoder_to_arrays(model.decoder))
    tensors |= {key: torch.from_numpy(np.ascontiguousarray(getattr(model, key))) for key in _ARRAYS}
    return save(tensors, {KEY: json.dumps(metadata, sort_keys=True)})


def load_model(path: Path) -> FrozenModel:
    """Read a model file.

    Raises:
        ModelError: missing, damaged or foreign file.
    """
    metadata = read_metadata(path)
    if metadata.get("kind") == DECODER_KIND:
        raise ModelError(f"{path}: is a pixel decoder, not a denoiser; pass it as `bpd --decoder`")
    try:
        model = _read(metadata, load(path.read_bytes()))
        _check(model, metadata["arithmetic"])
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{path}: not a usable model file ({one_line(error)})") from error
    return model


def _read(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> FrozenModel:
    config = CodecNetConfig(**metadata["config"])
    exact, decoder = _arrays("exact", tensors), _arrays("decoder", tensors)
    crossings = checked_crossings(tuple(map(float, metadata["crossings"]))) if metadata["crossings"] else ()
    decoder_config = PixelDecoderConfig.from_dict(metadata["decoder_config"]) if decoder else None
    return FrozenModel(
        name=metadata["name"],
        description=metadata["description"],
        config=config,
        exact=from_arrays(config, len(tensors["grid_log_snr"]), exact) if exact else None,
        rows=_by_key(metadata["rows"]),
        tables=metadata["tables"],
        transform=metadata["transform"],
        weights={k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")},
        sigmas=_by_key(metadata["sigmas"]),
        default_steps=metadata["default_steps"],
        default_crossing=metadata["default_crossing"],
        progressive_steps=metadata["progressive_steps"],
        progressive_crossing=metadata["progressive_crossing"],
        crossings=crossings,
        decoder=None if decoder_config is None else decoder_from_arrays(decoder_config, len(crossings), decoder),
        tile=metadata["tile"],
        training=metadata["training"],
        **{key: tensors[key].numpy().astype(np.float64) for key in _ARRAYS},
    )


def _decoder_metadata(decoder: ExactPixelDecoder) -> dict[str, Any]:
    trunk, masked = decoder_macs_per_pixel(decoder.config)
    return {
        "decoder_config": decoder.config.to_dict(),
        "decoder_parameters": decoder_parameter_count(decoder.config),
        "trunk_macs_per_pixel": trunk,
        "masked_macs_per_pixel": masked,
    }


def _tensors(prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}


def _arrays(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.generic]]:
    start = f"{prefix}."
    return {key.removeprefix(start): value.numpy() for key, value in tensors.items() if key.startswith(start)}


def _by_text(chains: dict[Key, tuple[Number, ...]]) -> dict[str, list[Number]]:
    """Return chains by "crossing:K", as JSON has them."""
    return {f"{crossing}:{steps}": list(chain) for (crossing, steps), chain in sorted(chains.items())}


def _by_key(chains: dict[str, list[Any]]) -> dict[Key, tuple[Any, ...]]:
    """Return what :func:`_by_text` was given.

    Raises:
        ValueError: a key that is none.
    """
    found = {}
    for text, chain in chains.items():
        crossing, steps = text.split(":")
        found[int(crossing), int(steps)] = tuple(chain)
    return found


def _stored(weight: Tensor) -> Tensor:
    """Return kernels as float16, the few vectors and embedding matrices as they are."""
    return (weight.to(torch.float16) if weight.ndim == 4 else weight.float()).contiguous()


def _check(model: FrozenModel, arithmetic: str) -> None:
    """Check that the parts of a model fit each other.

    Raises:
        ValueError: naming the first that does not.
    """
    if model.arithmetic != arithmetic:
        raise ValueError(f"the network is not {arithmetic}")
    dims, grid = model.prior_mean.shape, model.grid_log_snr.shape
    if len(dims) != 1 or model.prior_variance.shape != dims or model.class_mse.shape != grid + dims:
        raise ValueError("the shapes of its prior and calibration do not match")
    if not (np.isfinite(model.prior_mean).all() and np.isfinite(model.prior_variance).all()):
        raise ValueError("the prior is not finite")
    if not isinstance(model.tables, str) or dims != (by_name(model.transform).dims,):
        raise ValueError("the prior does not match the coefficients of the transform")
    _check_crossings(model)
    _check_chains(model)


def _check_crossings(model: FrozenModel) -> None:
    """Check that crossings and pixel decoder belong together.

    Raises:
        ValueError: they do not.
    """
    if (model.decoder is not None) != bool(model.crossings):
        raise ValueError("crossings need a pixel decoder, and a pixel decoder needs crossings")
    if model.decoder is None:
        return
    if model.exact is None:
        raise ValueError("an exact pixel decoder needs an exact denoiser")


def _check_chains(model: FrozenModel) -> None:
    """Check chains, their rows, and that the default ones exist.

    Raises:
        ValueError: naming the first that does not do.
    """
    for (crossing, steps), chain in model.sigmas.items():
        # Written so that a NaN is refused as well.
        ordered = all(0.0 < fine < coarse < math.inf for fine, coarse in pairwise(chain))
        if steps < 1 or len(chain) != steps + 1 or not ordered:
            raise ValueError(f"chain of {steps} steps: needs {steps + 1} finite, increasing positive sigmas")
        if not 0 <= crossing < max(1, len(model.crossings)):
            raise ValueError(f"chain of {steps} steps: there is no crossing {crossing}")
        if model.crossings and not math.isclose(chain[0] * GREY_PER_UNIT, model.crossings[crossing], rel_tol=1e-9):
            raise ValueError(f"chain of {steps} steps: does not begin at crossing {crossing}")
    if model.exact is not None:
        most, first = model.exact.levels, 0 if model.decoder is None else 1
        fits = [
            len(rows) == key[1] + 1 - first and all(type(row) is int and 0 <= row < most for row in rows)
            for key, rows in model.rows.items()
        ]
        if model.rows.keys() != model.sigmas.keys() or not all(fits):
            raise ValueError("its chains do not have rows in its tables")
    if (model.default_crossing, model.default_steps) not in model.sigmas:
        raise ValueError(f"no chain of the default length, {model.default_steps} steps")
    progressive = (model.progressive_crossing, model.progressive_steps or model.default_steps)
    if progressive not in model.sigmas:
        raise ValueError(f"no chain of {progressive[1]} steps for progressive files")
