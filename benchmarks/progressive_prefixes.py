"""Question: does every prefix of a progressive file decode, and does a longer one ever look worse?

Run: python -m benchmarks.progressive_prefixes [--cuts 100] [--json FILE]
Ten files, five CIFAR-10 test images and the middle 128x128 of five Kodak photos, each cut at random bytes. A cut file must
give a picture or be too short for a first one. Between cuts behind complete sections the PSNR of `mean`
must not fall by more than 0.1 dB.
"""

import argparse
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import SHARED_DATA, Pixels, need, table, write_json
from ddpm_codec import ProgressiveDecoder, encode, info

SEED = 2


def pictures() -> dict[str, tuple[str, Pixels]]:
    """Return model and pixels by name."""
    images = test_images()
    chosen = np.random.default_rng(SEED).permutation(len(images))[:5]
    found = {f"cifar-{index}": ("cifar10", np.ascontiguousarray(images[index])) for index in chosen.tolist()}
    for path in sorted(need(SHARED_DATA / "kodak").glob("*.png"))[::5]:
        with Image.open(path) as image:
            left, top = (image.width - 128) // 2, (image.height - 128) // 2
            found[path.stem] = ("photo", np.asarray(image.convert("RGB").crop((left, top, left + 128, top + 128))))
    return found


def psnr_db(found: Pixels, pixels: Pixels) -> float:
    """Return the PSNR; infinite for equal pictures."""
    error = float(np.mean((found.astype(np.float64) - pixels) ** 2))
    return 10 * math.log10(255 * 255 / error) if error else math.inf


def try_prefixes(name: str, model: str, pixels: Pixels, cuts: int) -> dict[str, Any]:
    """Return what became of the prefixes of one picture's file."""
    data = encode(pixels, model=model, progressive=True)
    ends = info(data).section_ends[1:]
    shown: dict[int, float] = {}
    short = 0
    for cut in np.random.default_rng(SEED).integers(0, len(data), cuts).tolist() + ends:
        decoder = ProgressiveDecoder()
        if not decoder.feed(data[:cut]):
            if cut >= ends[0]:
                raise SystemExit(f"{name}: {cut} bytes hold a section and show no picture")
            short += 1
            continue
        # Of the same sections it must be the same picture.
        psnr = psnr_db(decoder.picture(), pixels)
        if shown.setdefault(decoder.used_bytes, psnr) != psnr:
            raise SystemExit(f"{name}: two cuts with the same sections give different pictures")
    curve = [shown[end] for end in ends]
    falls = [before - after for before, after in pairwise(curve)]
    return {"name": name, "bytes": len(data), "sections": len(ends), "too_short": short, "largest_fall_db": max(falls)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [try_prefixes(name, model, pixels, options.cuts) for name, (model, pixels) in pictures().items()]
    columns = list(rows[0])
    print(table(columns, [[row[key] for key in columns] for row in rows]))
    print(f"{len(rows)} files, {options.cuts} random cuts each: each gives a picture or is too short for a first one")
    write_json({"rows": rows}, options.json)


if __name__ == "__main__":
    main()
