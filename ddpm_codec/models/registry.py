"""Names, identities and sizes of models. Reads headers only and never imports torch."""

import hashlib
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ddpm_codec.errors import ModelError
from ddpm_codec.models.header import read_metadata

FOLDER = Path(__file__).parent / "shipped"
SUFFIX = ".safetensors"
DEFAULT = "photo"

ModelName = str | os.PathLike[str]
"""A model: the name of one that ships, or the path of a file or folder."""

_DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "config.json")
FOLDER_FILES = (
    *("model.json", "weights.safetensors", "weights.pt", "calibration.safetensors", "flags.json", "model_index.json"),
    *_DIFFUSERS,
    *(f"unet/{name}" for name in _DIFFUSERS),
    *("scheduler_config.json", "scheduler/scheduler_config.json"),
)
"""The files that make up a model in a folder of whatever kind, and beside flags.json its one .pt file."""
FOLDER_MARKS = ("model.json", "config.json", "unet/config.json", "flags.json")
"""Each belongs to one kind of folder, see :mod:`ddpm_codec.models.checkpoints`."""


@dataclass(frozen=True)
class ModelInfo:
    """What the header of a model file records.

    Attributes:
        name: as in ``--model``.
        id: SHA-256 of the file, hexadecimal; the identity that coded files carry.
        path: the file.
        bytes: its size.
        parameters: weights of the networks.
        macs_per_pixel_per_level: multiply-adds of one evaluation of the denoiser per pixel.
        decoder_macs_per_pixel: multiply-adds of the pixel decoder per pixel, trunk and masked network; 0 without one.
        steps: K of the default chain.
        macs_per_pixel_total: multiply-adds per pixel over the whole default chain: K evaluations and the pixel decoder, or
            K + 1 evaluations.
        crossings: noise at which the pixel decoder can take over, in grey levels; empty without one.
        crossing: that of the default chain; None without a pixel decoder.
        progressive_steps: K of the chain of progressive files; None: as the size of a picture wants.
        progressive_crossing: the crossing of that chain; None without a pixel decoder.
        description: one line.

    Examples:
        >>> import ddpm_codec
        >>> model = ddpm_codec.list_models()[1]
        >>> model.name, model.steps, model.parameters
        ('photo', 4, 3779648)
    """

    name: str
    id: str
    path: str
    bytes: int
    parameters: int
    macs_per_pixel_per_level: float
    decoder_macs_per_pixel: float
    steps: int
    macs_per_pixel_total: float
    crossings: tuple[float, ...]
    crossing: float | None
    progressive_steps: int | None
    progressive_crossing: float | None
    description: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary."""
        return asdict(self)


def model_id(path: Path) -> str:
    """Return the SHA-256 of a model file, hexadecimal; of a folder, that of the names and hashes of the model's files.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        if not path.is_dir():
            found = path.stat()
            return _digest(path.resolve(), found.st_mtime_ns, found.st_size)
        files = [(name, path / name) for name in FOLDER_FILES if (path / name).is_file()]
        files += [("state", file) for file in sorted(path.glob("*.pt")) if (path / "flags.json").is_file()]
        lines = [f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for name, file in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from error


@lru_cache(maxsize=16)
def _digest(path: Path, _changed: int, _size: int) -> str:
    """Return the SHA-256 of a file, read once for as long as it does not change."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(path: Path) -> ModelInfo:
    """Return what the header of the model file at ``path`` records.

    Raises:
        ModelError: missing, damaged or foreign file.
    """
    metadata = read_metadata(path)
    try:
        macs, steps = float(metadata["macs_per_pixel"]), int(metadata["default_steps"])
        crossings = tuple(map(float, metadata["crossings"]))
        of_decoder = sum(float(metadata[f"{part}_macs_per_pixel"]) for part in ("trunk", "masked") if crossings)
        more, progressive = metadata.get("decoder_parameters", 0), metadata["progressive_steps"]

        def crossing(key: str) -> float | None:
            return crossings[metadata[key]] if crossings else None

        return ModelInfo(
            name=str(metadata["name"]),
            id=model_id(path),
            path=str(path),
            bytes=path.stat().st_size,
            parameters=int(metadata["parameters"]) + int(more),
            macs_per_pixel_per_level=macs,
            decoder_macs_per_pixel=of_decoder,
            steps=steps,
            macs_per_pixel_total=macs * steps + of_decoder if crossings else macs * (steps + 1),
            crossings=crossings,
            crossing=crossing("default_crossing"),
            progressive_steps=None if progressive is None else int(progressive),
            progressive_crossing=crossing("progressive_crossing"),
            description=str(metadata["description"]),
        )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"{path}: the model's metadata is incomplete ({error})") from error


def shipped_models() -> list[Path]:
    """Return the files of the models that ship with the package, by name."""
    return sorted(FOLDER.glob(f"*{SUFFIX}"))


def list_models() -> list[ModelInfo]:
    """Return the models that ship with the package, by name.

    Examples:
        >>> import ddpm_codec
        >>> [model.name for model in ddpm_codec.list_models()]
        ['cifar10', 'photo']
    """
    return [describe(path) for path in shipped_models()]


def find_model(name_or_file: ModelName) -> Path:
    """Return the model file of a shipped name, or of a path: a file, or the folder of a trained DDPM.

    Raises:
        ModelError: neither exists.
    """
    name_or_file = os.fspath(name_or_file)
    if not name_or_file:
        raise ModelError("the name of the model is empty")
    shipped = FOLDER / f"{name_or_file}{SUFFIX}"
    if "/" not in name_or_file and os.path.isfile(shipped):
        return shipped
    # Not Path.is_file, which raises where the name is too long or may not be looked at.
    if os.path.isfile(name_or_file) or _holds_model(name_or_file):
        return Path(name_or_file)
    if os.path.isdir(name_or_file):
        raise ModelError(
            f"{name_or_file}: is a folder without a model ({', '.join(FOLDER_MARKS)}); "
            "convert a training run with `ddpm-codec export`"
        )
    known = ", ".join(p.stem for p in shipped_models()) or "none"
    raise ModelError(f"{name_or_file}: no such model or file; shipped models: {known}")


def _holds_model(folder: str) -> bool:
    """Return whether a folder has a file that says which trained DDPM is in it."""
    return any(os.path.isfile(os.path.join(folder, mark)) for mark in FOLDER_MARKS)


def shipped_name(identity: str) -> str | None:
    """Return the name of the model that ships and whose SHA-256 begins so; None where there is none."""
    return next((path.stem for path in shipped_models() if model_id(path).startswith(identity)), None)


def find_by_id(wanted: str, extra: ModelName | None = None) -> Path:
    """Return the model file whose SHA-256 is ``wanted``.

    Args:
        wanted: hexadecimal, or the beginning of it.
        extra: where given, this one (a file, or a name as of :func:`find_model`) and no other is taken.

    Raises:
        ModelError: no model that ships has that identity, or ``extra`` has not.
    """
    candidates = shipped_models() if extra is None else [find_model(extra)]
    for path in candidates:
        if model_id(path).startswith(wanted):
            return path
    hint = f"{extra} is another model" if extra is not None else "which is not installed; pass its file with --model"
    raise ModelError(f"was coded with model {wanted[:16]}..., {hint}")
