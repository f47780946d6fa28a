"""Question: what does it cost that masks, contexts and seeds end at tiles, and how large should tiles be?

Run: python -m benchmarks.tile_choice [--model photo] [--tiles 128 256 512] [--limit N] [--json FILE]
Photos that choices may be made on (photos_val): bits/dim of plain and of progressive files, head and framing included, and
the seconds of decoding, by the side of the tiles; and what the seeds, the fallback-coded first tiles that start the stack
of a plain file, add to the rate over what the model takes for other sub-pixels of the same photo.
"""

import argparse
import io
import statistics
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, need, table, write_json
from ddpm_codec.codecs import block
from ddpm_codec.files import decode_file, encode_files, encode_progressive_files

KEYS = ("plain", "progressive", "seeds", "seconds")


def photos(limit: int | None) -> list[Image.Image]:
    """Return the photos of photos_val."""
    with zipfile.ZipFile(need(SHARED_DATA / "photos_val.zip")) as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith((".png", ".webp"))][:limit]
        return [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]


class SeedCosts:
    """Collects what the seeds of blocks cost while it is entered."""

    def __init__(self) -> None:
        self.last: block.BlockStats | None = None

    def _encoded(self, *arguments: Any) -> Any:  # noqa: ANN401 - those of the wrapped function
        payload, self.last = self._original(*arguments)
        return payload, self.last

    def __enter__(self) -> Self:
        self._original = block._encode_tiles
        self._patch = mock.patch.object(block, "_encode_tiles", self._encoded)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    @property
    def bpd(self) -> float:
        """Bits/dim of the last block over those of its model-coded part alone."""
        last = self.last
        if last is None or not last.dims:
            return 0.0
        return (last.seed_bits + last.net_bits) / (last.seed_dims + last.dims) - last.net_bits / last.dims


def measure(image: Image.Image, tile: int, model: str, folder: Path) -> dict[str, float]:
    """Return bits/dim and seconds of one photo at one side of the tiles."""
    source, coded, back = folder / "x.png", folder / "x.ddpm", folder / "back.png"
    image.save(source)
    dims = 3 * image.width * image.height
    with SeedCosts() as seeds:
        plain = encode_files([source], coded, model=model, tile=tile, overwrite=True)
    decoded = decode_file(coded, back, model=model, overwrite=True)
    if not np.array_equal(np.asarray(Image.open(back)), np.asarray(image)):
        raise SystemExit("the pixels did not come back")
    encode_progressive_files([source], coded, model=model, tile=tile, overwrite=True)
    return {
        "plain": plain.to_json()["file_bpd"],
        "progressive": 8 * coded.stat().st_size / dims,
        "seeds": seeds.bpd,
        "seconds": decoded.seconds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--tiles", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for tile in options.tiles:
            found = [measure(image, tile, options.model, Path(name)) for image in photos(options.limit)]
            rows.append([tile, *(statistics.mean(one[key] for one in found) for key in KEYS)])
            print(rows[-1], flush=True)
    headers = [
        "side of the tiles",
        "plain, bits/dim",
        "progressive, bits/dim",
        "of plain, for seeds",
        "decoding plain, s",
    ]
    print(table(headers, rows))
    write_json({"rows": rows}, options.json)


if __name__ == "__main__":
    main()
