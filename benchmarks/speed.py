"""Question: how many pixels a second do encode and decode of one photo manage, and where does the time go, beside peers?

Run: python -m benchmarks.speed [--model photo] [--photo kodim13] [--repeat 3] [--json FILE]
Our times are of the library call, from file to file, model loading included apart; peers write and read memory.
Medians over the repeats; ratios are to JPEG XL effort 9 (or WebP, without the plugin) in the same run.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import SHARED_DATA, has_jxl, need, peers_line, table, write_json
from ddpm_codec.files import decode_file, encode_files

PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {"optimize": True}),
    "webp": ("WEBP", {"lossless": True, "quality": 100, "method": 6, "exact": True}),
    "jxl7": ("JXL", {"lossless": True, "effort": 7}),
    "jxl9": ("JXL", {"lossless": True, "effort": 9}),
}


def peer_seconds(image: Image.Image, name: str, repeat: int) -> tuple[float, float]:
    """Return median seconds of encoding and decoding."""
    kind, options = PEERS[name]
    encode, decode = [], []
    for _ in range(repeat):
        buffer = io.BytesIO()
        started = time.perf_counter()
        image.save(buffer, kind, **options)
        encode.append(time.perf_counter() - started)
        buffer.seek(0)
        started = time.perf_counter()
        Image.open(buffer).load()
        decode.append(time.perf_counter() - started)
    return statistics.median(encode), statistics.median(decode)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--photo", default="kodim13")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(peers_line(), flush=True)
    path = need(SHARED_DATA / "kodak" / f"{options.photo}.png")
    image = Image.open(path).convert("RGB")
    pixels = image.width * image.height
    # Of each call: all seconds, those of the network, those of the coder.
    calls: dict[str, list[tuple[float, float, float]]] = {"encode": [], "decode": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.repeat):
            coded, back = Path(folder) / f"{number}.ddpm", Path(folder) / f"{number}.png"
            encoded = encode_files([path], coded, model=options.model)
            calls["encode"].append((encoded.seconds, encoded.network_seconds, encoded.coder_seconds))
            decoded = decode_file(coded, back)
            calls["decode"].append((decoded.seconds, decoded.network_seconds, decoded.coder_seconds))
            if not np.array_equal(np.asarray(Image.open(back)), np.asarray(image)):
                raise SystemExit("the pixels did not come back")
    rows: list[list[object]] = []
    medians = {}
    for name, measured in calls.items():
        seconds, network, coder = sorted(measured)[len(measured) // 2]
        medians[name] = seconds
        rows.append([name, pixels / seconds, network, coder, seconds - network - coder])
    print(f"{path.name}, {image.width}x{image.height}, {torch.get_num_threads()} threads")
    print(table(["ddpm-codec", "pixels/s", "network s", "entropy coder s", "rest s (files, model, start)"], rows))
    names = ["png", "webp", *(["jxl7", "jxl9"] if has_jxl() else [])]
    peers = {name: peer_seconds(image, name, options.repeat) for name in names}
    print(
        table(
            ["peer", "encode pixels/s", "decode pixels/s", "our encode time / theirs", "our decode time / theirs"],
            [
                [name, pixels / e, pixels / d, medians["encode"] / e, medians["decode"] / d]
                for name, (e, d) in peers.items()
            ],
        )
    )
    write_json({"photo": options.photo, "pixels": pixels, "ours": rows, "peers": peers}, options.json)


if __name__ == "__main__":
    main()
