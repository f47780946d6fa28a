"""Some fifty small pictures of all formats, to be damaged."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

Samples = NDArray[Any]
SIZE = (23, 17)


def ramp(channels: int, dtype: str = "u1") -> Samples:
    """Return a slope with some noise, [17, 23, channels] (one channel: [17, 23]), over the whole range of the type."""
    width, height = SIZE
    row, column, channel = np.mgrid[:height, :width, :channels]
    noise = np.random.default_rng(7).random((height, width, channels))
    unit = ((3 * row + 5 * column + 40 * channel) / 250 + 0.1 * noise) % 1.0
    kind = np.dtype(dtype)
    values = unit.astype(kind) if kind.kind == "f" else (unit * (float(np.iinfo(kind).max) + 0.9)).astype(kind)
    return values[..., 0] if channels == 1 else values


def seed_pictures() -> dict[str, bytes]:
    """Return the files by name; the part of the name before the first dash is the format."""
    files = dict(_by_pillow())
    files |= _png() | _tiff() | _netpbm()
    files["jpeg2000-16bit"] = bytes(imagecodecs.jpeg2k_encode(ramp(3, "u2"), level=0, reversible=True))
    return files


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's options
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _images() -> dict[str, Image.Image]:
    rgb, rgba = Image.fromarray(ramp(3)), Image.fromarray(ramp(4))
    palette = rgb.quantize(13)
    bits = Image.fromarray(ramp(1) > 128)
    return {"grey": Image.fromarray(ramp(1)), "rgb": rgb, "rgba": rgba, "palette": palette, "bits": bits}


def _by_pillow() -> dict[str, bytes]:
    images = _images()
    held = {
        "bmp": ("grey", "rgb", "palette", "bits"),
        "gif": ("palette", "grey"),
        "webp": ("rgb", "rgba"),
        "jpeg": ("rgb", "grey"),
        "jpeg2000": ("rgb", "grey", "rgba"),
        "tga": ("rgb", "grey", "rgba", "palette"),
        "pcx": ("rgb", "grey", "palette", "bits"),
        "sgi": ("rgb", "grey", "rgba"),
        "qoi": ("rgb", "rgba"),
        "ico": ("rgba",),
    }
    files = {
        f"{kind}-{name}": _saved(images[name], kind, **({"lossless": True} if kind == "webp" else {}))
        for kind, names in held.items()
        for name in names
    }
    files["jpeg-progressive"] = _saved(images["rgb"], "JPEG", progressive=True, quality=90)
    files["jpeg-cmyk"] = _saved(images["rgb"].convert("CMYK"), "JPEG")
    files["jpeg-metadata"] = _saved(
        images["rgb"], "JPEG", icc_profile=b"p" * 300, comment=b"words", xmp=b"<x/>", dpi=(72, 72)
    )
    files["webp-lossy"] = _saved(images["rgb"], "WEBP")
    files["webp-metadata"] = _saved(images["rgb"], "WEBP", lossless=True, icc_profile=b"p" * 99, xmp=b"<x/>")
    files["tga-rle"] = _saved(images["rgb"], "TGA", compression="tga_rle")
    files["avif-rgb"] = _saved(images["rgb"], "AVIF", quality=100, subsampling="4:4:4")
    return files


def _png() -> dict[str, bytes]:
    images, files = _images(), {}
    for name, image in images.items():
        files[f"png-{name}"] = _saved(image, "PNG")
    for channels in (1, 2, 3, 4):
        files[f"png-16bit-{channels}"] = bytes(imagecodecs.png_encode(ramp(channels, "u2")))
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "words", zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x/>")
    info.add(b"gAMA", struct.pack(">I", 45455))
    files["png-metadata"] = _saved(images["rgb"], "PNG", pnginfo=info, icc_profile=b"p" * 300, dpi=(72, 72))
    files["png-interlaced"] = _interlaced(ramp(3))
    return files


def _interlaced(samples: Samples) -> bytes:
    """Return a PNG of Adam7 passes, none of them filtered."""
    height, width = samples.shape[:2]
    raw = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, right in (
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        )
        for row in samples[top::down, left::right]
        if row.size
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    out = b"\x89PNG\r\n\x1a\n"
    for tag, body in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    return out


def _tiff() -> dict[str, bytes]:
    files = {f"tiff-pillow-{name}": _saved(image, "TIFF") for name, image in _images().items()}
    files["tiff-metadata"] = _saved(_images()["rgb"], "TIFF", icc_profile=b"p" * 99, dpi=(72, 72), description="words")
    kinds: dict[str, dict[str, Any]] = {
        "rgb-lzw": {"data": ramp(3), "photometric": "rgb", "compression": "lzw"},
        "rgb16-deflate": {"data": ramp(3, "u2"), "photometric": "rgb", "compression": "zlib", "predictor": True},
        "rgba16": {"data": ramp(4, "u2"), "photometric": "rgb", "extrasamples": ["unassalpha"]},
        "rgba16-associated": {"data": ramp(4, "u2"), "photometric": "rgb", "extrasamples": ["assocalpha"]},
        "grey16-tiles": {"data": ramp(1, "u2"), "photometric": "minisblack", "tile": (16, 16)},
        "grey32": {"data": ramp(1, "u4"), "photometric": "minisblack"},
        "float": {"data": ramp(1, "f4"), "photometric": "minisblack"},
        "float-rgb-planes": {
            "data": np.moveaxis(ramp(3, "f4"), 2, 0),
            "photometric": "rgb",
            "planarconfig": "separate",
        },
        "grey12": {"data": ramp(1, "u2") >> 4, "photometric": "minisblack", "bitspersample": 12},
        "jpeg": {"data": ramp(3), "photometric": "rgb", "compression": "jpeg"},
        "big": {"data": ramp(3), "photometric": "rgb", "big": True, "byteorder": ">"},
    }
    for name, how in kinds.items():
        file = io.BytesIO()
        writer: Callable[..., object] = tifffile.imwrite
        writer(
            file,
            how.pop("data"),
            bigtiff=how.pop("big", False),
            byteorder=how.pop("byteorder", None),
            metadata=None,
            **how,
        )
        files[f"tiff-{name}"] = file.getvalue()
    return files


def _netpbm() -> dict[str, bytes]:
    width, height = SIZE
    head = f"{width} {height}\n".encode()
    grey, rgb = ramp(1), ramp(3)
    text = "\n".join(" ".join(map(str, row)) for row in grey).encode()
    bits = np.packbits(grey < 128, axis=1).tobytes()
    return {
        "ppm-p1": b"P1\n# words\n" + head + "\n".join(" ".join(map(str, row)) for row in (grey < 128) * 1).encode(),
        "ppm-p2": b"P2\n" + head + b"255\n" + text,
        "ppm-p4": b"P4\n" + head + bits,
        "ppm-p5-1000": b"P5\n" + head + b"1000\n" + (ramp(1, "u2") % 1001).astype(">u2").tobytes(),
        "ppm-p6": b"P6\n" + head + b"255\n" + rgb.tobytes(),
        "ppm-p6-16bit": b"P6\n" + head + b"65535\n" + ramp(3, "u2").astype(">u2").tobytes(),
    }
