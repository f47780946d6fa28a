"""Small pictures of every format, written by Pillow and imagecodecs, for tests of the readers."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 61, 37
_DRAW: Final = np.random.default_rng(9)


def _smooth(channels: int) -> NDArray[np.uint8]:
    steps = _DRAW.normal(0, 4, (HEIGHT, WIDTH, channels))
    return np.clip(np.cumsum(steps, axis=1) + 128, 0, 255).astype(np.uint8)


SAMPLES: Final = _smooth(4)
RGBA: Final = Image.fromarray(SAMPLES)
RGB: Final = Image.fromarray(SAMPLES[:, :, :3])


def image(mode: str) -> Image.Image:
    """Return the test picture in a mode; P and a number for a palette of so many colours."""
    if mode.startswith("P"):
        return RGB.quantize(int(mode[1:]))
    return RGBA.convert(mode) if mode in ("RGBA", "LA") else RGB.convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - as Pillow takes
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@dataclass(frozen=True)
class Sample:
    """A file: its format, a label, its bytes."""

    format: str
    label: str
    data: bytes

    @property
    def name(self) -> str:
        return f"x.{self.format.lower()}"


_PILLOW: Final[tuple[tuple[str, tuple[str, ...], tuple[dict[str, Any], ...]], ...]] = (
    ("PNG", ("1", "L", "LA", "P2", "P50", "RGB", "RGBA"), ({},)),
    ("JPEG", ("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"restart_marker_rows": 1, "subsampling": 0})),
    ("GIF", ("1", "L", "P2", "P50"), ({}, {"interlace": 0})),
    ("WEBP", ("RGB", "RGBA"), ({}, {"lossless": True}, {"lossless": True, "exact": True})),
    ("AVIF", ("L", "RGB", "RGBA"), ({},)),
    ("BMP", ("1", "L", "P2", "P16", "P50", "RGB"), ({},)),
    ("ICO", ("RGBA", "L"), ({"sizes": [(32, 32)]},)),
    ("ICO", ("RGBA", "RGB", "P50"), ({"sizes": [(32, 32)], "bitmap_format": "bmp"},)),
    ("PCX", ("1", "L", "P16", "P50", "RGB"), ({},)),
    ("PPM", ("1", "L", "RGB"), ({},)),
    ("QOI", ("RGB", "RGBA"), ({},)),
    ("SGI", ("L", "RGB", "RGBA"), ({},)),
    ("TGA", ("L", "LA", "P50", "RGB", "RGBA"), ({}, {"compression": "tga_rle"}, {"orientation": 1})),
    ("JPEG2000", ("L", "LA", "RGB", "RGBA"), ({}, {"irreversible": True})),
    ("JPEG2000", ("L", "RGB"), ({"no_jp2": True, "tile_size": (32, 32)},)),
)


def of_pillow() -> Iterator[Sample]:
    """Yield files that Pillow writes and reads exactly."""
    for kind, modes, settings in _PILLOW:
        for mode in modes:
            for options in settings:
                yield Sample(kind, f"{mode} {options}", saved(image(mode), kind, **options))


def wide(bits: int, channels: int) -> NDArray[Any]:
    """Return samples of so many bits, [height, width] or [height, width, channels]."""
    kind = np.uint8 if bits <= 8 else np.uint16
    draw = np.random.default_rng(bits * 8 + channels)
    return (
        draw.integers(0, 1 << bits, (12, 20, channels), kind).squeeze(axis=2)
        if channels == 1
        else draw.integers(0, 1 << bits, (12, 20, channels), kind)
    )


def riff(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a WebP file of chunks."""
    body = b"".join(tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for tag, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def riff_chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a WebP file."""
    at, found = 12, []
    while at < len(file):
        (length,) = struct.unpack_from("<I", file, at + 4)
        found.append((file[at : at + 4], file[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def avif(samples: NDArray[Any], bits: int) -> bytes:
    """Return an AVIF file of samples as they are (identity matrix, lossless)."""
    return bytes(imagecodecs.avif_encode(samples, level=100, bitspersample=bits))


def jpeg2000(samples: NDArray[Any], bits: int) -> bytes:
    """Return a JPEG 2000 file of samples as they are."""
    return bytes(imagecodecs.jpeg2k_encode(samples, level=0, bitspersample=bits))


def psd(
    mode: int,
    planes: NDArray[np.uint8],
    *,
    resources: bytes = b"",
    layers: int = 0,
    packed: bool = False,
    depth: int = 8,
) -> bytes:
    """Return a Photoshop file of [channels, height, width] samples."""
    channels, height, width = planes.shape
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, depth, mode)
    palette = bytes(range(256)) * 3 if mode == 2 else b""
    information = struct.pack(">Ih", 2, layers) if layers else b""
    parts = [head]
    for section in (palette, resources, information):
        parts += [struct.pack(">I", len(section)), section]
    if packed:
        rows = [imagecodecs.packbits_encode(row.tobytes()) for row in planes.reshape(-1, width)]
        lengths = struct.pack(f">{len(rows)}H", *map(len, rows))
        return b"".join((*parts, b"\0\1", lengths, *rows))
    return b"".join((*parts, b"\0\0", planes.tobytes()))
