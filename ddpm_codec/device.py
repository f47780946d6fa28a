"""Where a network runs: the device, and the arithmetic that it computes fastest in."""

import os
from typing import Literal

import torch

from ddpm_codec.errors import EnvironmentMismatchError, InputError


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; under ``torchrun``, the GPU of this process's LOCAL_RANK.

    Raises:
        InputError: cuda was asked for and there is none, or none left for this process; or CUDA was in use when this process
            was forked from another, where ``auto`` is the CPU.
    """
    if name == "cpu" or (name == "auto" and (torch.cuda._is_in_bad_fork() or not torch.cuda.is_available())):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise InputError(f"device {name!r}: use auto, cpu or cuda")
    check_forked(torch.device("cuda"))
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


def check_forked(device: torch.device) -> None:
    """Check that a process can use ``device``.

    Raises:
        InputError: CUDA was in use when this process was forked from another.
    """
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise InputError("device cuda: does not survive a fork; start processes by spawn or forkserver")


def float32_may_round(device: torch.device) -> bool:
    """Return whether this process lets matrix products of float32 round what they multiply, to TF32 or bfloat16."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    chosen = getattr(getattr(backend, "matmul", None), "fp32_precision", None)
    if chosen is None:
        # Before torch 2.9 there was one setting for all.
        return torch.get_float32_matmul_precision() != "highest"
    return chosen not in ("none", "ieee")


def check_precision(device: torch.device) -> None:
    """Check that a network in floating point computes what it would in another process on the same machine.

    Raises:
        EnvironmentMismatchError: see :func:`float32_may_round`.
    """
    if float32_may_round(device):
        raise EnvironmentMismatchError(
            "torch may round products of float32 in this process; coding in floating point needs "
            'torch.set_float32_matmul_precision("highest"), which is the default'
        )


def preferred_dtype(device: torch.device) -> Literal["bf16", "float32"]:
    """Return ``bf16`` where the processor computes in bfloat16, else ``float32``."""
    if device.type == "cuda":
        return "bf16"
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has_bf16() else "float32"


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """Return the context in which convolutions compute in bfloat16 where ``dtype`` is ``bf16``, else in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bf16")
