"""Question: what does it cost that a lossless file can be cut anywhere?

Run: python -m benchmarks.progressive_lossless cifar [--limit 200] [--json FILE]
     python -m benchmarks.progressive_lossless kodak [--limit 24] [--json FILE]
     (--libjxl FILE: 0.12 or later, where that of imagecodecs is older)
Every picture is a progressive file of its own, decoded again and compared. Beside it: the same picture as a plain file of
`encode`, decoded again too; the model's bound on the same pictures (its default chain); lossless WebP and JPEG XL of each
picture alone and JPEG XL's own progressive lossless files (`cjxl -d 0 -p`), decoded again as well. What JPEG XL's prefixes
show: `python -m benchmarks.jpeg_xl`.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import Pixels, current_libjxl, has_jxl, peer_bytes, peers_line, table, write_json
from benchmarks.pictures import pictures
from ddpm_codec.evaluation import evaluate_bpd
from ddpm_codec.files import decode_file, encode_files, encode_progressive_files
from ddpm_codec.rate_distortion.libjxl import Libjxl

PROGRESSIVE_JXL = {"jxl7 -p": 7, "jxl9 -p": 9}
FALLBACK = {
    "progressive files that end with the fallback": ("end", "fallback"),
    "plain files of the fallback": ("plain_fallback", True),
}


def progressive_jxl(name: str, pixels: Pixels, libjxl: Libjxl) -> dict[str, float]:
    """Return bits/dim of JPEG XL's progressive lossless files."""
    rates = {}
    for peer, effort in PROGRESSIVE_JXL.items():
        file = libjxl.encode(pixels, effort=effort, progressive=True)
        back = libjxl.decode(file)
        if back is None or not np.array_equal(back, pixels):
            raise SystemExit(f"{name}: {peer} did not give the pixels back")
        rates[peer] = 8 * len(file) / pixels.size
    return rates


def measure(
    name: str, pixels: Pixels, model: str, peers: list[str], libjxl: Libjxl | None, folder: Path
) -> dict[str, Any]:
    """Return sizes and times of one picture."""
    source, coded, back = folder / f"{name}.png", folder / f"{name}.ddpm", folder / "back.png"
    Image.fromarray(pixels).save(source)
    (report,) = encode_progressive_files([source], coded, model=model, overwrite=True)
    decoded = decode_file(coded, back, model=model, overwrite=True)
    if not np.array_equal(np.asarray(Image.open(back)), pixels) or not decoded.lossless:
        raise SystemExit(f"{name}: the pixels did not come back")
    size, plain = coded.stat().st_size, folder / f"{name}-plain.ddpm"
    plain_report = encode_files([source], plain, model=model, verify=True)
    row: dict[str, Any] = {
        "name": name,
        "dims": pixels.size,
        "bytes": size,
        "ddpm-codec": 8 * size / pixels.size,
        "plain": 8 * plain.stat().st_size / pixels.size,
        "plain_fallback": bool(plain_report.fallback_images),
        "payload": 8 * (size - report.header_bytes) / pixels.size,
        "header_bytes": report.header_bytes,
        "index_bytes": report.index_bytes,
        "index_over_kl": 8 * report.index_bytes / report.index_ideal_bits if report.index_ideal_bits else None,
        "end": report.end,
        "end_level": report.end_level,
        "encode_s": report.seconds,
        "decode_s": decoded.seconds,
    }
    for peer in peers:
        row[peer] = 8 * peer_bytes(pixels, peer) / pixels.size
    if libjxl is not None:
        row |= progressive_jxl(name, pixels, libjxl)
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
    parser.add_argument("--libjxl")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    libjxl = current_libjxl(options.libjxl)
    print(peers_line(libjxl), flush=True)
    model = options.model or {"cifar": "cifar10", "kodak": "photo"}[options.set]
    found = pictures(options.set, options.limit)
    peers = ["webp", *(["jxl7", "jxl9"] if has_jxl() else [])]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, pixels in found.items():
            rows.append(measure(name, pixels, model, peers, libjxl, Path(temporary)))
            if options.set == "kodak":
                print({key: round(v, 3) if isinstance(v, float) else v for key, v in rows[-1].items()}, flush=True)
        limit = bound(found, model, Path(temporary))
    dims = sum(row["dims"] for row in rows)
    progressive = list(PROGRESSIVE_JXL) if libjxl is not None else []
    columns = ["ddpm-codec", "plain", "payload", *peers, *progressive]
    means = {key: sum(row[key] * row["dims"] for row in rows) / dims for key in columns}
    means["bound"] = limit
    print(table(["bits/dim of", *means], [[len(rows), *means.values()]]))
    over = [100 * (row["ddpm-codec"] / row["plain"] - 1) for row in rows]
    whole = 100 * (means["ddpm-codec"] / means["plain"] - 1)
    print(f"progressive over plain: {whole:+.2f} % in all, {min(over):+.2f} to {max(over):+.2f} % a picture")
    for key in ("ddpm-codec", "plain", "payload"):
        print(f"{key}: {100 * (means[key] / limit - 1):+.2f} %, {means[key] - limit:+.4f} bits/dim over the bound")
    fallback = {key: sum(row[own] == value for row in rows) for key, (own, value) in FALLBACK.items()}
    for key, count in fallback.items():
        print(f"{key}: {count} of {len(rows)}, {100 * count / len(rows):.1f} %")
    for key in ("header_bytes", "index_over_kl", "encode_s", "decode_s"):
        values = [row[key] for row in rows if row[key] is not None]
        if values:
            print(f"{key}: mean {np.mean(values):.3f}, largest {max(values):.3f}")
    for peer in progressive:
        print(f"smaller than {peer}: {sum(row['ddpm-codec'] < row[peer] for row in rows)} of {len(rows)}")
    libjxl_version = None if libjxl is None else libjxl.version
    found_all = {"rows": rows, "means": means, "model": model, "libjxl": libjxl_version}
    write_json(found_all | {"progressive_over_plain_percent": whole, "fallback": fallback}, options.json)


if __name__ == "__main__":
    main()
