"""Question: how fast is the exact network beside the same network in floating point, and where does its time go?

Run: python -m benchmarks.exact_network [--model photo] [--tile 256] [--repeat 20] [--json FILE]
One evaluation of one tile in one thread, the variants in turn in the same run, medians of that thread's processor time. The
network in floating point has the widths of the model and random weights, which do not change its speed.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.common import table, write_json
from ddpm_codec.isolation import torch_threads
from ddpm_codec.models import find_model
from ddpm_codec.models.model_file import load_model
from ddpm_codec.nn.codec_net import CodecNet, macs_per_pixel
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact import ends, fused_layer, passes
from ddpm_codec.nn.exact.executor import ExactExecutor, Executor
from ddpm_codec.nn.exact.fused import FusedExecutor
from ddpm_codec.nn.exact.kernels import KERNELS, Shape, is_exact
from ddpm_codec.nn.exact.parameters import ExactParameters


def clock() -> float:
    """Return the time of this thread on a processor, which other processes hardly change; with CUDA, that of the wall."""
    return time.perf_counter() if torch.cuda.is_available() else time.thread_time()


PEAK = Shape(128, 128, 3, 1, 8191.0)
"""The largest convolution, whose products alone are what others are measured by."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    frozen = load_model(find_model(options.model))
    if frozen.exact is None:
        raise SystemExit(f"{options.model} is not exact")
    picture = np.random.default_rng(0).integers(-8000, 8000, (1, 3, options.tile, options.tile))
    executors: dict[str, Executor] = {}
    for name in KERNELS:
        if is_exact(name, device.type):
            if device.type == "cpu":
                executors[f"exact, compiled passes, {name} kernels"] = FusedExecutor(frozen.exact, name)
            executors[f"exact, torch alone, {name} kernels"] = ExactExecutor(frozen.exact, device, name)
    runs: dict[str, Callable[[], object]] = {
        name: partial(executor.integers, picture, 20, pixels=False, coefficients=True)
        for name, executor in executors.items()
    }
    tensor = torch.from_numpy(picture).to(device)
    runs |= floating(CodecDenoiser(CodecNet(frozen.config)).place(device).eval(), tensor)
    with torch_threads(1):
        seconds = measure(runs, options.repeat)
    macs = macs_per_pixel(frozen.config) * options.tile**2
    floats = seconds["float32"]
    rows = [[name, 1e3 * value, macs / value / 1e9, floats / value] for name, value in seconds.items()]
    print(f"{frozen.name}, one evaluation of {options.tile}x{options.tile}, one thread, {device}")
    print(table(["network", "ms", "10^9 multiply-adds/s", "times float32"], rows))
    found: dict[str, object] = {"model": frozen.name, "tile": options.tile, "seconds": seconds}
    if device.type == "cpu":
        with torch_threads(1):
            found["stages"] = stages(
                next(iter(runs.values())), products(frozen.exact, options.tile), next(iter(KERNELS)), options.repeat
            )
    write_json(found, options.json)


def stages(run: Callable[[], object], made: int, kernels: str, repeat: int) -> dict[str, float]:
    """Print where the time of an evaluation with compiled passes goes; return milliseconds of each stage.

    "products at their peak": all multiply-adds that are ``made``, at the rate of one large convolution alone.
    """
    spent = dict[str, float]()

    def watch(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:  # noqa: ANN401 - of any function
            started = clock()
            result = function(*arguments)
            spent[stage] = spent.get(stage, 0.0) + clock() - started
            return result

        return watched

    places = [(fused_layer, "convolve", "convolutions"), (passes, "pass_on", "passes between them")]
    places += [(passes, "read_stream", "passes between them"), (passes, "fill_border", "borders")]
    places += [(ends, name, "ends") for name in ("read_picture", "write_mean", "write_coefficient_index")]
    with contextlib.ExitStack() as stack:
        for module, name, stage in places:
            stack.enter_context(mock.patch.object(module, name, watch(getattr(module, name), stage)))
        started = clock()
        for _ in range(repeat):
            run()
        whole = clock() - started
    spent["rest, in Python"] = whole - sum(spent.values())
    peak = peak_rate(kernels, repeat)
    spent = {"products at their peak": repeat * made / peak, **spent}
    print(f"\nproducts alone reach {peak / 1e9:.0f} 10^9 multiply-adds/s; where the time goes:")
    milliseconds = {stage: 1e3 * value / repeat for stage, value in spent.items()}
    print(table(["stage", "ms"], [[*row] for row in milliseconds.items()]))
    return milliseconds


def products(parameters: ExactParameters, tile: int) -> int:
    """Return the multiply-adds of an evaluation; a two-byte input takes them twice."""
    total = 0
    for name, layer in parameters.layers.items():
        part = name.partition(".")[0]
        side = tile // {"down": 4, "middle": 4, "up": 4, "variance_first": 8, "variance_second": 8}.get(part, 2)
        total += side * side * layer.weight.size * (2 if layer.reading.wide else 1)
    return total


def peak_rate(kernels: str, repeat: int) -> float:
    """Return multiply-adds a second of the largest convolution."""
    rng = np.random.default_rng(0)
    outputs, channels, side, stride, limit = PEAK
    weight = torch.from_numpy(rng.integers(-127, 128, (outputs, channels, side, side), dtype=np.int8))
    zeros = torch.zeros(outputs, dtype=torch.int32)
    kernel = KERNELS[kernels](weight, zeros, zeros + 4, stride, limit)
    q = torch.from_numpy(rng.integers(0, 256, (1, 34, 66, channels), dtype=np.uint8))
    seconds = measure({"peak": lambda: kernel(q)}, repeat)["peak"]
    return weight.numel() * 32 * 64 / seconds


def floating(denoiser: CodecDenoiser, picture: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return the network in floating point, without and with autocast."""
    z, level = picture.float() / 8160.0, torch.zeros(1, device=picture.device)

    def run(bf16: bool) -> None:
        with torch.no_grad(), torch.autocast(picture.device.type, dtype=torch.bfloat16, enabled=bf16):
            denoiser.predict_scaled(z, level)

    return {"float32": lambda: run(False), "bfloat16": lambda: run(True)}


def measure(runs: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Return the median seconds of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            run()
            started = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


if __name__ == "__main__":
    main()
