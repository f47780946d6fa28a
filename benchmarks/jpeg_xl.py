"""Question: what does JPEG XL cost, plain, progressive and lossy, and what does a prefix of its progressive file show?

Run: python -m benchmarks.jpeg_xl cifar [--limit 200] [--libjxl FILE] [--json FILE]
     python -m benchmarks.jpeg_xl kodak [--limit 24] [--libjxl FILE] [--json FILE]
No model is needed. Each lossless file is decoded again and compared. Progressive: as `cjxl -d 0 -p` at efforts 7 and 9. One
thread. Of the photos also: PSNR of prefixes of plain and progressive files at effort 7, the shortest prefix that shows
anything, and the lossy ladder of `ddpm-codec rd`. libjxl 0.12 comes with imagecodecs 2026.10 (Python 3.12 or newer).
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Pixels, peer_bytes, peers_line, table, write_json
from benchmarks.pictures import pictures
from ddpm_codec.distortion import psnr_db
from ddpm_codec.rate_distortion.libjxl import Libjxl
from ddpm_codec.rate_distortion.metrics import METRICS, usable_metrics
from ddpm_codec.rate_distortion.peers import PEERS

FILES = {"jxl7": (7, False), "jxl9": (9, False), "jxl7 -p": (7, True), "jxl9 -p": (9, True)}
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def lossless(name: str, pixels: Pixels, libjxl: Libjxl) -> dict[str, Any]:
    """Return bits/dim and seconds of one picture."""
    row: dict[str, Any] = {"name": name, "dims": pixels.size}
    for peer in ("png", "webp"):
        row[peer] = 8 * peer_bytes(pixels, peer) / pixels.size
    for peer, (effort, progressive) in FILES.items():
        started = time.perf_counter()
        file = libjxl.encode(pixels, effort=effort, progressive=progressive)
        encoded = time.perf_counter()
        back = libjxl.decode(file)
        row[f"{peer} encode_s"], row[f"{peer} decode_s"] = encoded - started, time.perf_counter() - encoded
        if not np.array_equal(back, pixels):
            raise SystemExit(f"{name}: {peer} did not give the pixels back")
        row[peer] = 8 * len(file) / pixels.size
    return row


def first_picture(file: bytes, libjxl: Libjxl) -> float:
    """Return the share of the file after which a picture can be shown."""
    short, enough = 0, len(file)
    while enough - short > 1:
        middle = (short + enough) // 2
        if libjxl.decode(file[:middle]) is None:
            short = middle
        else:
            enough = middle
    return enough / len(file)


def prefixes(pixels: Pixels, libjxl: Libjxl) -> dict[str, Any]:
    """Return the PSNR of prefixes of the plain and the progressive file at effort 7; None where there is no picture yet."""
    row: dict[str, Any] = {}
    for peer in ("jxl7", "jxl7 -p"):
        effort, progressive = FILES[peer]
        file = libjxl.encode(pixels, effort=effort, progressive=progressive)
        shown = {share: libjxl.decode(file[: int(share * len(file))]) for share in SHARES}
        row[peer] = {share: None if found is None else psnr_db(pixels, found) for share, found in shown.items()}
        row[f"{peer} first"] = first_picture(file, libjxl)
    return row


def lossy(pixels: Pixels, metrics: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return rate and quality of one picture at every distance."""
    peer, rows = PEERS["jxl"], []
    for setting in peer.ladder:
        file = peer.encode(pixels, setting)
        values = {name: METRICS[name](pixels, peer.decode(file)) for name in metrics}
        rows.append({"setting": setting.label, "bpp": 24 * len(file) / pixels.size} | values)
    return rows


def print_lossless(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Print sizes, speeds and what progressive costs, and return the means."""
    dims = sum(row["dims"] for row in rows)
    means = {key: sum(row[key] * row["dims"] for row in rows) / dims for key in ("png", "webp", *FILES)}
    print(table(["picture", *means], [[row["name"], *(row[key] for key in means)] for row in rows if len(rows) <= 24]))
    print(table(["bits/dim of", *means], [[len(rows), *means.values()]]))
    for peer in FILES:
        speeds = [dims / 3 / sum(row[f"{peer} {call}_s"] for row in rows) for call in ("encode", "decode")]
        print(f"{peer}: encode {speeds[0]:,.0f} pixels/s, decode {speeds[1]:,.0f} pixels/s")
    for plain in ("jxl7", "jxl9"):
        over = [100 * (row[f"{plain} -p"] / row[plain] - 1) for row in rows]
        whole = 100 * (means[f"{plain} -p"] / means[plain] - 1)
        print(f"{plain} -p over {plain}: {whole:.1f} % in all, {min(over):.1f} to {max(over):.1f} % a picture")
    return means


def print_prefixes(rows: list[dict[str, Any]]) -> None:
    """Print how many pictures a prefix shows, and their mean PSNR where it shows all."""
    for peer in ("jxl7", "jxl7 -p"):
        cells = []
        for share in SHARES:
            values = [row[peer][share] for row in rows if row[peer][share] is not None]
            mean = f"{np.mean(values):.2f}" if len(values) == len(rows) else "-"
            cells.append([f"{100 * share:.0f} %", len(values), mean])
        first = [100 * row[f"{peer} first"] for row in rows]
        print(table([f"{peer}: of the file", f"show a picture, of {len(rows)}", "mean PSNR, dB"], cells))
        print(f"{peer}: first picture after {np.mean(first):.1f} % (mean), {min(first):.1f} to {max(first):.1f} %")


def print_lossy(rows: list[list[dict[str, Any]]], metrics: tuple[str, ...]) -> None:
    """Print means over the pictures; infinite qualities do not occur."""
    cells = []
    for points in zip(*rows, strict=True):
        values = [math.fsum(point[key] for point in points) / len(points) for key in ("bpp", *metrics)]
        cells.append([points[0]["setting"], *values])
    print(table(["distance, effort 7", "bits/pixel", *metrics], cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=["cifar", "kodak"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--libjxl")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    libjxl = Libjxl(options.libjxl)
    print(peers_line(libjxl), flush=True)
    found = pictures(options.set, options.limit)
    rows = [lossless(name, pixels, libjxl) for name, pixels in found.items()]
    values: dict[str, Any] = {"libjxl": libjxl.version, "rows": rows, "means": print_lossless(rows)}
    if options.set == "kodak":
        values["prefixes"] = [prefixes(pixels, libjxl) for pixels in found.values()]
        print_prefixes(values["prefixes"])
        metrics = usable_metrics(["psnr", "ssimulacra2"], print)
        if PEERS["jxl"].missing() is None:
            values["lossy"] = [lossy(pixels, metrics) for pixels in found.values()]
            print_lossy(values["lossy"], metrics)
    write_json(values, options.json)


if __name__ == "__main__":
    main()
