"""Encode the sample photo with the model that ships, decode it, compare the pixels, and compare the sizes.

Run it with ``make demo``, or ``python examples/demo.py [PICTURE]``.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

SAMPLE = Path(__file__).with_name("sample.png")


def ddpm_codec(*arguments: str) -> dict[str, Any]:
    """Run one command with ``--json``, show it as typed, and return what it printed."""
    print(f"$ ddpm-codec {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "ddpm_codec_cli", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def classical_bytes(picture: Image.Image, kind: str, **options: Any) -> int:  # noqa: ANN401
    """Return the size of a picture, without its metadata, in a classical lossless format."""
    buffer = io.BytesIO()
    bare = picture.copy()
    bare.info.clear()
    bare.save(buffer, kind, **options)
    return buffer.tell()


def same_pixels(a: Image.Image, b: Image.Image) -> bool:
    """Say whether two pictures agree in mode, size and every value."""
    return a.mode == b.mode and a.size == b.size and ImageChops.difference(a, b).getbbox(alpha_only=False) is None


def main() -> None:
    """Run the demonstration; exit code 1 where a pixel differs."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    with tempfile.TemporaryDirectory() as folder:
        coded, back = Path(folder, "sample.ddpm"), Path(folder, "back.png")
        encoded = ddpm_codec("encode", str(source), "-o", str(coded), "--strip")
        decoded = ddpm_codec("decode", str(coded), "-o", str(back))
        with Image.open(source) as before, Image.open(back) as after:
            if not same_pixels(before, after):
                sys.exit("the decoded picture differs from the original")
            sizes = {
                "PNG (optimised)": classical_bytes(before, "PNG", optimize=True),
                "WebP lossless": classical_bytes(before, "WEBP", lossless=True, exact=True, quality=100, method=6),
                "ddpm-codec": coded.stat().st_size,
            }
    pixels = encoded["pixels"]
    print(f"\nThe {pixels:,} decoded pixels are exactly those of {source.name}.\n")
    print(f"{'format':<16}{'file bytes':>12}{'file bits/dim':>15}")
    for name, size in sizes.items():
        print(f"{name:<16}{size:>12,}{size * 8 / encoded['dims']:>15.3f}")
    print(f"\nencoded in {encoded['seconds']:.1f} s, decoded in {decoded['seconds']:.1f} s")


if __name__ == "__main__":
    main()
