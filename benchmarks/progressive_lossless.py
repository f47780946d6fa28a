"""Question: what does it cost that a lossless file can be cut anywhere?

Run: python -m benchmarks.progressive_lossless cifar [--limit 200] [--json FILE]
     python -m benchmarks.progressive_lossless kodak [--limit 24] [--json FILE]
Every picture is a progressive file of its own, decoded again and compared. Beside it: the model's bound on the same pictures
(its default chain), lossless WebP and JPEG XL of each picture alone and, where `cjxl` (Debian: libjxl-tools) is here, its
progressive lossless mode `cjxl -d 0 -p`.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import SHARED_DATA, Pixels, has_jxl, need, peer_bytes, table, write_json
from ddpm_codec.evaluation import evaluate_bpd
from ddpm_codec.files import decode_file, encode_progressive_files

SEED = 0


def pictures(name: str, limit: int | None) -> dict[str, Pixels]:
    """Return the pictures of a set by name."""
    if name == "cifar":
        images = test_images()
        chosen = np.random.default_rng(SEED).permutation(len(images))[: limit or 200]
        return {f"{index:05d}": images[index] for index in sorted(chosen.tolist())}
    paths = sorted(need(SHARED_DATA / "kodak").glob("*.png"))[:limit]
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in paths}


def progressive_jxl(path: Path, folder: Path) -> int | None:
    """Return the size of `cjxl -d 0 -p`; None without cjxl."""
    program = shutil.which("cjxl")
    if program is None:
        return None
    target = folder / "p.jxl"
    subprocess.run([program, str(path), str(target), "-d", "0", "-p", "--quiet"], check=True, capture_output=True)
    return target.stat().st_size


def measure(name: str, pixels: Pixels, model: str, peers: list[str], folder: Path) -> dict[str, Any]:
    """Return sizes and times of one picture."""
    source, coded, back = folder / f"{name}.png", folder / f"{name}.ddpm", folder / "back.png"
    Image.fromarray(pixels).save(source)
    (report,) = encode_progressive_files([source], coded, model=model, overwrite=True)
    decoded = decode_file(coded, back, overwrite=True)
    if not np.array_equal(np.asarray(Image.open(back)), pixels) or not decoded.lossless:
        raise SystemExit(f"{name}: the pixels did not come back")
    size = coded.stat().st_size
    row: dict[str, Any] = {
        "name": name,
        "dims": pixels.size,
        "bytes": size,
        "ddpm-codec": 8 * size / pixels.size,
        "payload": 8 * (size - report.header_bytes) / pixels.size,
        "header_bytes": report.header_bytes,
        "index_bytes": report.index_bytes,
        "index_over_kl": 8 * report.index_bytes / report.index_ideal_bits,
        "end": report.end,
        "end_level": report.end_level,
        "encode_s": report.seconds,
        "decode_s": decoded.seconds,
    }
    for peer in peers:
        row[peer] = 8 * peer_bytes(pixels, peer) / pixels.size
    progressive = progressive_jxl(source, folder)
    if progressive is not None:
        row["jxl -d 0 -p"] = 8 * progressive / pixels.size
    return row


def bound(found: dict[str, Pixels], model: str, folder: Path) -> float:
    """Return the model's bound on the pictures, in bits/dim over all of them."""
    source = folder / "bound"
    source.mkdir()
    for name, pixels in found.items():
        Image.fromarray(pixels).save(source / f"{name}.png")
    report = evaluate_bpd(str(source), model=model)
    return float(np.average(report.total_bpd, weights=report.dims))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=["cifar", "kodak"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = options.model or {"cifar": "cifar10", "kodak": "photo"}[options.set]
    found = pictures(options.set, options.limit)
    peers = ["webp", *(["jxl9"] if has_jxl() else [])]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, pixels in found.items():
            rows.append(measure(name, pixels, model, peers, Path(temporary)))
            if options.set == "kodak":
                print({key: round(v, 3) if isinstance(v, float) else v for key, v in rows[-1].items()}, flush=True)
        limit = bound(found, model, Path(temporary))
    dims = sum(row["dims"] for row in rows)
    columns = [key for key in ("ddpm-codec", "payload", *peers, "jxl -d 0 -p") if key in rows[0]]
    means = {key: sum(row[key] * row["dims"] for row in rows) / dims for key in columns}
    means["bound"] = limit
    print(table(["bits/dim of", *means], [[len(rows), *means.values()]]))
    for key in ("ddpm-codec", "payload"):
        print(f"{key}: {100 * (means[key] / limit - 1):.1f} % over the bound")
    for key in ("header_bytes", "index_over_kl", "encode_s", "decode_s"):
        values = [row[key] for row in rows]
        print(f"{key}: mean {np.mean(values):.3f}, largest {max(values):.3f}")
    if "jxl -d 0 -p" in columns:
        print(f"smaller than jxl -d 0 -p: {sum(row['ddpm-codec'] < row['jxl -d 0 -p'] for row in rows)} of {len(rows)}")
    write_json({"rows": rows, "means": means, "model": model}, options.json)


if __name__ == "__main__":
    main()
