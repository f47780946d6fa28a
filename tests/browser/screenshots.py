"""Screenshots of a page of ``ddpm-codec rd``: ``python -m tests.browser.screenshots PAGE -o FOLDER [--all]``.

Writes those of the documentation, ``rd_page_light_1600.png`` and ``rd_page_dark_400.png``, or all: narrow and wide, light and
dark. Each has at most 256 colours.
"""

import argparse
import io
import sys
from itertools import product
from pathlib import Path
from typing import Final

from PIL import Image

from tests.browser.chromium import SCHEMES, WIDTHS, Scheme, browser_of, find_chromium

SHOWN: Final[tuple[tuple[Scheme, int], ...]] = (("light", 1600), ("dark", 400))


def shrunk(png: bytes) -> bytes:
    """Return a PNG file in 256 colours."""
    packed = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    # Curves have colours of few pixels, which other methods give to the photos. Dithering costs bytes on flat grounds.
    palette = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    palette.save(packed, format="png", optimize=True)
    return packed.getvalue()


def main() -> int:
    """Write the files and name them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="index.html of a run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--all", action="store_true", help="narrow and wide, light and dark")
    options = parser.parse_args()
    program = find_chromium()
    if program is None:
        parser.error("there is no chromium in PATH")
    with browser_of(program) as browser:
        for scheme, width in product(SCHEMES, WIDTHS) if options.all else SHOWN:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(options.page.resolve().as_uri())
            path = options.output / f"rd_page_{scheme}_{width}.png"
            path.write_bytes(shrunk(page.screenshot(full_page=True)))
            page.close()
            print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
