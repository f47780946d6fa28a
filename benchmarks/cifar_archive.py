"""Question: what does the CIFAR-10 test set cost as one archive, every byte, beside its bound, PNG, WebP and JPEG XL?

Run: python -m benchmarks.cifar_archive [--model cifar10] [--limit N] [--json FILE]
"net - bound" is what coding costs over the bound, without head, table, checksums and seeds; "file - bound" is with them.
The archive is decoded and every pixel compared. The bound is that of the same images and the same chain. The others
code 30x30 sheets of the same images (JPEG XL at effort 9).
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import has_jxl, peer_bytes, peers_line, table, write_json
from ddpm_codec.evaluation import evaluate_bpd
from ddpm_codec.files import decode_file, encode_files


def sheet_bpd(images: np.ndarray, codec: str, side: int = 30) -> float:
    """Return bits/dim of the images as sheets of side x side cells (the last sheet may be smaller)."""
    total = 0
    for start in range(0, len(images), side * side):
        cells = images[start : start + side * side]
        columns = min(side, len(cells))
        rows = -(-len(cells) // columns)
        sheet = np.zeros((rows * columns, 32, 32, 3), np.uint8)
        sheet[: len(cells)] = cells
        grid = sheet.reshape(rows, columns, 32, 32, 3).swapaxes(1, 2).reshape(rows * 32, columns * 32, 3)
        total += peer_bytes(np.ascontiguousarray(grid), codec)
    return 8 * total / images.size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--limit", type=int, default=10000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(peers_line(), flush=True)
    images = test_images()[: options.limit]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "test"
        source.mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(source / f"{index:05d}.png")
        np.save(folder / "test.npy", images)
        coded = folder / "test.ddpm"
        encoded = encode_files([source], coded, model=options.model)
        started = time.perf_counter()
        decode_file(coded, folder / "back", model=options.model)
        decode_seconds = time.perf_counter() - started
        for index, image in enumerate(images):
            if not np.array_equal(np.asarray(Image.open(folder / "back" / f"{index:05d}.png")), image):
                raise SystemExit(f"image {index}: the pixels did not come back")
        bound = evaluate_bpd(str(folder / "test.npy"), model=options.model).to_json()
    values = encoded.to_json() | {"bound": bound, "decode_seconds": decode_seconds}
    peers = ["png", "webp", *(["jxl9"] if has_jxl() else [])]
    values |= {f"{peer}_sheet_bpd": sheet_bpd(images, peer) for peer in peers}
    rows = [[key, values[key]] for key in ("file_bpd", "net_bpd", *(f"{peer}_sheet_bpd" for peer in peers))]
    rows += [["bound_bpd", bound["total_bpd"]], ["bound stderr", bound["stderr_bpd"]]]
    # Net bits are those of the pictures that the model codes: the bound is theirs only where these are all.
    compared = ("file", "net") if not encoded.fallback_images else ("file",)
    coded_over = {key: values[f"{key}_bpd"] - bound["total_bpd"] for key in compared}
    rows += [[f"{key} - bound", over] for key, over in coded_over.items()]
    print(table([f"{len(images)} images", "bits/dim"], rows))
    print(f"coded by the fallback: {encoded.fallback_images} of {len(images)}")
    print(f"encode {encoded.seconds:.0f} s, decode {decode_seconds:.0f} s")
    write_json(values | {f"{key}_over_bound_bpd": over for key, over in coded_over.items()}, options.json)


if __name__ == "__main__":
    main()
