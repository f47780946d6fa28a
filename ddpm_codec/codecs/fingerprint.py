"""Environment fingerprints of floating-point coding, and their check.

Floating-point results are reproducible only with the same software on the same kind of machine. A file coded with a
floating-point network records its environment; decoding in a different one is refused, naming what differs, rather than
returning noise.
"""

import hashlib
import platform
from importlib.metadata import version

import torch

from ddpm_codec.coding.tables import tables_hash
from ddpm_codec.errors import EnvironmentMismatchError

Fingerprint = dict[str, int | str]


def take_fingerprint(device: torch.device, dtype: str) -> Fingerprint:
    """Return everything that can change the last bit of a convolution, and the hash of the coding tables."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch gives it no type
        detail = f"CUDA {torch.version.cuda}, cuDNN {cudnn}"
    else:
        hardware, detail = _processor(), f"{torch.backends.cpu.get_cpu_capability()} {_features()}"
    return {
        "torch": torch.__version__,
        "device": device.type,
        "hardware": hardware,
        "detail": detail,
        "onednn": int(bool(torch.backends.mkldnn.enabled)),
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "tables": tables_hash()[:12],
        "coder": version("constriction"),
        "numpy": version("numpy"),
    }


def check_fingerprint(recorded: Fingerprint, here: Fingerprint, path: str) -> None:
    """Check that the environment a file was coded in matches the one it is decoded in.

    Raises:
        EnvironmentMismatchError: they differ; the message lists the differences.
    """
    differences = [
        f"{key} {recorded.get(key, 'unknown')} there, {here.get(key, 'unknown')} here"
        for key in sorted(set(recorded) | set(here))
        if recorded.get(key) != here.get(key)
    ]
    if differences:
        raise EnvironmentMismatchError(
            f"{path}: coded in floating point in another environment ({'; '.join(differences)})"
        )


def _features() -> str:
    """Return a short hash of the CPU's instruction sets, some of which a virtual machine may hide."""
    try:
        lines = _cpu_lines()
    except OSError:
        return ""
    flags = next((line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:8]


def _processor() -> str:
    """Return the name of the CPU, which determines the choice of kernels."""
    try:
        for line in _cpu_lines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cpu_lines() -> list[str]:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return file.read().splitlines()
