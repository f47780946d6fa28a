"""Many images in one file, any of which can be decoded alone.

Run it with ``python examples/archive.py [PICTURE]``.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import ddpm_codec

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "shutters_128x128.png"
SIDE = 32

photo = np.asarray(Image.open(sys.argv[1] if len(sys.argv) > 1 else SAMPLE).convert("RGB"))[:128, :128]
rows, columns = photo.shape[0] // SIDE, photo.shape[1] // SIDE
tiles = {
    f"row{row}/tile{column}.png": photo[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
    for row in range(rows)
    for column in range(columns)
}

data = ddpm_codec.encode_archive(tiles)
alone = sum(len(ddpm_codec.encode(tile)) for tile in tiles.values())
print(f"{len(tiles)} images of {SIDE}x{SIDE}: {len(data):,} bytes in one archive, {alone:,} in files of their own")

# Smaller blocks compress less, and there is less to decode for one image (and to lose if a byte is damaged).
data = ddpm_codec.encode_archive(tiles, block_pixels=columns * SIDE * SIDE)
print(f"in blocks of {columns} images: {len(data):,} bytes, {ddpm_codec.info(data).blocks} blocks")

with ddpm_codec.open_archive(data) as archive:
    name = archive.names[-1]
    image = archive[name]  # decodes the block that holds it, and no other
    print(f"{name} alone: {image.shape}, equal: {np.array_equal(image, tiles[name])}")
    print(f"all of them equal: {all(np.array_equal(image, tiles[name]) for name, image in archive.items())}")
