"""Question: what do small pictures cost as single files, every byte, which route do they take, and how long does one take?

Run: python -m benchmarks.single_files [--model cifar10] [--count 200] [--threads N] [--json FILE]
CIFAR-10 test images, the same random ones every time. Each is coded by plain `encode_files` into a file of its own, decoded
and compared; PNG (optimised), WebP (lossless, method 6) and JPEG XL (effort 9) also code one image per file. Routes and heads
are read from the files; a head is all in front of the coded pixels, signature included. Seconds are medians of wall time in
this process, after one picture that is not counted: of `encode_files` and `decode_file`, which open the model and write
files, and of `ddpm_codec.encode` and `decode` with an open model.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ddpm_codec
from benchmarks.common import Pixels, has_jxl, peer_bytes, peers_line, table, write_json
from benchmarks.pictures import pictures
from ddpm_codec.container import ROUTE_FALLBACK, ROUTE_INDEXED, ROUTE_MODEL, ByteSource, read_container
from ddpm_codec.files import decode_file, encode_files
from ddpm_codec.isolation import isolated
from ddpm_codec.workers import Workers

ROUTES = {ROUTE_FALLBACK: "fallback", ROUTE_INDEXED: "indices", ROUTE_MODEL: "bits-back"}
SECONDS = ("encode_files", "decode_file", "encode", "decode")


def route_and_head(data: bytes, file_name: str) -> tuple[str, int]:
    """Return the route of the picture in a file, and the bytes in front of its coded pixels."""
    container = read_container(ByteSource(data, file_name, file_name))
    block = container.blocks[0]
    if len(container.images) != 1 or block is None:
        raise SystemExit(f"{file_name}: is not a file of one picture")
    return ROUTES[container.images[0].route], block.offset


def measure(name: str, pixels: Pixels, model: ddpm_codec.Model, peers: list[str], folder: Path) -> dict[str, Any]:
    """Return sizes, route and times of one picture."""
    source, coded, back = folder / f"{name}.png", folder / f"{name}.ddpm", folder / "back.png"
    Image.fromarray(pixels).save(source)
    times = [time.perf_counter()]
    encode_files([source], coded, model=model.path, overwrite=True)
    times.append(time.perf_counter())
    decode_file(coded, back, model=model.path, overwrite=True)
    times.append(time.perf_counter())
    in_memory = ddpm_codec.encode(pixels, model=model)
    times.append(time.perf_counter())
    array = ddpm_codec.decode(in_memory, model=model)
    times.append(time.perf_counter())
    if not (np.array_equal(np.asarray(Image.open(back)), pixels) and np.array_equal(array, pixels)):
        raise SystemExit(f"{name}: the pixels did not come back")
    data = coded.read_bytes()
    route, head = route_and_head(data, coded.name)
    row: dict[str, Any] = {"name": name, "dims": pixels.size, "bytes": len(data), "route": route, "head_bytes": head}
    row |= {f"{call}_s": float(seconds) for call, seconds in zip(SECONDS, np.diff(times), strict=True)}
    return row | {f"{peer}_bytes": peer_bytes(pixels, peer) for peer in peers}


def summary(rows: list[dict[str, Any]], peers: list[str]) -> dict[str, Any]:
    """Return bits/dim of all files, of how many each peer's is larger, shares of routes, heads and seconds."""
    dims = sum(row["dims"] for row in rows)
    return {
        "bpd": {
            "ddpm-codec": 8 * sum(row["bytes"] for row in rows) / dims,
            **{peer: 8 * sum(row[f"{peer}_bytes"] for row in rows) / dims for peer in peers},
        },
        "smaller_than": {peer: sum(row["bytes"] < row[f"{peer}_bytes"] for row in rows) for peer in peers},
        "routes": {route: sum(row["route"] == route for row in rows) for route in ROUTES.values()},
        "head_bytes": {
            "mean": float(np.mean([row["head_bytes"] for row in rows])),
            "largest": max(row["head_bytes"] for row in rows),
        },
        "seconds": {call: statistics.median(row[f"{call}_s"] for row in rows) for call in SECONDS},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(peers_line(), flush=True)
    peers = ["png", "webp", *(["jxl9"] if has_jxl() else [])]
    found = pictures("cifar", options.count)
    with isolated(options.threads), tempfile.TemporaryDirectory() as folder:
        workers, model = Workers().count, ddpm_codec.open_model(options.model)
        measure("warm-up", next(iter(found.values())), model, [], Path(folder))
        rows = [measure(name, pixels, model, peers, Path(folder)) for name, pixels in found.items()]
    values = summary(rows, peers)
    print(table(["bits/dim of", *values["bpd"]], [[len(rows), *values["bpd"].values()]]))
    for peer, count in values["smaller_than"].items():
        print(f"smaller than {peer}: {count} of {len(rows)}")
    for route, count in values["routes"].items():
        size = [8 * row["bytes"] / row["dims"] for row in rows if row["route"] == route]
        mean = f", mean {np.mean(size):.3f} bits/dim" if size else ""
        print(f"{route}: {count} of {len(rows)}, {100 * count / len(rows):.1f} %{mean}")
    print("head: mean {mean:.1f} bytes, largest {largest}".format(**values["head_bytes"]))
    print(table(["median s of", *values["seconds"]], [[f"workers: {workers}", *values["seconds"].values()]]))
    write_json(values | {"rows": rows, "model": options.model, "workers": workers}, options.json)


if __name__ == "__main__":
    main()
