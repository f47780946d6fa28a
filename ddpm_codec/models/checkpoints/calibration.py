"""The calibration file beside the weights of a model."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ddpm_codec.diffusion.measurement import Calibration
from ddpm_codec.errors import ModelError
from ddpm_codec.models.checkpoints.files import read_tensors

CALIBRATION = "calibration.safetensors"
CLASSES = 192
KEY = "ddpm_codec"


def calibration_bytes(calibration: Calibration, weights_id: str, images: int, data: str) -> bytes:
    """Return the file of a calibration.

    Args:
        calibration: mean squared errors in the colour x 8x8 transform.
        weights_id: of the weights that it was measured with.
        images: how many it was measured on.
        data: where they came from, informative.
    """
    arrays = {"log_snr": calibration.log_snr, "class_mse": calibration.mse}
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    # One entry: of several, safetensors writes the order of a hash, and the same calibration would not be the same file.
    facts = {"weights": weights_id, "images": images, "data": data}
    return save(tensors, {KEY: json.dumps(facts, sort_keys=True)})


def read_calibration(folder: Path, weights_id: str) -> Calibration | None:
    """Return the calibration in ``folder``; None where there is none.

    Raises:
        ModelError: it is damaged, or of other weights.
    """
    path = folder / CALIBRATION
    if not path.exists():
        return None
    tensors = read_tensors(path)
    try:
        with safe_open(str(path), "pt") as file:
            facts = json.loads((file.metadata() or {})[KEY])
            measured_with = facts["weights"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged calibration") from error
    if measured_with != weights_id:
        raise ModelError(f"{path}: was measured with other weights; run `ddpm-codec calibrate` again")
    levels, mse = tensors.get("log_snr"), tensors.get("class_mse")
    if levels is None or mse is None:
        raise ModelError(f"{path}: tensor {'log_snr' if levels is None else 'class_mse'!r} is missing")
    if levels.ndim != 1 or len(levels) < 2 or mse.shape != (len(levels), CLASSES):
        raise ModelError(
            f"{path}: expected log_snr [G] and class_mse [G, {CLASSES}], got {list(levels.shape)} and {list(mse.shape)}"
        )
    log_snr, errors = levels.numpy().astype(np.float64), mse.numpy().astype(np.float64)
    if not (np.isfinite(log_snr).all() and np.isfinite(errors).all()):
        raise ModelError(f"{path}: holds values that are not finite")
    if (np.diff(log_snr) >= 0).any() or (errors <= 0).any():
        raise ModelError(f"{path}: levels must decrease and errors be positive")
    return Calibration(log_snr, errors)
