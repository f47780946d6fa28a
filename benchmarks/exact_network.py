"""Question: how fast is the exact network beside the same network in floating point, and where does its time go?

Run: python -m benchmarks.exact_network [--model photo] [--tile 256] [--repeat 20] [--json FILE]
One evaluation of one tile, the variants in turn in the same run, medians. The network in floating point has the widths of the
model and random weights, which do not change its speed. `--profile` lists the operations that take the most time.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import table, write_json
from ddpm_codec.models import find_model
from ddpm_codec.models.model_file import load_model
from ddpm_codec.nn.codec_net import CodecNet, macs_per_pixel
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact.executor import ExactExecutor
from ddpm_codec.nn.exact.kernels import KERNELS, is_exact


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    frozen = load_model(find_model(options.model))
    if frozen.exact is None:
        raise SystemExit(f"{options.model} is not exact")
    picture = torch.randint(-8000, 8000, (1, 3, options.tile, options.tile), device=device)
    runs: dict[str, Callable[[], object]] = {}
    for name in KERNELS:
        if is_exact(name, device.type):
            executor = ExactExecutor(frozen.exact, device, name)
            runs[f"exact, {name} kernels"] = partial(executor.predict, picture, 20, pixels=False, coefficients=True)
    runs |= floating(CodecDenoiser(CodecNet(frozen.config)).place(device).eval(), picture)
    seconds = measure(runs, options.repeat)
    macs = macs_per_pixel(frozen.config) * options.tile**2
    floats = seconds["float32"]
    rows = [[name, 1e3 * value, macs / value / 1e9, floats / value] for name, value in seconds.items()]
    print(
        f"{frozen.name}, one evaluation of {options.tile}x{options.tile}, {torch.get_num_threads()} threads, {device}"
    )
    print(table(["network", "ms", "10^9 multiply-adds/s", "times float32"], rows))
    write_json({"model": frozen.name, "tile": options.tile, "seconds": seconds}, options.json)
    if options.profile:
        with torch.profiler.profile() as profile:
            for _ in range(options.repeat):
                next(iter(runs.values()))()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40))


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
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


if __name__ == "__main__":
    main()
