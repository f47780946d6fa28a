"""The CIFAR-10 images as the benchmarks use them; run alone, it unpacks them into arrays.

Run: python -m benchmarks.cifar DIR    (writes DIR/train.npy and DIR/test.npy)
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, Pixels, need


def _images(name: str) -> Pixels:
    """Read sheets of 40 x 25 cells in the official order."""
    with zipfile.ZipFile(need(SHARED_DATA / name)) as archive:
        sheets = []
        for entry in sorted(n for n in archive.namelist() if n.endswith(".webp")):
            page = np.asarray(Image.open(io.BytesIO(archive.read(entry))).convert("RGB"))
            sheets.append(page.reshape(25, 32, 40, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3))
    return np.concatenate(sheets)


def test_images() -> Pixels:
    """Return the 10,000 test images, [N, 32, 32, 3]."""
    return _images("cifar10_test.zip")


def train_images() -> Pixels:
    """Return the 50,000 training images, [N, 32, 32, 3]."""
    return _images("cifar10_train.zip")


def main() -> None:
    """Unpack."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "train.npy", train_images())
    np.save(folder / "test.npy", test_images())


if __name__ == "__main__":
    main()
