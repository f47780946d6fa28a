"""Finds and reads the weights of a diffusers network: one file or shards, in full precision or a half-precision variant.

Source of the names: diffusers, utils/constants.py, and ``_add_variant`` of models/modeling_utils.py.
"""

import json
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm_codec.errors import ModelError
from ddpm_codec.models.checkpoints.files import read_json, read_tensors

STEM = "diffusion_pytorch_model"
VARIANTS = ("", ".fp32", ".fp16", ".bf16")
"""Precisions in order of preference; other variants, such as ``non_ema``, are other weights and are not taken."""
KINDS = (".safetensors", ".bin")

Names = list[tuple[str, bool]]


def _candidates() -> Names:
    """Return (file, whether it is an index of shards): the full precision first, then .safetensors, then the single file."""
    found: Names = []
    for variant, kind in product(VARIANTS, KINDS):
        found += [(f"{STEM}{variant}{kind}", False), (f"{STEM}{kind}.index{variant}.json", True)]
    return found


CANDIDATES = _candidates()
"""Names of weights in order of preference."""


def has_weights(folder: Path) -> bool:
    """Return whether ``folder`` holds weights under a name of diffusers."""
    return any((folder / name).is_file() for name, _ in CANDIDATES)


def find_weights(folder: Path) -> Path:
    """Return the file of the weights in ``folder``, or their index; the usual name where there is neither."""
    return next((folder / name for name, _ in CANDIDATES if (folder / name).exists()), folder / CANDIDATES[0][0])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, or of all shards that an index names.

    Args:
        path: of :func:`find_weights`.

    Raises:
        ModelError: naming the file that is missing or damaged, or the tensor that is missing, unexpected or there twice.
    """
    return read_tensors(path) if path.suffix != ".json" else _read_shards(path)


def _read_shards(index: Path) -> dict[str, Tensor]:
    places = _places(index)
    found: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        path = index.parent / shard
        if not path.is_file():
            raise ModelError(f"{path}: is missing, {index.name} names it")
        tensors = read_tensors(path)
        for key in tensors:
            if places.get(key) != shard:
                where = f"{index.name} has it in {places[key]}" if key in places else f"{index.name} does not name it"
                raise ModelError(f"{path}: tensor {key!r} is unexpected, {where}")
        found |= tensors
    missing = sorted(places.keys() - found.keys())
    if missing:
        raise ModelError(
            f"{index.parent / places[missing[0]]}: tensor {missing[0]!r} is missing, {index.name} names it"
        )
    return found


def _places(index: Path) -> dict[str, str]:
    """Return the shard of each tensor."""
    places = read_json(index, unique_keys=True).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index}: weight_map is missing or empty")
    kind = KINDS[0] if KINDS[0] in index.name else KINDS[1]
    for shard in places.values():
        # Nothing but the name of a file beside the index: links may lead elsewhere, as in caches, but an index may not.
        if not isinstance(shard, str) or Path(shard).name != shard or "\\" in shard or not shard.endswith(kind):
            raise ModelError(f"{index}: {_shown(shard)} is not the name of a {kind} file in this folder")
    return places


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
