"""An array to bytes and back, a Pillow image with its metadata, and what a file says about itself.

Run it with ``python examples/api.py [PICTURE]``.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

import ddpm_codec

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "shutters_128x128.png"

photo = Image.open(sys.argv[1] if len(sys.argv) > 1 else SAMPLE).convert("RGB")

# An array is uint8: [H, W] grey, [H, W, 2] grey and alpha, [H, W, 3] RGB or [H, W, 4] RGBA.
array = np.asarray(photo)
data = ddpm_codec.encode(array)
back = ddpm_codec.decode(data)
print(f"array {array.shape}: {array.nbytes:,} bytes, encoded {len(data):,}; equal: {np.array_equal(back, array)}")

# A Pillow image keeps its mode, palette and metadata; palette images are coded without the model.
indexed = photo.quantize(16)
indexed.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
restored = ddpm_codec.to_pil(ddpm_codec.encode(indexed))
palettes = restored.getpalette() == indexed.getpalette()
profiles = restored.info["icc_profile"] == indexed.info["icc_profile"]
print(f"Pillow image of mode {restored.mode}: same palette: {palettes}; same ICC profile: {profiles}")

facts = ddpm_codec.info(data)
width, height = facts.pictures[0].size
print(f"info: {facts.codec}, {width}x{height}, {facts.file_bpd:.3f} bits/dim, model {facts.model}")
