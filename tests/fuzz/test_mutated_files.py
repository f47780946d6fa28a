"""Mutated `.ddpm` files of every codec: one line or a picture; no traceback, no crash, no hang, no flood of memory."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_codec import encode_archive
from ddpm_codec.codecs import fallback
from ddpm_codec.codecs.lossless import single
from ddpm_codec.codecs.progressive import parameters
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.codecs.tiling import CodingOptions
from ddpm_codec.container import ROUTE_INDEXED, ROUTE_MODEL
from ddpm_codec.files import encode_files, encode_progressive_files
from ddpm_codec.image_io import picture_from_image
from tests.fuzz.mutation import joined, sections_of
from tests.golden.regenerate import EXACT, noisy_picture

MEBIBYTES = 1024
ROOT = Path(__file__).resolve().parents[2]
KINDS = ["fallback", "bits-back", "indices", "fallback-end", "single", "indexed"]


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


def _single(kind: str, path: Path) -> None:
    """Write a file of one picture, with a name and metadata, by the route that the kind says."""
    image = Image.fromarray(noisy_picture(500, *((96, 128) if kind == "single" else (24, 33))))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    picture = picture_from_image(image, "a/b.png")
    info = replace(picture.info, metadata={"icc": b"profile" * 30, "xmp": b"<x/>"})
    session = CodingSession.for_encoding(str(EXACT), "cpu", 8)
    with pytest.MonkeyPatch.context() as patch:
        # The model has no pixel decoder and no chance against a fallback of so few bytes.
        patch.setattr(single, "_suits_indices", lambda *_: kind == "indexed")
        patch.setattr(parameters, "register_for", lambda _: 6)
        patch.setattr(fallback, "encode_fallback", lambda _: bytes(1 << 16))
        coded = single.encode_single(replace(picture, info=info), session, CodingOptions(1 << 20, 64))
    assert coded.short.route == {"single": ROUTE_MODEL, "indexed": ROUTE_INDEXED}[kind]
    path.write_bytes(coded.to_bytes(path.name))


def _seed_file(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.ddpm"
    if kind in ("single", "indexed"):
        _single(kind, path)
        return path
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
        ends_so = kind == "fallback-end"
        how: dict[str, Any] = {"register_bits": 6, "tile": 32, "fallback": ends_so}
        encode_progressive_files([source], path, steps=8, model=str(EXACT), **how)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_put_together_again_is_the_same(kind: str, tmp_path: Path) -> None:
    data = _seed_file(kind, tmp_path).read_bytes()
    assert joined(data[:10], sections_of(data)) == data


@pytest.mark.parametrize(
    ("kind", "count"),
    [("fallback", 300), ("bits-back", 60), ("indices", 40), ("fallback-end", 40), ("single", 40), ("indexed", 40)],
)
def test_a_few(kind: str, count: int, tmp_path: Path) -> None:
    _check(kind, 1_000_000, 1_000_000 + count, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
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
