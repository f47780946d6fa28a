"""Question: do a CPU and a GPU make the same files, and how fast is each?

Run: python -m benchmarks.cross_device [--images 100] [--photo kodim13] [--speed] [--json FILE]
CIFAR-10 test images in one archive and one Kodak photo, coded on every device that is here: the files must be equal byte
for byte, and each is decoded on the other device, to the pixels of the source. The photo is also made a progressive file,
which every device must decode to the source, and the first tenth of it to one and the same picture. `--speed` adds 1,000
CIFAR-10 images and a mosaic of 12 megapixels, with the split between network and coder. Without CUDA it says so, and does
the CPU's part.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import SHARED_DATA, need, table, write_json
from ddpm_codec.files import decode_file, encode_files, encode_progressive_files

MOSAIC = (4000, 3000)


def write_pictures(folder: Path, images: int, photo: str, speed: bool) -> dict[str, tuple[str, list[Path]]]:
    """Write the pictures of each job; return its model and files."""
    jobs: dict[str, tuple[str, list[Path]]] = {}
    counts = {f"cifar{images}": images} | ({"cifar1000": 1000} if speed else {})
    for name, count in counts.items():
        place = folder / name
        place.mkdir()
        for index, image in enumerate(test_images()[:count]):
            Image.fromarray(image).save(place / f"{index:05d}.png")
        jobs[name] = ("cifar10", [place])
    source = need(SHARED_DATA / "kodak" / f"{photo}.png")
    jobs[photo] = ("photo", [source])
    if speed:
        tile = np.asarray(Image.open(source).convert("RGB"))
        repeats = (-(-MOSAIC[1] // tile.shape[0]), -(-MOSAIC[0] // tile.shape[1]), 1)
        Image.fromarray(np.tile(tile, repeats)[: MOSAIC[1], : MOSAIC[0]]).save(folder / "mosaic.png")
        jobs["12 megapixels"] = ("photo", [folder / "mosaic.png"])
    return jobs


def pixel_hash(place: Path) -> str:
    """Return the SHA-256 of the pixels of a picture, or of those of a folder in the order of names."""
    digest = hashlib.sha256()
    for path in sorted(place.iterdir()) if place.is_dir() else [place]:
        digest.update(np.asarray(Image.open(path)).tobytes())
    return digest.hexdigest()


def progressive(source: Path, devices: list[str], folder: Path) -> list[list[Any]]:
    """Return the rows of a photo as a progressive file, decoded whole and in part on every device."""
    coded, part = folder / "whole.ddpm", folder / "part.ddpm"
    (report,) = encode_progressive_files([source], coded, device=devices[-1])
    rows = [row("progressive", f"encode on {devices[-1]}", report, hashlib.sha256(coded.read_bytes()).hexdigest())]
    part.write_bytes(coded.read_bytes()[: coded.stat().st_size // 10])
    shown = set()
    for device in devices:
        decoded = decode_file(coded, folder / f"whole-{device}.png", device=device)
        found = pixel_hash(folder / f"whole-{device}.png")
        if found != pixel_hash(source):
            raise SystemExit(f"progressive: {device} does not give the source back")
        rows.append(row("progressive", f"decode on {device}", decoded, found))
        decode_file(part, folder / f"part-{device}.png", device=device)
        shown.add(pixel_hash(folder / f"part-{device}.png"))
    if len(shown) != 1:
        raise SystemExit("progressive: the devices show different pictures of the same tenth")
    return rows


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--photo", default="kodim13")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    if len(devices) == 1:
        print("no CUDA device here: only the CPU's part is run")
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for job, (model, inputs) in write_pictures(folder, options.images, options.photo, options.speed).items():
            files = {}
            for device in devices:
                coded = folder / f"{job}-{device}.ddpm"
                report = encode_files(inputs, coded, model=model, device=device)
                files[device] = hashlib.sha256(coded.read_bytes()).hexdigest()
                rows.append(row(job, f"encode on {device}", report, files[device]))
            if len(set(files.values())) != 1:
                raise SystemExit(f"{job}: the devices wrote different files")
            wanted = pixel_hash(inputs[0])
            for device in devices:
                output = folder / f"{job}-{device}-out"
                output.mkdir()
                # Decoded where it was not coded, if there are two devices.
                other = folder / f"{job}-{devices[-1 - devices.index(device)]}.ddpm"
                decoded = decode_file(other, output, device=device)
                found = pixel_hash(output)
                if found != wanted:
                    raise SystemExit(f"{job}: {device} does not give the source back")
                rows.append(row(job, f"decode on {device}", decoded, found))
        rows += progressive(need(SHARED_DATA / "kodak" / f"{options.photo}.png"), devices, folder)
    print(table(["pictures", "what", "megapixels/s", "network s", "coder s", "SHA-256 of file or pixels"], rows))
    write_json({"devices": devices, "rows": rows}, options.json)


def row(job: str, what: str, report: Any, digest: str) -> list[Any]:  # noqa: ANN401 - any of three reports
    """Return a line of the table."""
    coder = getattr(report, "coder_seconds", None)
    return [job, what, report.pixels / report.seconds / 1e6, report.network_seconds, coder, digest[:16]]


if __name__ == "__main__":
    main()
