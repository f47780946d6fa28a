"""Mutated `.ddpm` files of every codec: one line or a picture; no traceback, no crash, no hang, no flood of memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_codec import encode_archive
from ddpm_codec.files import encode_files, encode_progressive_files
from tests.fuzz.mutation import joined, sections_of
from tests.golden.regenerate import EXACT, noisy_picture

MEBIBYTES = 1024
ROOT = Path(__file__).resolve().parents[2]


def _fallback(path: Path) -> None:
    """Write an archive of many modes, with names, metadata, palettes and transparent colours."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(9), np.arange(14))
    arrays = [
        (ramp[..., None] * np.ones(channels)).astype(dtype) if channels > 1 else ramp.astype(dtype)
        for dtype in ("u1", "u2", "u4", "f4")
        for channels in (1, 2, 3, 4)
    ]
    images: dict[str, object] = {f"a/{index:03d}.png": array for index, array in enumerate(arrays)}
    palette = Image.fromarray(rng.integers(0, 5, (9, 14), np.uint8), "P")
    palette.putpalette(bytes(range(15)))
    palette.info["transparency"] = b"\0\x80"
    metadata = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    metadata.info |= {"icc_profile": b"profile" * 30, "exif": b"MM\0*\0\0\0\x08\0\0\0\0\0\0", "xmp": b"<x/>"}
    images |= {"p.png": palette, "bits.png": Image.new("1", (11, 7)), "b/metadata.jpg": metadata}
    path.write_bytes(encode_archive(images, model="none"))  # type: ignore[arg-type]


def _seed_file(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.ddpm"
    if kind == "fallback":
        _fallback(path)
        return path
    sizes = [(96, 128), (90, 97), (128, 128), (16, 16)] if kind == "bits-back" else [(32, 40), (33, 17)]
    for index, (height, width) in enumerate(sizes):
        image = Image.fromarray(noisy_picture(500 + index, height, width))
        if index == 1:
            image.putalpha(Image.linear_gradient("L").resize((width, height)))
        image.save(folder / f"{index}.png")
    if kind == "bits-back":
        report = encode_files([folder], path, model=str(EXACT), block_pixels=1 << 14, tile=64)
        assert report.net_dims > 0
    else:
        source = folder / ("1.png" if kind == "indices" else "0.png")
        fallback = kind == "fallback-end"
        how: dict[str, Any] = {"register_bits": 6, "tile": 32, "fallback": fallback}
        encode_progressive_files([source], path, steps=8, model=str(EXACT), **how)
    return path


@pytest.mark.parametrize("kind", ["fallback", "bits-back", "indices", "fallback-end"])
def test_a_file_put_together_again_is_the_same(kind: str, tmp_path: Path) -> None:
    data = _seed_file(kind, tmp_path).read_bytes()
    assert joined(data[:10], sections_of(data)) == data


@pytest.mark.parametrize(
    ("kind", "count"),
    [("fallback", 300), ("bits-back", 60), ("indices", 40), ("fallback-end", 40)],
)
def test_a_few(kind: str, count: int, tmp_path: Path) -> None:
    _check(kind, 1_000_000, 1_000_000 + count, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fallback", "bits-back", "indices", "fallback-end"])
def test_two_thousand(kind: str, tmp_path: Path) -> None:
    _check(kind, 0, 2000, tmp_path)


def _check(kind: str, first: int, last: int, folder: Path) -> None:
    path = _seed_file(kind, folder)
    words = [sys.executable, "-m", "tests.fuzz.decode_many", str(path), str(EXACT), f"{first}-{last}"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60 + 10 * (last - first)
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert not found["faults"], json.dumps(found["faults"], indent=1)[:4000]
    assert found["mebibytes"] < MEBIBYTES
    assert min(found["tried"].values()) == (last - first) // 2
