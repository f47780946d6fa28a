"""An image that gets better while its bytes arrive, until it is lossless.

Run it with ``python examples/progressive.py [PICTURE]``; of a larger picture it takes the middle.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import ddpm_codec
from ddpm_codec.distortion import psnr_db

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "shutters_128x128.png"
SIDE, PIECES = 64, 32

photo = np.asarray(Image.open(sys.argv[1] if len(sys.argv) > 1 else SAMPLE).convert("RGB"))
top, left = (max(0, side - SIDE) // 2 for side in photo.shape[:2])
image = photo[top : top + SIDE, left : left + SIDE]

data = ddpm_codec.encode(image, progressive=True)
print(f"{image.shape[1]}x{image.shape[0]}: {len(data):,} bytes, in {PIECES} pieces")

decoder = ddpm_codec.ProgressiveDecoder()
for number in range(PIECES):
    start, end = (len(data) * n // PIECES for n in (number, number + 1))
    # True where these bytes gave a better image: a piece may end before the next section does.
    if decoder.feed(data[start:end]):
        picture = decoder.picture()
        shown = (
            "lossless" if decoder.lossless else f"noise level {decoder.level}, PSNR {psnr_db(image, picture):.2f} dB"
        )
        print(f"{end:>7,} bytes: {shown}")

print(f"equal at the end: {np.array_equal(decoder.picture(), image)}")
