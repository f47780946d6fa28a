"""Question: how much memory do encode and decode take, at their peak, for many small pictures and for one large photo?

Run: python -m benchmarks.memory archive|photo|progressive [--steps K] [--count 10000] [--size 6000 4000] [--json FILE]
archive: pictures of 32x32, the CIFAR-10 test set; photo: 24 megapixels, a mosaic of the Kodak photos; progressive: that
photo as a progressive file. The peer is an empty process that imports torch. Peak resident set of the command in a process
of its own. Fewer steps take less time and the same memory.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import SHARED_DATA, need, table, write_json


def peak_megabytes(arguments: list[str]) -> float:
    """Run a command in a process of its own; return its peak resident set in MB (10^6 bytes)."""
    script = (
        "import resource, subprocess, sys;"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed: {done.stderr}")
    return int(done.stdout) * 1024 / 1e6


def mosaic(width: int, height: int) -> Image.Image:
    """Return the Kodak photos side by side."""
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(need(SHARED_DATA / "kodak").glob("*.png"))]
    wide = [photo if photo.shape[1] == 768 else photo.transpose(1, 0, 2) for photo in photos]
    rows, columns = -(-height // 512), -(-width // 768)
    tiles = [[wide[(r * columns + c) % len(wide)] for c in range(columns)] for r in range(rows)]
    whole = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    return Image.fromarray(np.ascontiguousarray(whole[:height, :width]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["archive", "photo", "progressive"])
    parser.add_argument("--size", type=int, nargs=2, default=(6000, 4000), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    command = [sys.executable, "-m", "ddpm_codec_cli"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in"
        source.mkdir()
        if options.what == "archive":
            for index, image in enumerate(test_images()[: options.count]):
                Image.fromarray(image).save(source / f"{index:05d}.png")
        else:
            mosaic(*options.size).save(source / "photo.png")
        model = "cifar10" if options.what == "archive" else "photo"
        steps = ["--steps", str(options.steps)] if options.steps else []
        coded = str(folder / "x.ddpm")
        baseline = peak_megabytes([sys.executable, "-c", "import torch"])
        picture = str(source) if options.what == "archive" else str(source / "photo.png")
        progressive = ["--progressive"] if options.what == "progressive" else []
        encode = peak_megabytes([*command, "encode", picture, "-o", coded, "--model", model, *steps, *progressive])
        back = folder / "out"
        if options.what != "archive":
            back.mkdir()
            back /= "photo.png"
        decode = peak_megabytes([*command, "decode", coded, "-o", str(back)])
        for path in sorted(source.iterdir()):
            if not np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(folder / "out" / path.name))):
                sys.exit(f"{path.name}: the pixels did not come back")
    print(
        table(
            [options.what, "peak MB", "over import torch"],
            [["encode", encode, encode / baseline], ["decode", decode, decode / baseline]],
        )
    )
    values = {"encode_mb": encode, "decode_mb": decode, "import_torch_mb": baseline, "what": options.what}
    if options.what != "archive":
        values["size"] = "x".join(map(str, options.size))
    write_json(values | {"own_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}, options.json)


if __name__ == "__main__":
    main()
