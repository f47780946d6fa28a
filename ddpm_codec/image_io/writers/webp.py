"""Writes lossless WebP files: pixels by libwebp, metadata as chunks around them."""

import struct
from typing import Final

from ddpm_codec.image_io.metadata.riff import KEYS, riff_chunk, riff_chunks
from ddpm_codec.image_io.writers.pillow import saved
from ddpm_codec.image_io.writers.written import Written
from ddpm_codec.picture import MetadataKey, Picture

_FLAGS: Final[dict[bytes, int]] = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
_ALPHA: Final = 0x10


def write_webp(picture: Picture, metadata: dict[MetadataKey, bytes]) -> Written:
    """Return a picture as a lossless WebP file.

    Args:
        picture: its pixels; its metadata are not written.
        metadata: what to write: ICC, EXIF and XMP.

    Raises:
        InputError: WebP does not hold the picture.
    """
    file = saved(picture, "WEBP", [{"lossless": True, "exact": True, "method": 4}])
    pieces = {kind: metadata[key] for kind, key in KEYS.items() if key in metadata}
    if not pieces:
        return Written(file)
    pixels = [(kind, data) for kind, data in riff_chunks(file) if kind in (b"VP8L", b"ALPH", b"VP8 ")]
    flags = sum(_FLAGS[kind] for kind in pieces) | (_ALPHA if picture.mode == "RGBA" else 0)
    width, height = picture.size
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    head = [(b"VP8X", bytes([flags, 0, 0, 0]) + canvas)]
    profile = [(kind, data) for kind, data in pieces.items() if kind == b"ICCP"]
    others = [(kind, data) for kind, data in pieces.items() if kind != b"ICCP"]
    body = b"".join(riff_chunk(kind, data) for kind, data in (*head, *profile, *pixels, *others))
    return Written(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body, metadata)
