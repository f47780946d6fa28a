"""How other libraries than ours see a picture file, in a form that compares: [height, width, 4], or CMYK.

``UnreadError`` says that there is no second reader of a format, or none for what this file holds.
"""

import io
import re
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from ddpm_codec.image_io import to_image
from ddpm_codec.picture import MODES, Picture
from tests.fuzz.pictures import Samples


class UnreadError(Exception):
    """No second reader can tell."""


def shown(picture: Picture) -> Samples:
    """Return our picture: RGBA of its own depth, or its four inks."""
    if picture.info.layout.has_palette or picture.mode == "1" or picture.transparency is not None:
        if picture.info.layout.sample_bits > 8:
            return four(picture.samples())
        return np.asarray(to_image(picture).convert("RGBA"))
    return four(picture.samples())


def four(samples: Samples) -> Samples:
    """Return samples of one to four channels as four: grey three times, opaque where there is no alpha."""
    flat = samples if samples.ndim == 3 else samples[..., None]
    if samples.dtype == bool:
        flat = flat.astype(np.uint8) * 255
    white = 1 if flat.dtype.kind == "f" else np.iinfo(flat.dtype).max
    opaque = np.full((*flat.shape[:2], 1), white, flat.dtype)
    channels = flat.shape[2]
    if channels in (1, 2):
        return np.concatenate([flat[..., :1]] * 3 + [flat[..., 1:] if channels == 2 else opaque], axis=2)
    return np.concatenate([flat, opaque], axis=2) if channels == 3 else flat


def seen(kind: str, data: bytes, ours: Picture) -> Samples:
    """Return the file as a second library sees it.

    Args:
        kind: the format.
        data: the file.
        ours: what we made of it; only its mode is looked at, where a library must be told what to give.

    Raises:
        UnreadError: no library here tells.
        Exception: the second library refuses the file.
    """
    reader = _READERS.get(kind)
    if reader is None:
        raise UnreadError
    return reader(data, ours)


def _png(data: bytes, ours: Picture) -> Samples:
    if ours.transparency is not None:
        raise UnreadError  # libraries differ in how they give a transparent colour
    # Damaged metadata do not cost the pixels; of 16-bit colour, libpng is our own reader.
    plain = _critical(data)
    return four(_wide_png(plain) if ours.info.layout.sample_bits == 16 else np.asarray(imagecodecs.png_decode(plain)))


def _critical(data: bytes) -> bytes:
    """Return a PNG without its ancillary chunks, whose names begin with a small letter, but for transparency."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        out += data[at : at + 12 + length] if not kind[0] & 0x20 or kind == b"tRNS" else b""
        at += 12 + length
    return out


def _wide_png(data: bytes) -> Samples:
    """Read a PNG of 16-bit samples by the words of its specification (sections 5 and 9)."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if interlaced:
        raise UnreadError
    if depth != 16:
        raise ValueError("not 16 bits")
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    at, idat = 8, b""
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        idat += data[at + 8 : at + 8 + length] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    step = 2 * channels
    rows = np.frombuffer(zlib.decompress(idat), np.uint8).reshape(height, 1 + step * width).astype(int)
    above, out = [0] * (step * width), []
    for kind, *row in rows.tolist():
        for i in range(len(row)):
            left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
            guess = left + above[i] - corner
            nearest = min((left, above[i], corner), key=lambda value: abs(guess - value))
            row[i] = (row[i] + (0, left, above[i], (left + above[i]) // 2, nearest)[kind]) & 255
        above = row
        out.append(row)
    samples = np.array(out, np.uint8).view(">u2").astype(np.uint16).reshape(height, width, channels)
    return samples[..., 0] if channels == 1 else samples


def _jpeg(data: bytes, ours: Picture) -> Samples:
    found = np.asarray(imagecodecs.jpeg8_decode(data))
    # Adobe stores ink as its absence.
    return 255 - found if ours.mode == "CMYK" and b"Adobe" in data else four(found)


def _gif(data: bytes, ours: Picture) -> Samples:
    if ours.transparency is not None:
        raise UnreadError
    frames = np.asarray(imagecodecs.gif_decode(data))
    return four(frames if frames.ndim == 3 else frames[0])


def _tiff(data: bytes, ours: Picture) -> Samples:
    layout = MODES[ours.mode]
    if ours.info.white is not None or ours.mode in ("YCbCr", "LAB"):
        raise UnreadError
    if layout.in_pillow and layout.sample_bits <= 8 and not data.startswith(b"MM\0+"):  # which Pillow does not read
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            if ours.mode in ("La", "RGBa"):
                raise UnreadError  # Pillow divides by alpha
            image.load()
            return np.asarray(image) if image.mode == "CMYK" else np.asarray(image.convert("RGBA"))
    samples = np.asarray(imagecodecs.tiff_decode(data))
    separate_planes = samples.ndim == 3 and samples.shape[1:] == ours.size[::-1]
    return four(np.moveaxis(samples, 0, 2) if separate_planes else samples)


def _simple(decode: Any) -> Any:  # noqa: ANN401 - one of imagecodecs' functions
    return lambda data, _ours: four(np.asarray(decode(data)))


def _netpbm(data: bytes, _ours: Picture) -> Samples:
    """Read PBM, PGM and PPM by the words of their manual pages."""
    if not (found := re.match(rb"P([1-6])((?:\s|#[^\n]*\n)+)", data)):
        raise ValueError("no magic number")
    number, at, fields = int(found[1]), found.end(), list[int]()
    while len(fields) < (2 if number in (1, 4) else 3):
        word = re.match(rb"(?:\s|#[^\n]*\n)*(\d+)", data[at:])
        if word is None:
            raise ValueError("no header")
        fields.append(int(word[1]))
        at += word.end()
    width, height, white = (*fields, 1)[:3]
    channels = 3 if number in (3, 6) else 1
    rest = data[at + 1 :]
    if number == 4:
        rows = np.frombuffer(rest[: height * -(-width // 8)], np.uint8).reshape(height, -1)
        return four(np.unpackbits(rows, axis=1, count=width) == 0)
    if number == 1:
        return four(
            np.array([byte == ord("0") for byte in rest if byte in b"01"][: width * height]).reshape(height, width)
        )
    if number in (2, 3):
        values = np.array([int(word) for word in rest.split()][: height * width * channels])
    else:
        kind = ">u2" if white > 255 else "u1"
        values = np.frombuffer(rest[: height * width * channels * np.dtype(kind).itemsize], kind)
    return four(values.reshape(height, width, channels).astype(np.uint16 if white > 255 else np.uint8))


_READERS = {
    "png": _png,
    "jpeg": _jpeg,
    "gif": _gif,
    "tiff": _tiff,
    "ppm": _netpbm,
    "webp": _simple(imagecodecs.webp_decode),
    "avif": _simple(imagecodecs.avif_decode),
    "bmp": _simple(imagecodecs.bmp_decode),
    "qoi": _simple(imagecodecs.qoi_decode),
    "jpeg2000": _simple(imagecodecs.jpeg2k_decode),
}
"""PCX, SGI, TGA and ICO have no second reader here."""
