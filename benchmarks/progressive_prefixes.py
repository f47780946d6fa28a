"""Question: does every prefix of a progressive file decode, and does a longer one ever look worse?

Run: python -m benchmarks.progressive_prefixes [--cuts 100] [--json FILE]
Ten files, five CIFAR-10 test images and the middle 128x128 of five Kodak photos, each cut at random bytes. A cut file must
give a picture or say "too short for a first picture". Between cuts behind complete sections the PSNR of `mean`
must not fall by more than 0.1 dB.
"""

import argparse
import math
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import SHARED_DATA, Pixels, need, table, write_json
from ddpm_codec.codecs.progressive.decoding import DecodeOptions, decode_picture
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions
from ddpm_codec.container.sections import read_sections
from ddpm_codec.errors import FormatError
from ddpm_codec.files import encode_progressive_files

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


def try_prefixes(name: str, model: str, pixels: Pixels, cuts: int, folder: Path) -> dict[str, Any]:
    """Return what became of the prefixes of one picture's file."""
    source, coded, part = folder / f"{name}.png", folder / f"{name}.ddpm", folder / "part.ddpm"
    Image.fromarray(pixels).save(source)
    (report,) = encode_progressive_files([source], coded, ProgressiveOptions(model=model))
    data = coded.read_bytes()
    ends = [section["end"] for section in report.sections]
    shown: dict[int, float] = {}
    short = 0
    for cut in np.random.default_rng(SEED).integers(0, len(data), cuts).tolist() + ends:
        part.write_bytes(data[:cut])
        try:
            picture, decoded = decode_picture(read_sections(part), DecodeOptions())
        except FormatError as error:
            if cut >= ends[0] or (cut and "too short for a first picture" not in str(error)):
                raise
            short += 1
            continue
        # Of the same sections it must be the same picture.
        psnr = psnr_db(picture.array(), pixels)
        if shown.setdefault(int(decoded.used_bytes or 0), psnr) != psnr:
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
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            try_prefixes(name, model, pixels, options.cuts, Path(folder))
            for name, (model, pixels) in pictures().items()
        ]
    columns = list(rows[0])
    print(table(columns, [[row[key] for key in columns] for row in rows]))
    print(f"{len(rows)} files, {options.cuts} random cuts each: no other error than 'too short for a first picture'")
    write_json({"rows": rows}, options.json)


if __name__ == "__main__":
    main()
