"""Question: how many training steps an hour does one thread take, and what bounds it?

Run: python -m benchmarks.decoder_training [--sizes decoder-32 decoder-48 decoder-64] [--steps 12] [--json FILE]
     python -m benchmarks.decoder_training --curve RUN...

The first times the parts of a step of a pixel decoder on random crops: network forward, likelihood, backward, optimiser; in
bfloat16 and float32, the median of several steps, one thread. Data preparation is what `train` logs as preparing_share. The
second prints the validation bound of runs against their core-hours.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import table, write_json
from ddpm_codec.nn.pixel_decoder import DECODERS, PixelDecoder, decoder_macs_per_pixel
from ddpm_codec.training.optimizer import build_optimizer

CPU = torch.device("cpu")
PARTS = ("forward", "likelihood", "backward", "optimiser")


def step_seconds(size: str, dtype: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of each part of a step."""
    batch, crop = arguments.batch, arguments.crop
    network = PixelDecoder(DECODERS[size]).place(CPU)
    forward = torch.compile(network) if arguments.compile else network
    optimizer = build_optimizer(network, "muon", 1e-3)
    taken: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(arguments.steps):
        x_0 = torch.randint(0, 256, (batch, 3, crop, crop)).float() / 127.5 - 1.0
        level = torch.full((batch,), 7.4)
        z_0 = x_0 + 0.025 * torch.randn_like(x_0)
        marks = [time.perf_counter()]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            parameters, _ = forward(z_0, level, x_0)
        marks.append(time.perf_counter())
        loss = -parameters.log_likelihood(x_0).mean()
        marks.append(time.perf_counter())
        optimizer.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        optimizer.step()
        marks.append(time.perf_counter())
        for part, before, after in zip(PARTS, marks, marks[1:], strict=False):
            taken[part].append(after - before)
    return {part: median(values) for part, values in taken.items()}


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Print the table of parts."""
    torch.set_num_threads(1)
    rows, figures = [], {}
    for size in arguments.sizes:
        trunk, masked = decoder_macs_per_pixel(DECODERS[size])
        for dtype in arguments.dtypes:
            seconds = step_seconds(size, dtype, arguments)
            total = sum(seconds.values())
            # Backward costs two products where forward costs one.
            work = 3.0 * (trunk + masked) * arguments.batch * arguments.crop**2 / total / 1e9
            rows.append([size, dtype, *seconds.values(), total, f"{3600 / total:,.0f}", f"{work:.0f}"])
            figures[f"{size} {dtype}"] = seconds | {"steps_per_hour": 3600 / total, "gmac_per_second": work}
    print(table(["network", "dtype", *(f"{part}, s" for part in PARTS), "step, s", "steps an hour", "GMAC/s"], rows))
    return figures


def curve(runs: list[Path]) -> dict[str, Any]:
    """Print the validation bound of each run against its core-hours."""
    rows, figures = [], {}
    for run in runs:
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        hours = 0.0
        points = []
        for line in lines:
            hours = line.get("seconds", 3600.0 * hours) / 3600.0
            if "validation_bpd" in line:
                points.append((line["step"], hours, line["validation_bpd"]))
        figures[str(run)] = points
        rows += [[run.name, step, f"{at:.2f}", bpd] for step, at, bpd in points]
    print(table(["run", "step", "core-hours", "validation, bits/dim"], rows))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curve", nargs="+", type=Path)
    parser.add_argument(
        "--sizes", nargs="+", default=["decoder-32", "decoder-48", "decoder-64"], choices=sorted(DECODERS)
    )
    parser.add_argument("--dtypes", nargs="+", default=["bf16", "float32"], choices=["bf16", "float32"])
    parser.add_argument("--compile", action="store_true", help="with torch.compile, as `train --compile`")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = curve(arguments.curve) if arguments.curve else speed(arguments)
    write_json({"figures": figures}, arguments.json)


if __name__ == "__main__":
    main()
