"""Where a network runs: the device, and the arithmetic that it computes fastest in."""

import os
from typing import Literal

import torch

from ddpm_codec.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; under ``torchrun``, the GPU of this process's LOCAL_RANK.

    Raises:
        InputError: cuda was asked for and there is none, or none left for this process.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise InputError(f"device {name!r}: use auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise InputError("device cuda: torch sees no CUDA device here")
    rank = os.environ.get("LOCAL_RANK")
    if rank is None:
        return torch.device("cuda")
    if int(rank) >= torch.cuda.device_count():
        raise InputError(
            f"device cuda: process {rank} of this host has no device, there are {torch.cuda.device_count()}"
        )
    return torch.device("cuda", int(rank))


def preferred_dtype(device: torch.device) -> Literal["bf16", "float32"]:
    """Return ``bf16`` where the processor computes in bfloat16, else ``float32``."""
    if device.type == "cuda":
        return "bf16"
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has_bf16() else "float32"


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """Return the context in which convolutions compute in bfloat16 where ``dtype`` is ``bf16``, else in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bf16")
