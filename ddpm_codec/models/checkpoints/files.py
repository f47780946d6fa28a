"""Reads the files of a model folder: JSON and tensors, never code."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ddpm_codec.errors import ModelError, one_line

MAX_JSON_BYTES = 1 << 22
LFS = b"version https://git-lfs"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: missing, too large, damaged, or something else than an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path}: too large for a configuration")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot read the configuration ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a JSON configuration") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a JSON object")
    return values


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a state dict saved by torch (loaded without executing its pickle).

    Raises:
        ModelError: missing or damaged file, or one that holds other things than tensors.
    """
    try:
        _refuse_pointer(path)
        if path.suffix == ".safetensors":
            return load(path.read_bytes())
        content = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: cannot read the weights ({error.strerror or 'damaged'})") from error
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged weights ({one_line(error)})") from error
    except Exception as error:  # damaged archives and refused pickles raise many kinds
        raise ModelError(f"{path}: not a state dict that loads without running code") from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ModelError(f"{path}: is not a dictionary of named tensors")
    strange = [
        key for key, value in content.items() if value.is_nested or value.layout != torch.strided or value.is_meta
    ]
    if strange:
        raise ModelError(f"{path}: tensor {strange[0]!r} is not a plain array")
    return {key: value.detach() for key, value in content.items()}


def _refuse_pointer(path: Path) -> None:
    """Refuse what git leaves where large files were not fetched.

    Raises:
        ModelError: it is such a file.
    """
    with path.open("rb") as stream:
        if stream.read(len(LFS)) == LFS:
            raise ModelError(f"{path}: is a git-lfs pointer; fetch the weights with `git lfs pull`")
