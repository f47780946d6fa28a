"""Question: what does it cost to read and write image files exactly, with all checks, beside Pillow alone?

Run: python -m benchmarks.reading [PHOTO] [--side N] [--repeats N] [--json FILE]
The peer is Pillow's own reader or writer of the same file in the same run; seconds of the processor, the least of the
repeats. Without PHOTO: the middle of the first Kodak photo.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, need, table, write_json
from ddpm_codec.image_io import read_picture, write_picture
from ddpm_codec.padding import centre_crop

FILES: Final[dict[str, dict[str, Any]]] = {
    "x.png": {},
    "x.jpg": {"quality": 92},
    "progressive.jpg": {"quality": 92, "progressive": True},
    "x.tif": {"compression": "tiff_adobe_deflate"},
    "x.webp": {"lossless": True},
    "x.ppm": {},
    "x.jp2": {},
    "x.avif": {},
}
WRITTEN: Final = ("x.png", "x.tif", "x.webp", "x.ppm")


def least_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the processor time of the fastest of several runs."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def _load(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path, nargs="?")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    photo = options.photo or min(need(SHARED_DATA / "kodak").glob("*.png"))
    pixels = centre_crop(np.asarray(Image.open(photo).convert("RGB")), options.side, options.side)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for file, settings in FILES.items():
            path = Path(name, file)
            image.save(path, **settings)
            peer = least_seconds(partial(_load, path), options.repeats)
            ours = least_seconds(partial(read_picture, path), options.repeats)
            row = [file, 1000 * peer, 1000 * ours, ours / peer]
            if file in WRITTEN:
                picture = read_picture(path)
                kind = "TIFF" if file == "x.tif" else file.partition(".")[2].upper()
                peer = least_seconds(partial(image.save, path, kind, **settings), options.repeats)
                ours = least_seconds(partial(write_picture, picture, path, overwrite=True), options.repeats)
                row += [1000 * peer, 1000 * ours, ours / peer]
            rows.append([*row, *["-"] * (7 - len(row))])
    headers = ["file", "Pillow reads, ms", "ours, ms", "ratio", "Pillow writes, ms", "ours, ms", "ratio"]
    print(table(headers, rows))
    write_json({"rows": [dict(zip(("file", *headers[1:]), row, strict=True)) for row in rows]}, options.json)


if __name__ == "__main__":
    main()
