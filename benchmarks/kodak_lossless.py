"""Question: how large are the 24 Kodak photos, each its own lossless file, beside PNG, WebP and JPEG XL?

Run: python -m benchmarks.kodak_lossless [--model photo] [--limit N] [--json FILE]
Every byte of every file counts. Each of our files is decoded again and its pixels compared. Photos that the fallback codes
whole are counted.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, has_jxl, need, peer_bytes, peers_line, table, write_json
from ddpm_codec.files import decode_file, encode_files


def measure(path: Path, model: str, peers: list[str]) -> dict[str, Any]:
    """Return bits/dim of one photo with every codec, and our speeds."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    row: dict[str, Any] = {"name": path.stem, "dims": pixels.size}
    for peer in peers:
        row[peer] = 8 * peer_bytes(pixels, peer) / pixels.size
    with tempfile.TemporaryDirectory() as folder:
        coded, back = Path(folder) / "x.ddpm", Path(folder) / "x.png"
        encoded = encode_files([path], coded, model=model)
        decoded = decode_file(coded, back, model=model)
        if not np.array_equal(np.asarray(Image.open(back)), pixels):
            raise SystemExit(f"{path.name}: the pixels did not come back")
        row["ddpm-codec"] = 8 * coded.stat().st_size / pixels.size
    row["fallback"] = bool(encoded.fallback_images)
    row["encode_s"], row["decode_s"] = encoded.seconds, decoded.seconds
    row["encode_px_s"] = pixels.size / 3 / encoded.seconds
    row["decode_px_s"] = pixels.size / 3 / decoded.seconds
    row["encode_network_share"] = encoded.network_seconds / encoded.seconds
    row["decode_network_share"] = decoded.network_seconds / decoded.seconds
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(peers_line(), flush=True)
    peers = ["png", "webp", *(["jxl7", "jxl9"] if has_jxl() else [])]
    rows = []
    for path in sorted(need(SHARED_DATA / "kodak").glob("*.png"))[: options.limit]:
        rows.append(measure(path, options.model, peers))
        print(rows[-1]["name"], {key: round(rows[-1][key], 3) for key in [*peers, "ddpm-codec"]}, flush=True)
    columns = [*peers, "ddpm-codec"]
    means = {key: float(np.mean([row[key] for row in rows])) for key in [*columns, "encode_px_s", "decode_px_s"]}
    print(table(["photo", *columns], [[row["name"], *(row[c] for c in columns)] for row in rows]))
    print(table(["mean of", *columns], [[len(rows), *(means[c] for c in columns)]]))
    fallback = [row["name"] for row in rows if row["fallback"]]
    print(f"coded by the fallback: {len(fallback)} of {len(rows)} {' '.join(fallback)}".rstrip())
    for call in ("encode", "decode"):
        seconds = [row[f"{call}_s"] for row in rows]
        print(f"{call}: {sum(seconds):.1f} s in all, {np.mean(seconds):.2f} s a photo, longest {max(seconds):.2f} s")
    print(f"encode {means['encode_px_s']:,.0f} pixels/s, decode {means['decode_px_s']:,.0f} pixels/s")
    write_json({"rows": rows, "means": means, "model": options.model, "fallback": fallback}, options.json)


if __name__ == "__main__":
    main()
