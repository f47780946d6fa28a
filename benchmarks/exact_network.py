"""Question: how fast is the exact network beside the same network in floating point, and where does its time go?

Run: python -m benchmarks.exact_network [--model photo] [--tile 256] [--repeat 20] [--json FILE]
One evaluation of one tile in one thread, the variants in turn in the same run, medians of that thread's processor time. The
network in floating point has the widths of the model and random weights, which do not change its speed.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import table, write_json
from benchmarks.stage_times import StageTimes, clock, measure, peak_rate, products_per_pixel
from ddpm_codec.isolation import torch_threads
from ddpm_codec.models import find_model
from ddpm_codec.models.model_file import load_model
from ddpm_codec.nn.codec_net import CodecNet, macs_per_pixel
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact import ends, fused_layer, passes
from ddpm_codec.nn.exact.executor import ExactExecutor, Executor
from ddpm_codec.nn.exact.fused import FusedExecutor
from ddpm_codec.nn.exact.kernels import KERNELS, is_exact


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
        made = round(products_per_pixel(frozen.exact.layers) * options.tile**2)
        with torch_threads(1):
            found["stages"] = stages(next(iter(runs.values())), made, next(iter(KERNELS)), options.repeat)
    write_json(found, options.json)


def stages(run: Callable[[], object], made: int, kernels: str, repeat: int) -> dict[str, float]:
    """Print where the time of an evaluation with compiled passes goes; return milliseconds of each stage.

    "products at their peak": all multiply-adds that are ``made``, at the rate of one large convolution alone.
    """
    places = [(fused_layer, "convolve", "convolutions"), (passes, "pass_on", "passes between them")]
    places += [(passes, "read_stream", "passes between them"), (passes, "fill_border", "borders")]
    places += [(ends, name, "ends") for name in ("read_picture", "write_mean", "write_coefficient_index")]
    with StageTimes() as times:
        for module, name, stage in places:
            times.watch(module, name, stage)
        started = clock()
        for _ in range(repeat):
            run()
        whole = clock() - started
    spent = {**times.seconds, "rest, in Python": whole - sum(times.seconds.values())}
    peak = peak_rate(kernels, repeat)
    spent = {"products at their peak": repeat * made / peak, **spent}
    print(f"\nproducts alone reach {peak / 1e9:.0f} 10^9 multiply-adds/s; where the time goes:")
    milliseconds = {stage: 1e3 * value / repeat for stage, value in spent.items()}
    print(table(["stage", "ms"], [[*row] for row in milliseconds.items()]))
    return milliseconds


def floating(denoiser: CodecDenoiser, picture: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return the network in floating point, without and with autocast."""
    z, level = picture.float() / 8160.0, torch.zeros(1, device=picture.device)

    def run(bf16: bool) -> None:
        with torch.no_grad(), torch.autocast(picture.device.type, dtype=torch.bfloat16, enabled=bf16):
            denoiser.predict_scaled(z, level)

    return {"float32": lambda: run(False), "bfloat16": lambda: run(True)}


if __name__ == "__main__":
    main()
