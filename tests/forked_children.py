"""Codes pictures with torch, then again in children forked from here: prints JSON of what each child says."""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import ddpm_codec
from ddpm_codec.numcodecs_plugin import Ddpm
from tests.golden.regenerate import FLOAT, noisy_picture
from tests.helpers import PHOTO

FORK = multiprocessing.get_context("fork")
SECONDS = 40.0


class Pictures(torch.utils.data.Dataset[int]):
    """What a PyTorch user has."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> int:
        return int(ddpm_codec.decode(self.files[index]).sum())


def through_zarr(pixels: Any, folder: Path) -> bool:  # noqa: ANN401 - an array
    """Write an array and read it back."""
    import zarr

    from ddpm_codec.zarr_plugin import DdpmCodec

    array = zarr.create_array(
        str(folder), shape=pixels.shape, chunks=pixels.shape, dtype="uint8", serializer=DdpmCodec(), compressors=None
    )
    array[:] = pixels
    return bool(np.array_equal(array[:], pixels))


def calls(folder: Path) -> dict[str, Callable[[], Any]]:
    """Use torch's threads here, and return what the children do."""
    pixels, noise = np.asarray(Image.open(PHOTO))[:40, :32], noisy_picture(100, 128, 192)
    file, plain = ddpm_codec.encode(pixels), ddpm_codec.encode(pixels, model="none")
    progressive = ddpm_codec.encode(pixels[:16, :16], progressive=True, psnr=24.0)
    floating, single = (ddpm_codec.encode(noise, model=FLOAT, threads=threads) for threads in (2, 1))
    ddpm_codec.decode(floating, model=FLOAT)
    model, codec = ddpm_codec.open_model("photo"), Ddpm()
    chunk = codec.encode(pixels)
    through_zarr(pixels, folder / "parent")
    return {
        "decode": lambda: np.array_equal(ddpm_codec.decode(file), pixels),
        "decode, two threads asked for": lambda: np.array_equal(ddpm_codec.decode(file, threads=2), pixels),
        "encode": lambda: ddpm_codec.encode(pixels) == file,
        "encode, open model": lambda: ddpm_codec.encode(pixels, model=model) == file,
        "progressive": lambda: ddpm_codec.encode(pixels[:16, :16], progressive=True, psnr=24.0) == progressive,
        "decode progressive": lambda: ddpm_codec.decode(progressive).shape == (16, 16, 3),
        "no model": lambda: np.array_equal(ddpm_codec.decode(plain), pixels),
        "floating point": lambda: np.array_equal(
            ddpm_codec.decode(ddpm_codec.encode(noise, model=FLOAT), model=FLOAT), noise
        ),
        "floating point, one thread": lambda: np.array_equal(ddpm_codec.decode(single, model=FLOAT), noise),
        "floating point, two threads": lambda: ddpm_codec.decode(floating, model=FLOAT),
        "bound": lambda: ddpm_codec.bound(pixels[:32, :32]).mean_bpd > 0.0,
        "numcodecs": lambda: np.array_equal(codec.decode(chunk), pixels),
        "zarr": lambda: through_zarr(pixels, folder / "child"),
        "threads of the child": lambda: (ddpm_codec.decode(file) is None) or torch.get_num_threads() == 2,
    }


def answer(call: Callable[[], Any], queue: "SimpleQueue[Any]") -> None:
    """Run in the child."""
    try:
        queue.put(bool(call()))
    except ddpm_codec.DdpmCodecError as error:
        queue.put(str(error))


def in_child(call: Callable[[], Any]) -> bool | str:
    """Return what a call returns in a forked process."""
    queue: SimpleQueue[Any] = FORK.SimpleQueue()
    child = FORK.Process(target=answer, args=(call, queue))
    child.start()
    child.join(SECONDS)
    if child.is_alive():
        child.kill()
        return "hangs"
    return queue.get() if not queue.empty() else f"exit code {child.exitcode}"


def by_os_fork(call: Callable[[], Any]) -> int:
    """Return the exit code of a child of ``os.fork``, which multiprocessing knows nothing of."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(SECONDS))
        os._exit(0 if call() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Print the answers."""
    asked = calls(Path(sys.argv[1]))
    found: dict[str, Any] = {name: in_child(call) for name, call in asked.items()}
    found["os.fork"] = by_os_fork(asked["decode"])
    file = ddpm_codec.encode(np.asarray(Image.open(PHOTO))[:40, :32])
    loader = torch.utils.data.DataLoader(
        Pictures([file] * 3), num_workers=1, multiprocessing_context=FORK, timeout=SECONDS
    )
    found["data loader"] = len({int(total) for total in loader}) == 1
    print(json.dumps(found))


if __name__ == "__main__":
    main()
