"""Encodes and decodes a photo once to warm up and once to measure: a script of its own, for any version of the package.

Run: PYTHON benchmarks/coding_process.py PHOTO MODEL [THREADS]
Prints one line of JSON: seconds of either call, without the start of the process and imports. `benchmarks.speed` runs it,
also with an interpreter in which an older version is installed, so it uses nothing but what all versions have.
"""

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

import ddpm_codec


def files_module() -> ModuleType:
    """Return the module with `encode_files` and `decode_file`; up to format version 2 it was another."""
    try:
        return importlib.import_module("ddpm_codec.files")
    except ModuleNotFoundError:
        return importlib.import_module("ddpm_codec.codecs.api")


def set_threads(threads: int | None) -> str:
    """Have both calls use so many threads; return what they use in words. There have not always been workers."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        isolation, workers = (importlib.import_module(f"ddpm_codec.{name}") for name in ("isolation", "workers"))
    except ModuleNotFoundError:
        return f"threads of torch: {torch.get_num_threads()}"
    if threads is not None:
        isolation.ask_for_threads(threads)
    return f"workers: {workers.Workers().count}"


def code(files: ModuleType, photo: Path, model: str, folder: Path) -> dict[str, float]:
    """Encode, decode and compare; return the seconds of either."""
    coded, back = folder / "x.ddpm", folder / "x.png"
    started = time.perf_counter()
    files.encode_files([photo], coded, model=model, overwrite=True)
    encoded = time.perf_counter()
    files.decode_file(coded, back, model=model, overwrite=True)
    seconds = {"encode": encoded - started, "decode": time.perf_counter() - encoded}
    with Image.open(photo) as before, Image.open(back) as after:
        if not np.array_equal(np.asarray(before), np.asarray(after)):
            raise SystemExit(f"{photo.name}: the pixels did not come back")
    return seconds


def main() -> None:
    """Measure and print."""
    photo, model, *rest = sys.argv[1:]
    threads = set_threads(int(rest[0]) if rest else None)
    files = files_module()
    with tempfile.TemporaryDirectory() as folder:
        code(files, Path(photo), model, Path(folder))
        values: dict[str, Any] = dict(code(files, Path(photo), model, Path(folder)))
    print(json.dumps(values | {"threads": threads, "package": str(Path(ddpm_codec.__file__).parent)}))


if __name__ == "__main__":
    main()
