"""What the benchmarks share: where they ran, the data they look for, tables and JSON."""

import importlib.metadata
import io
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import MissingDependencyError
from ddpm_codec.rate_distortion.libjxl import Libjxl
from ddpm_codec.rate_distortion.versions import peer_versions, versions_line

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PACKAGES = ("torch", "numpy", "constriction", "pillow", "pillow-jxl-plugin", "imagecodecs")

Pixels = NDArray[np.uint8]


def machine() -> dict[str, Any]:
    """Return processor, cores, system and versions of packages and of the libraries behind the peers."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": versions,
        "peers": peer_versions(),
        "command": " ".join(["python", "-m", "benchmarks." + Path(sys.argv[0]).stem, *sys.argv[1:]]),
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def peers_line(libjxl: Libjxl | None = None) -> str:
    """Return one line: the libraries behind the peers and their versions."""
    return versions_line(peer_versions(libjxl))


def current_libjxl(path: str | None) -> Libjxl | None:
    """Return libjxl 0.12 or later; say in one line why there is none, for older ones make far larger progressive files."""
    try:
        libjxl = Libjxl(path)
    except MissingDependencyError as error:
        print(f"without progressive JPEG XL: {error}")
        return None
    if tuple(map(int, libjxl.version.split("."))) < (0, 12):
        print(
            f"without progressive JPEG XL: libjxl {libjxl.version} is old (imagecodecs 2026.10 has 0.12; --libjxl FILE)"
        )
        return None
    return libjxl


def need(path: Path) -> Path:
    """Return ``path``, or leave with one line where the data is not there."""
    if not path.exists():
        sys.exit(f"{path} is not here: this benchmark needs it")
    return path


def write_json(values: dict[str, Any], path: Path | None) -> None:
    """Write figures beside the machine they came from."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values | {"machine": machine()}, indent=1) + "\n")


def table(headers: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:  # noqa: ANN401 - any cell
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def has_jxl() -> bool:
    """Say whether Pillow can write JPEG XL here."""
    try:
        import pillow_jxl  # noqa: F401 - registers with Pillow
    except ImportError:
        return False
    return True


def peer_bytes(pixels: Pixels, codec: str) -> int:
    """Return the size of ``pixels`` [H, W, 3] as a lossless file: png, webp, jxl7 or jxl9; checked by decoding."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if codec == "png":
        image.save(buffer, "PNG", optimize=True)
    elif codec == "webp":
        image.save(buffer, "WEBP", lossless=True, quality=100, method=6, exact=True)
    else:
        image.save(buffer, "JXL", lossless=True, effort=int(codec[3:]))
    size = len(buffer.getvalue())
    buffer.seek(0)
    if not np.array_equal(np.asarray(Image.open(buffer).convert("RGB")), pixels):
        sys.exit(f"{codec} did not give the pixels back")
    return size
