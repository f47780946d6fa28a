"""Question: how fast are progressive files of Kodak photos, written and read?

Run: python -m benchmarks.progressive_speed [--photos kodim03 kodim19] [--json FILE]
Seconds of `encode_progressive_files` and then of three `decode_file`, all in one process: decoding finds torch, kernels and
most coding tables made.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import SHARED_DATA, need, table, write_json
from ddpm_codec.files import decode_file, encode_progressive_files

TIMES = 3


def measure(source: Path, folder: Path) -> list[list[Any]]:
    """Return name, what, seconds, of them network, and pixels a second."""
    coded, back = folder / "x.ddpm", folder / "x.png"
    (encoded,) = encode_progressive_files([source], coded, overwrite=True)
    rows: list[list[Any]] = [
        [source.stem, "encode", encoded.seconds, encoded.network_seconds, round(encoded.pixels / encoded.seconds)]
    ]
    for number in range(TIMES):
        report = decode_file(coded, back, overwrite=True)
        what = f"decode {number + 1}"
        rows.append([source.stem, what, report.seconds, report.network_seconds, round(report.pixels / report.seconds)])
    with Image.open(source) as before, Image.open(back) as after:
        if not np.array_equal(np.asarray(before), np.asarray(after)):
            raise SystemExit(f"{source.name}: the pixels did not come back")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", nargs="+", default=["kodim03", "kodim19"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.photos:
            rows += measure(need(SHARED_DATA / "kodak" / f"{name}.png"), Path(folder))
    print(table(["photo", "", "s", "of it network", "pixels/s"], rows))
    print(f"{torch.get_num_threads()} threads")
    write_json({"rows": rows, "threads": torch.get_num_threads()}, options.json)


if __name__ == "__main__":
    main()
