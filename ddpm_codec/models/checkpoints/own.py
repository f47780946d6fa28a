"""Our own folders of a trained DDPM: ``model.json`` with architecture and process, ``weights.safetensors`` (or ``.pt``).

The schedule is stored as the numbers ln alpha_bar of its timesteps, whatever formula they came from.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.files import read_json, read_tensors
from ddpm_codec.models.checkpoints.published import Published, own_weights
from ddpm_codec.nn.ddpm_unet import UNetConfig

CONFIG, WEIGHTS = "model.json", "weights.safetensors"
FORMAT = "ddpm-codec ddpm 1"
SCHEDULE = "log_alpha_bar"


def is_own(folder: Path) -> bool:
    """Return whether ``folder`` holds a model of ours."""
    return (folder / CONFIG).is_file()


def read_own(folder: Path) -> Published:
    """Read a folder that :func:`own_files` describes.

    Raises:
        ModelError: naming the file and the key or shape that is wrong.
    """
    config = read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise ModelError(f"{folder / CONFIG}: format {config.get('format')!r}, expected {FORMAT!r}")
    path = folder / WEIGHTS
    if not path.exists() and path.with_suffix(".pt").exists():
        path = path.with_suffix(".pt")
    tensors = read_tensors(path)
    levels = tensors.pop(SCHEDULE, None)
    if levels is None or not levels.is_floating_point():
        raise ModelError(f"{path}: tensor {SCHEDULE!r} is missing or not floating point")
    try:
        unet = UNetConfig.from_dict(config["unet"])
        process = ReverseProcess(
            NoiseSchedule(levels.double().numpy()), config["prediction"], config["variance"], config["clip"]
        )
        sample_size, name, clip = config["sample_size"], config["name"], config["clip"]
    except KeyError as error:
        raise ModelError(f"{folder / CONFIG}: {error} is missing") from error
    except (InputError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from error
    if type(sample_size) is not int or not 1 <= sample_size <= 8192 or type(name) is not str:
        raise ModelError(
            f"{folder / CONFIG}: sample_size = {sample_size!r} must be an integer from 1 to 8192, name = {name!r} a string"
        )
    if type(clip) is not bool or config.get("timesteps", process.timesteps) != process.timesteps:
        raise ModelError(f"{folder / CONFIG}: clip must be true or false, and timesteps the length of the schedule")
    if unet.channels != 3:
        raise ModelError(f"{folder / CONFIG}: channels = {unet.channels}: must be 3")
    _check_range(unet, process, str(folder / CONFIG))
    weights = own_weights(tensors, unet, str(path))
    training = config.get("training", {})
    return Published(name, unet, weights, process, sample_size, training if isinstance(training, dict) else {})


def own_files(model: Published) -> dict[str, bytes]:
    """Return the files of a folder, by name; weights in float16 but for vectors."""
    process = model.process
    config: dict[str, Any] = {
        "format": FORMAT,
        "name": model.name,
        "unet": model.unet.to_dict(),
        "prediction": process.output,
        "variance": process.variance,
        "clip": process.clip,
        "timesteps": process.timesteps,
        "sample_size": model.sample_size,
        "training": model.training,
    }
    tensors = {key: _stored(value).contiguous() for key, value in model.weights.items()}
    tensors[SCHEDULE] = torch.from_numpy(process.schedule.log_alpha_bar.copy())
    return {CONFIG: (json.dumps(config, indent=2) + "\n").encode(), WEIGHTS: save(tensors)}


def _stored(value: Tensor) -> Tensor:
    """Return matrices and kernels in half precision where that holds them, everything else as it is."""
    half = value.half()
    return half if value.ndim > 1 and bool(torch.isfinite(half).all()) else value.float()


def _check_range(unet: UNetConfig, process: ReverseProcess, source: str) -> None:
    """Check that the network has channels for a learned range of variances where the process has one, and else not.

    Raises:
        ModelError: it is not so.
    """
    if unet.learned_range != (process.variance == "learned-range"):
        raise ModelError(f"{source}: variance {process.variance!r} does not match {unet.out_channels} output channels")
