"""Make golden files anew: ``python -m pytest tests/test_golden.py --regenerate-golden=photo``, ``=files`` or ``=all``.

A tiny network learns noisy pictures in seconds, well enough to beat the fallback on them, and is frozen twice: exact, with a
pixel decoder, and in floating point. Files that the exact one codes must decode for ever, on any machine: ``all`` is for a
change of the format, ``files`` for one that leaves the models as they are.
``=progressive`` makes the progressive ones alone. ``photo.ddpm`` belongs to the model that ships and is made again with it.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.codecs.progressive.indexed import encode_indexed
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.container import CODEC_SINGLE, ROUTE_INDEXED, Head, ShortHead, write_single
from ddpm_codec.container.layout import SHORT_ID_BYTES, Values
from ddpm_codec.files import decode_file, encode_files, encode_progressive_files
from ddpm_codec.image_io import read_picture
from ddpm_codec.picture import Picture
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.export import export_model
from ddpm_codec.training.export_options import ExportOptions
from ddpm_codec.training.run import train

FOLDER = Path(__file__).resolve().parent
PHOTO = FOLDER.parent / "data" / "shutters_128x128.png"
EXACT, FLOAT = FOLDER / "tiny.safetensors", FOLDER / "tiny_float.safetensors"
EXPECTED = FOLDER / "golden.json"
PREFIXES = FOLDER / "progressive.json"
CROSSINGS = (3.2, 8.2)
"""Of the pixel decoder, in grey levels of noise."""

FILES = ("noise.ddpm", "set.ddpm", "levels.ddpm", "small.ddpm", "photo.ddpm")
PROGRESSIVE = ("indices.ddpm", "drawn.ddpm")
"""Progressive files: one that ends with tiles, one of a drawn picture that ends with the fallback."""


def noisy_picture(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return slow waves of colour under heavy noise: nothing that WebP is good at, [H, W, 3]."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:height, 0:width][..., None]
    phase, slope = rng.uniform(0.0, 6.28, 3), rng.uniform(0.02, 0.12, (2, 3))
    wave = 127.5 + 50.0 * np.sin(row * slope[0] + column * slope[1] + phase)
    grey: NDArray[np.uint8] = np.clip(np.rint(wave + rng.normal(0.0, 18.0, wave.shape)), 0, 255).astype(np.uint8)
    return grey


def drawn_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Return squares and discs of a few flat colours, which WebP is good at, [H, W, 3]."""
    row, column = np.mgrid[0:height, 0:width]
    colour = (row // 12 * 5 + column // 12 * 3) % 7
    colour[(row % 40 - 20) ** 2 + (column % 50 - 25) ** 2 < 150] = 7
    palette = np.random.default_rng(0).integers(0, 256, (8, 3), dtype=np.uint8)
    return palette[colour]


def pixel_hash(path: Path) -> dict[str, object]:
    """Return mode, size and SHA-256 of the pixels of a picture file."""
    with Image.open(path) as picture:
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        return {"mode": picture.mode, "size": list(picture.size), "sha256": digest}


def regenerate(which: str) -> None:
    """Write the golden file of the model that ships (``photo``), the progressive ones, all files, or models too (``all``)."""
    if which in ("photo", "files", "all"):
        encode_files([PHOTO], FOLDER / "photo.ddpm", overwrite=True)
    if which in ("files", "all"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if which == "all":
                _train(folder)
            _encode(folder)
    if which in ("progressive", "files", "all"):
        _encode_progressive()


def shown(path: Path, output: Path, **how: object) -> dict[str, object]:
    """Return the hash of what a part of a progressive file shows."""
    decode_file(path, output, model=EXACT, overwrite=True, **how)  # type: ignore[arg-type]
    return pixel_hash(output)


def _encode_progressive() -> None:
    with tempfile.TemporaryDirectory() as name:
        source, back = Path(name) / "noise.png", Path(name) / "back.png"
        found: dict[str, object] = {}
        for file, pixels in zip(PROGRESSIVE, (noisy_picture(400, 60, 90), drawn_picture(100, 150)), strict=True):
            Image.fromarray(pixels).save(source)
            encode_progressive_files(
                [source],
                FOLDER / file,
                steps=8,
                register_bits=8,
                fallback=file == "drawn.ddpm",
                tile=32,
                model=EXACT,
                overwrite=True,
            )
            found[file] = {
                "lossless": pixel_hash(source),
                **{how: shown(FOLDER / file, back, level=5, reconstruction=how) for how in ("mean", "sample", "flow")},
            }
    PREFIXES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _indexed(picture: Picture) -> bytes:
    """Return a file of a picture coded by indices, which encoders leave to models that have a pixel decoder."""
    session, register_bits = CodingSession.for_encoding(str(EXACT), "cpu", 8), 8
    values: Values = {"crossing": session.crossing, "steps": session.steps, "register_bits": register_bits}
    head = Head(CODEC_SINGLE, session.model.name, bytes.fromhex(session.model_id)[:SHORT_ID_BYTES], {}, values)
    body = encode_indexed(session, picture.array(), register_bits)
    return write_single(ShortHead(head, picture.info, route=ROUTE_INDEXED), body, file_name="small.ddpm")


def _train(folder: Path) -> None:
    np.save(folder / "noise.npy", np.stack([noisy_picture(seed, 64, 64) for seed in range(48)]))
    shared = {"data": str(folder / "noise.npy"), "holdout": 8, "size": "tiny", "crop": 32, "batch": 16, "steps": 8}
    shared |= {"dtype": "float32", "device": "cpu", "log_snr_min": -3.0, "validation_images": 8}
    first = train(
        TrainConfig.from_dict(shared | {"output": str(folder / "a"), "train_steps": 900, "lr": 4e-3}), progress=False
    )
    export_model(first, FLOAT, ExportOptions("tiny-float", exact=False, limit=16, tile=64), overwrite=True)
    more = {"output": str(folder / "b"), "init_from": str(first), "quantize": True, "train_steps": 300, "lr": 2e-3}
    second = train(TrainConfig.from_dict(shared | more), progress=False)
    how = ExportOptions("tiny", decoder=_train_decoder(folder, first, shared), limit=16, tile=64)
    export_model(second, EXACT, how, overwrite=True)


def _train_decoder(folder: Path, trunk: Path, shared: dict[str, object]) -> Path:
    """Train a pixel decoder that starts from the trunk of a denoiser, then with rounding; return its last checkpoint."""
    values = {key: value for key, value in shared.items() if key not in ("steps", "log_snr_min")}
    values |= {"size": "decoder-tiny", "crossings": list(CROSSINGS)}
    floating = {"output": str(folder / "c"), "init_from": str(trunk), "train_steps": 600, "lr": 3e-3}
    last = train(TrainConfig.from_dict(values | floating), progress=False)
    rounded = {"output": str(folder / "d"), "init_from": str(last), "quantize": True, "train_steps": 200, "lr": 1e-3}
    return train(TrainConfig.from_dict(values | rounded), progress=False)


def _encode(folder: Path) -> None:
    one = folder / "noise.png"
    Image.fromarray(noisy_picture(100, 128, 192)).save(one)
    many = folder / "set"
    many.mkdir()
    for index in range(5):
        Image.fromarray(noisy_picture(200 + index, 64, 96 - 8 * index)).save(many / f"n{index}.png")
    translucent = Image.fromarray(noisy_picture(300, 96, 80))
    translucent.putalpha(Image.linear_gradient("L").resize((80, 96)))
    translucent.save(many / "alpha.png")
    Image.linear_gradient("L").save(many / "grey.png")
    Image.linear_gradient("L").convert("P").save(many / "palette.png")
    tiny = str(EXACT)
    encode_files([one], FOLDER / "noise.ddpm", model=tiny, overwrite=True)
    encode_files([many], FOLDER / "set.ddpm", model=tiny, overwrite=True)
    encode_files([one], FOLDER / "levels.ddpm", model=tiny, steps=4, tile=64, overwrite=True)
    small = folder / "small.png"
    Image.fromarray(noisy_picture(500, 24, 37)).save(small)
    (FOLDER / "small.ddpm").write_bytes(_indexed(read_picture(small)))
    sources = {
        "small.ddpm": {"small.png": pixel_hash(small)},
        "noise.ddpm": {"noise.png": pixel_hash(one)},
        "set.ddpm": {path.name: pixel_hash(path) for path in sorted(many.iterdir())},
        "levels.ddpm": {"noise.png": pixel_hash(one)},
        "photo.ddpm": {PHOTO.name: pixel_hash(PHOTO)},
    }
    models = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in (("exact", EXACT), ("float", FLOAT))
    }
    EXPECTED.write_text(json.dumps({"models": models, "files": sources}, indent=1) + "\n", encoding="utf-8")
