"""Reads the files of a model folder: JSON and tensors, never code."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ddpm_codec.errors import ModelError, one_line

MAX_JSON_BYTES = 1 << 22
LFS = b"version https://git-lfs"


def read_json(path: Path, *, unique_keys: bool = False) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: of the file.
        unique_keys: refuse an object that has a key twice, instead of taking the last.

    Raises:
        ModelError: missing, too large, damaged, or something else than an object.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise ModelError(f"{path}: key {twice!r} is there twice")
        return values

    try:
        values = json.loads(_content(path).decode("utf-8"), object_pairs_hook=unique if unique_keys else None)
    except ModelError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a JSON configuration") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a JSON object")
    return values


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_JSON_BYTES else b""
    except OSError as error:
        raise ModelError(f"{path}: cannot read the configuration ({error.strerror})") from error
    if size > MAX_JSON_BYTES:
        raise ModelError(f"{path}: too large for a configuration")
    return content


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
