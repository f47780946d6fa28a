"""Reads model folders of any kind, offline and without running code from them."""

import hashlib
from pathlib import Path

import numpy as np

from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models.checkpoints.diffusers import is_diffusers, read_diffusers
from ddpm_codec.models.checkpoints.guided import is_guided, read_guided
from ddpm_codec.models.checkpoints.own import is_own, read_own
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.nn.ddpm_unet import UNetConfig

KINDS = ((is_own, read_own), (is_diffusers, read_diffusers), (is_guided, read_guided))


def read_folder(folder: Path) -> Published:
    """Read the model in ``folder``: our own, a diffusers folder, or an improved- or guided-diffusion state dict with flags.

    Raises:
        ModelError: there is none, or naming the file and the key or shape that is wrong.
    """
    for holds, read in KINDS:
        if holds(folder):
            try:
                return read(folder)
            except InputError as error:
                raise ModelError(f"{folder}: {error}") from error
    raise ModelError(
        f"{folder}: contains no model (model.json, a diffusers config.json, or flags.json with one .pt file)"
    )


def weights_id(model: Published) -> str:
    """Return the SHA-256 of weights, process and architecture, hexadecimal."""
    usual = UNetConfig().to_dict()
    # Only what differs from the usual, so that a field that is added later changes nothing; dropout is of training alone.
    unusual = {key: value for key, value in model.unet.to_dict().items() if key != "dropout" and value != usual[key]}
    digest = hashlib.sha256()
    process = model.process
    digest.update(repr((sorted(unusual.items()), process.output, process.variance, process.clip)).encode())
    # Rounded, since a schedule that is computed from its formula may differ in the last bit on another processor.
    digest.update(np.round(process.schedule.log_alpha_bar, 9).tobytes())
    for key in sorted(model.weights):
        digest.update(key.encode())
        digest.update(model.weights[key].contiguous().numpy().tobytes())
    return digest.hexdigest()
