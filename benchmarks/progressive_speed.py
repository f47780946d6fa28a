"""Question: how fast are progressive files of Kodak photos, written and read?

Run: python -m benchmarks.progressive_speed [--photos kodim03 kodim19] [--threads N] [--json FILE]
Seconds of `encode_progressive_files` and then of three `decode_file`, all in one process: decoding finds torch, kernels and
most coding tables made. Then the whole command, `ddpm-codec decode x.ddpm -o x.png`, in a process of its own, start included;
compiled functions are in their cache. One command is not counted, three are.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, need, table, write_json
from benchmarks.processes import command_seconds
from ddpm_codec.files import decode_file, encode_progressive_files
from ddpm_codec.isolation import isolated
from ddpm_codec.workers import Workers

TIMES = 3


def measure(source: Path, folder: Path, model: str, threads: int | None) -> list[list[Any]]:
    """Return name, what, seconds, of them network, and pixels a second."""
    coded, back = folder / "x.ddpm", folder / "x.png"
    (encoded,) = encode_progressive_files([source], coded, model=model, overwrite=True)
    rows: list[list[Any]] = [
        [source.stem, "encode", encoded.seconds, encoded.network_seconds, round(encoded.pixels / encoded.seconds)]
    ]
    for number in range(TIMES):
        report = decode_file(coded, back, model=model, overwrite=True)
        what = f"decode {number + 1}"
        rows.append([source.stem, what, report.seconds, report.network_seconds, round(report.pixels / report.seconds)])
    back.unlink()
    limit = [] if threads is None else ["--threads", str(threads)]
    words = ["decode", str(coded), "-o", str(back), "--model", model, "--overwrite", *limit]
    seconds = [command_seconds(words).wall for _ in range(1 + TIMES)][1:]
    median = statistics.median(seconds)
    rows.append([source.stem, f"decode, command, median of {TIMES}", median, "", round(encoded.pixels / median)])
    with Image.open(source) as before, Image.open(back) as after:
        if not np.array_equal(np.asarray(before), np.asarray(after)):
            raise SystemExit(f"{source.name}: the pixels did not come back")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", nargs="+", default=["kodim03", "kodim19"], help="of Kodak, or picture files")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[list[Any]] = []
    with isolated(options.threads), tempfile.TemporaryDirectory() as folder:
        workers = Workers().count
        for name in options.photos:
            source = need(Path(name) if Path(name).suffix else SHARED_DATA / "kodak" / f"{name}.png")
            rows += measure(source, Path(folder), options.model, options.threads)
    print(table(["photo", "", "s", "of it network", "pixels/s"], rows))
    print(f"workers: {workers}")
    write_json({"rows": rows, "workers": workers}, options.json)


if __name__ == "__main__":
    main()
