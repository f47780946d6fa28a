"""Save a photo with Pillow and an array with zarr, both as .ddpm, and read them back.

Needs the extra ``plugins``: ``pip install ddpm-codec[plugins]``. Run it with ``python examples/plugin.py``.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image

import ddpm_codec.pillow_plugin  # noqa: F401 - from here on Pillow knows .ddpm
from ddpm_codec.zarr_plugin import DdpmCodec

SAMPLE = Path(__file__).with_name("sample.png")


def with_pillow(photo: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Save a picture to ``path``, open it again and return its pixels."""
    photo.save(path)
    with Image.open(path) as image:
        print(f"Pillow: {image.format}, {image.mode}, {image.width}x{image.height}, {path.stat().st_size:,} bytes")
        return np.asarray(image)


def with_zarr(pictures: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Write pictures, [N, H, W, 3], to a zarr array of one chunk a picture, and return what it holds."""
    array = zarr.create_array(
        path,
        shape=pictures.shape,
        chunks=(1, *pictures.shape[1:]),
        dtype="uint8",
        serializer=DdpmCodec(),
        compressors=None,
    )
    array[...] = pictures
    print(f"zarr:   {array.nchunks} chunks, {array.nbytes_stored():,} of {array.nbytes:,} bytes")
    # The name of the codec is in the array; zarr finds the codec where this package is installed.
    back = zarr.open_array(path, mode="r")[...]
    return np.asarray(back, np.uint8)


def main() -> None:
    """Run the example; exit code 1 where a pixel differs."""
    with Image.open(SAMPLE) as image:
        photo = image.convert("RGB").crop((0, 0, 256, 128))
    pictures = np.stack([np.asarray(photo)[:, :128], np.asarray(photo)[:, 128:]])
    with tempfile.TemporaryDirectory() as folder:
        same = [
            np.array_equal(with_pillow(photo, Path(folder, "photo.ddpm")), np.asarray(photo)),
            np.array_equal(with_zarr(pictures, Path(folder, "photos.zarr")), pictures),
        ]
    print(f"raw:    {pictures.nbytes:,} bytes")
    if not all(same):
        sys.exit("what was read differs from what was written")


if __name__ == "__main__":
    main()
