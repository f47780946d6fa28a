"""Question: how fast are pictures of archives read in training, by block size, and what does each block size cost in bytes?

Run: python -m benchmarks.datasets [--model cifar10] [--limit N] [--block-pixels N ...] [--repeat N] [--json FILE]
An epoch of the first CIFAR-10 test images in one process with one thread, in pictures a second of the processor: in the order
of BlockShuffle, and in full shuffle ("random"), each keeping 4 blocks and no more; beside PNG files read with Pillow in full
shuffle. The best of the repeats; each starts with nothing kept, and with a model that has run. Of a full shuffle of an
archive, --random pictures are read. Every picture is compared. The data set would keep so small an archive as a whole; the
limit makes it a part of a large one.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import Pixels, table, write_json
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.datasets import Archives, BlockShuffle
from ddpm_codec.files import encode_files
from ddpm_codec.units import bytes_to_bpd

KEPT_BLOCKS: Final = 4
SEED: Final = 0


def pictures_per_second(read: Callable[[int], Pixels], order: Iterable[int], images: Pixels) -> float:
    """Return the pictures a second of the processor in an order; one that differs from its image ends the program."""
    indices = list(order)
    started = time.process_time()
    found = [read(index) for index in indices]
    seconds = time.process_time() - started
    if not np.array_equal(np.stack(found), images[indices]):
        raise SystemExit("the pixels did not come back")
    return len(indices) / seconds


def read_png(path: Path) -> Pixels:
    """Read a file with Pillow."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def measure_archive(path: Path, images: Pixels, options: argparse.Namespace) -> dict[str, Any]:
    """Return pictures a second of an archive in both orders, and the blocks that each decodes."""

    def opened() -> Archives:
        pixels = KEPT_BLOCKS * max(np.bincount(Archives(path).blocks)) * images[0].size // 3
        return Archives(path, model=options.model, threads=1, cached_pixels=int(pixels))

    first = opened()
    first[0]
    full = np.random.default_rng(SEED).permutation(len(images))[: options.random].tolist()
    orders = {"shuffled": list(BlockShuffle(first, blocks=KEPT_BLOCKS, seed=SEED)), "random": full}
    values: dict[str, Any] = {"blocks": int(first.blocks.max()) + 1}
    for name, order in orders.items():
        speeds = []
        for _ in range(options.repeat):
            dataset = opened()
            speeds.append(pictures_per_second(dataset.__getitem__, order, images))
        values[f"{name}_pictures_per_second"] = max(speeds)
        values[f"{name}_decoded_blocks"] = dataset.decoded_blocks
        values[f"{name}_pictures"] = len(order)
    return values


def measure_png(folder: Path, images: Pixels, repeat: int) -> dict[str, Any]:
    """Return pictures a second of PNG files, and their size."""
    files = sorted(folder.glob("*.png"))
    order = np.random.default_rng(SEED).permutation(len(images)).tolist()
    speeds = [pictures_per_second(lambda index: read_png(files[index]), order, images) for _ in range(repeat)]
    size = sum(file.stat().st_size for file in files)
    return {"pictures_per_second": max(speeds), "bytes": size, "bpd": bytes_to_bpd(size, images.size)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--random", type=int, default=25)
    sizes = [1 << 14, 1 << 16, 1 << 18, DEFAULT_BLOCK_PIXELS]
    parser.add_argument("--block-pixels", type=int, nargs="+", default=sizes)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = test_images()[: options.limit]
    rows, archives = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{index:05d}.png", optimize=True)
        png = measure_png(folder, images, options.repeat)
        rows.append(["PNG, Pillow", "", "", png["bpd"], png["pictures_per_second"], "", ""])
        for block_pixels in options.block_pixels:
            coded = folder / f"{block_pixels}.ddpm"
            encode_files(sorted(folder.glob("*.png")), coded, model=options.model, block_pixels=block_pixels)
            size = coded.stat().st_size
            found = {"block_pixels": block_pixels, "bytes": size, "bpd": bytes_to_bpd(size, images.size)}
            found |= measure_archive(coded, images, options)
            shuffled, plain = (found[f"{order}_pictures_per_second"] for order in ("shuffled", "random"))
            found |= {
                "shuffled_over_random": shuffled / plain,
                "png_over_shuffled": png["pictures_per_second"] / shuffled,
            }
            found |= {"bytes_over_png": size / png["bytes"]}
            archives.append(found)
            row = [
                f"block-pixels {block_pixels}",
                found["blocks"],
                found["bytes_over_png"],
                found["bpd"],
                shuffled,
                plain,
            ]
            rows.append([*row, found["shuffled_over_random"]])
    headers = [
        "",
        "blocks",
        "bytes / PNG",
        "bits/dim",
        "shuffled, pictures/s",
        "random, pictures/s",
        "shuffled / random",
    ]
    print(table([f"{len(images)} images", *headers[1:]], rows))
    write_json({"images": len(images), "kept_blocks": KEPT_BLOCKS, "png": png, "archives": archives}, options.json)


if __name__ == "__main__":
    main()
