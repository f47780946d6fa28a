"""Question: what does it cost JPEG XL that a lossless file can be cut, and what do its prefixes show?

Run: python -m benchmarks.jpeg_xl cifar [--limit 200] [--libjxl FILE] [--json FILE]
     python -m benchmarks.jpeg_xl kodak [--limit 24] [--libjxl FILE] [--json FILE]
No model is needed. Files are lossless, plain and as `cjxl -d 0 -p`, at efforts 7 and 9, and each is decoded again and
compared; one thread. Prefixes are those of effort 7. libjxl 0.12 comes with imagecodecs 2026.10 (Python 3.12 or newer).
Lossy files: `ddpm-codec rd`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Pixels, peers_line, table, write_json
from benchmarks.pictures import pictures
from ddpm_codec.distortion import psnr_db
from ddpm_codec.rate_distortion.libjxl import Libjxl

FILES = {"jxl7": (7, False), "jxl9": (9, False), "jxl7 -p": (7, True), "jxl9 -p": (9, True)}
CUT = ("jxl7", "jxl7 -p")
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def measure(name: str, pixels: Pixels, libjxl: Libjxl) -> dict[str, Any]:
    """Return bits/dim and seconds of one picture, and the PSNR of prefixes."""
    row: dict[str, Any] = {"name": name, "dims": pixels.size}
    for peer, (effort, progressive) in FILES.items():
        started = time.perf_counter()
        file = libjxl.encode(pixels, effort=effort, progressive=progressive)
        encoded = time.perf_counter()
        back = libjxl.decode(file)
        row[f"{peer} encode_s"], row[f"{peer} decode_s"] = encoded - started, time.perf_counter() - encoded
        if back is None or not np.array_equal(back, pixels):
            raise SystemExit(f"{name}: {peer} did not give the pixels back")
        row[peer] = 8 * len(file) / pixels.size
        if peer in CUT:
            row[f"{peer} prefixes"] = [prefix_psnr(pixels, file, share, libjxl) for share in SHARES]
        if peer == "jxl7 -p":
            row["first picture"] = first_picture(file, libjxl)
    return row


def prefix_psnr(pixels: Pixels, file: bytes, share: float, libjxl: Libjxl) -> float | None:
    """Return the PSNR of a prefix; None where it shows nothing yet."""
    shown = libjxl.decode(file[: int(share * len(file))])
    return None if shown is None else psnr_db(pixels, shown)


def first_picture(file: bytes, libjxl: Libjxl) -> float:
    """Return the share of the file, to 0.5 %, after which there is a picture."""
    short, enough = 0, 200
    while enough - short > 1:
        middle = (short + enough) // 2
        if libjxl.decode(file[: len(file) * middle // 200]) is None:
            short = middle
        else:
            enough = middle
    return enough / 200


def print_sizes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Print sizes, speeds and what progressive costs, and return the mean sizes."""
    dims = sum(row["dims"] for row in rows)
    means = {peer: sum(row[peer] * row["dims"] for row in rows) / dims for peer in FILES}
    print(table(["bits/dim of", *means], [[len(rows), *means.values()]]))
    for peer in FILES:
        encode, decode = (dims / 3 / sum(row[f"{peer} {call}_s"] for row in rows) for call in ("encode", "decode"))
        print(f"{peer}: encode {encode:,.0f} pixels/s, decode {decode:,.0f} pixels/s")
    for plain in ("jxl7", "jxl9"):
        over = [100 * (row[f"{plain} -p"] / row[plain] - 1) for row in rows]
        whole = 100 * (means[f"{plain} -p"] / means[plain] - 1)
        print(f"{plain} -p over {plain}: {whole:.1f} % in all, {min(over):.1f} to {max(over):.1f} % a picture")
    return means


def print_prefixes(rows: list[dict[str, Any]]) -> None:
    """Print how many pictures a prefix shows, and their mean PSNR where it shows all."""
    cells = []
    for number, share in enumerate(SHARES):
        cell: list[Any] = [f"{100 * share:.0f} %"]
        for peer in CUT:
            shown = [value for row in rows if (value := row[f"{peer} prefixes"][number]) is not None]
            cell += [len(shown), f"{np.mean(shown):.2f}" if len(shown) == len(rows) else "-"]
        cells.append(cell)
    print(table(["of the file", *(title for peer in CUT for title in (f"{peer} shows", "mean PSNR, dB"))], cells))
    first = [100 * row["first picture"] for row in rows]
    print(f"jxl7 -p: first picture after {np.mean(first):.1f} % (mean), {min(first):.1f} to {max(first):.1f} %")


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
    rows = []
    for name, pixels in pictures(options.set, options.limit).items():
        rows.append(measure(name, pixels, libjxl))
        if options.set == "kodak":
            print(name, {peer: round(rows[-1][peer], 3) for peer in FILES}, flush=True)
    means = print_sizes(rows)
    print_prefixes(rows)
    write_json({"libjxl": libjxl.version, "shares": SHARES, "rows": rows, "means": means}, options.json)


if __name__ == "__main__":
    main()
