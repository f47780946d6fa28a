"""Lossless coding of pixels without a model: the smallest of a few classical codecs, proved by decoding.

The first byte names the codec (numbers are never reused), the rest is its data. Size and mode are known to both sides, so
container headers (RIFF, PNG chunks) are left out and rebuilt by the decoder: nothing in the data can claim another size.
"""

import io
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import FormatError
from ddpm_codec.image_io.pillow import pixel_limit
from ddpm_codec.picture import MODES, Picture

WEBP: Final = 1
PNG: Final = 2
LZMA: Final = 3
RAW: Final = 4
WEBP_GREY: Final = 5
LZMA_DELTA: Final = 6

MAX_WEBP_SIDE: Final = 16383
"""Width and height of a WebP picture are 14 bits each, minus one."""

SMALL_BYTES: Final = 1 << 20
"""Below this many bytes of pixels every codec is tried, above it only those that are fast enough."""

THOROUGH_PIXELS: Final = 1 << 16
"""Below this, WebP spends its whole effort on prediction; above, that costs five times the time for 0.01 %."""

_BYTE_MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_DICTIONARY_BYTES: Final = 1 << 24


@dataclass(frozen=True)
class _Job:
    """What both sides know, and how hard the encoder tries."""

    mode: str
    size: tuple[int, int]
    effort: int = 4

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size[1], self.size[0], MODES[self.mode].channels

    @property
    def byte_count(self) -> int:
        return MODES[self.mode].byte_count(self.size)

    @property
    def byte_mode(self) -> str | None:
        """The PNG or WebP mode of as many 8-bit channels; None where samples are not bytes."""
        layout = MODES[self.mode]
        return _BYTE_MODES[layout.channels] if layout.sample_bits == 8 else None


def encode_fallback(picture: Picture, *, effort: int = 4) -> bytes:
    """Return the pixels of ``picture`` (any mode; not its palette or metadata) as one codec byte and data.

    Args:
        picture: what to encode.
        effort: 0 (fast) to 6 (small).
    """
    return _encode(_Job(picture.mode, picture.size, effort), picture.pixels)


def decode_fallback(data: bytes, mode: str, size: tuple[int, int]) -> bytes:
    """Return the pixels that :func:`encode_fallback` was given.

    Args:
        data: codec byte and data.
        mode: the picture's mode, a key of ``MODES``.
        size: its (width, height).

    Raises:
        FormatError: the data are not those of a picture of this mode and size.
    """
    if not data:
        raise FormatError("the fallback data are empty")
    decoder = _DECODERS.get(data[0])
    if decoder is None:
        raise FormatError(f"fallback codec {data[0]} is unknown: made by a newer version")
    job = _Job(mode, size)
    try:
        with pixel_limit(size[0] * size[1]):
            pixels = decoder(job, data[1:])
    except FormatError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data.
        raise FormatError("the fallback data are damaged") from error
    if len(pixels) != job.byte_count:
        raise FormatError("the fallback data are not of the declared size")
    return pixels


def encode_array(pixels: NDArray[np.uint8], *, effort: int = 4) -> bytes:
    """Return ``pixels`` of shape [height, width] or [height, width, 1 to 4] as one codec byte and data."""
    height, width = pixels.shape[:2]
    return _encode(_Job(_BYTE_MODES[pixels[0, 0].size], (width, height), effort), pixels.tobytes())


def decode_array(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the array of shape ``shape`` that :func:`encode_array` was given.

    Raises:
        FormatError: the data are not those of such an array.
    """
    mode = _BYTE_MODES[shape[2] if len(shape) == 3 else 1]
    return np.frombuffer(decode_fallback(data, mode, (shape[1], shape[0])), np.uint8).reshape(shape)


def _encode(job: _Job, pixels: bytes) -> bytes:
    candidates = [bytes([codec]) + _ENCODERS[codec](job, pixels) for codec in _choices(job)]
    for data in sorted(candidates, key=len):
        # Proved here, because a defect of a library must cost bytes and not pixels.
        if data[0] == RAW or decode_fallback(data, job.mode, job.size) == pixels:
            return data
    return bytes([RAW]) + pixels


def _choices(job: _Job) -> list[int]:
    """Return the codecs worth trying, by mode and size."""
    small = job.byte_count <= SMALL_BYTES
    fits_webp = max(job.size) <= MAX_WEBP_SIDE
    choices = []
    if job.byte_mode and fits_webp:
        choices.append(WEBP if MODES[job.mode].channels >= 3 else WEBP_GREY)
    fits_png = job.byte_mode is not None or job.mode.startswith("I;16") or job.mode == "1"
    # On large colour pictures PNG has not been seen to win, and takes as long.
    if fits_png and (small or WEBP not in choices):
        choices.append(PNG)
    if small or not choices:
        choices += [LZMA, LZMA_DELTA]
    if small:
        choices.append(RAW)
    return choices


def _encode_webp(job: _Job, pixels: bytes) -> bytes:
    return _to_vp8l(Image.frombytes(job.byte_mode or "", job.size, pixels), job)


def _decode_webp(job: _Job, data: bytes) -> bytes:
    if job.byte_mode not in ("RGB", "RGBA"):
        raise FormatError(f"fallback codec {WEBP} does not hold mode {job.mode}")
    return _from_vp8l(data, job.size, job.byte_mode)


def _encode_webp_grey(job: _Job, pixels: bytes) -> bytes:
    channels = job.shape[2]
    samples = np.frombuffer(pixels, np.uint8).reshape(job.shape)
    spread = np.ascontiguousarray(samples[:, :, [0, 0, 0] if channels == 1 else [0, 0, 0, 1]])
    return _to_vp8l(Image.frombytes(_BYTE_MODES[channels + 2], job.size, spread.tobytes()), job)


def _decode_webp_grey(job: _Job, data: bytes) -> bytes:
    if job.byte_mode not in ("L", "LA"):
        raise FormatError(f"fallback codec {WEBP_GREY} does not hold mode {job.mode}")
    height, width, channels = job.shape
    raw = _from_vp8l(data, job.size, _BYTE_MODES[channels + 2])
    samples = np.frombuffer(raw, np.uint8).reshape(height, width, channels + 2)
    return np.ascontiguousarray(samples[:, :, 2:]).tobytes()


def _to_vp8l(image: Image.Image, job: _Job) -> bytes:
    """Return the payload of the VP8L chunk: WebP without RIFF."""
    out = io.BytesIO()
    thorough = job.effort > 4 or image.width * image.height <= THOROUGH_PIXELS
    image.save(out, "WEBP", lossless=True, exact=True, method=job.effort, quality=100 if thorough else 75, exif=b"")
    data = out.getvalue()
    at = data.index(b"VP8L", 12)
    (length,) = struct.unpack_from("<I", data, at + 4)
    return data[at + 8 : at + 8 + length]


def _from_vp8l(data: bytes, size: tuple[int, int], mode: str) -> bytes:
    """Decode the payload of a VP8L chunk whose own header must agree on the size."""
    if len(data) < 5 or data[0] != 0x2F:
        raise FormatError("the fallback data are damaged")
    (bits,) = struct.unpack_from("<I", data, 1)
    if ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) != size:
        raise FormatError("the fallback data are not of the declared size")
    chunk = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    with Image.open(io.BytesIO(b"RIFF" + struct.pack("<I", len(chunk)) + chunk), formats=["WEBP"]) as image:
        if image.mode == mode:
            return image.tobytes()
        # WebP drops an alpha channel that is opaque everywhere.
        return image.convert(mode).tobytes()


def _png_header(job: _Job) -> tuple[bytes, str]:
    """Return the IHDR that a mode and a size imply, and Pillow's mode for it."""
    if job.mode == "1":
        depth, colour, mode = 1, 0, "1"
    elif job.mode.startswith("I;16"):
        depth, colour, mode = 16, 0, "I;16"
    elif job.byte_mode:
        depth, colour, mode = 8, {"L": 0, "LA": 4, "RGB": 2, "RGBA": 6}[job.byte_mode], job.byte_mode
    else:
        raise FormatError(f"fallback codec {PNG} does not hold mode {job.mode}")
    return struct.pack(">IIBBBBB", *job.size, depth, colour, 0, 0, 0), mode


def _swapped(job: _Job, pixels: bytes) -> bytes:
    """Return 16-bit samples in the other byte order where the mode has them big-endian."""
    return np.frombuffer(pixels, ">u2").astype("<u2").tobytes() if job.mode == "I;16B" else pixels


def _encode_png(job: _Job, pixels: bytes) -> bytes:
    """Return the zlib stream of a PNG file: its IDAT chunks joined."""
    _, mode = _png_header(job)
    out = io.BytesIO()
    image = Image.frombytes(mode, job.size, _swapped(job, pixels))
    image.save(out, "PNG", **({"optimize": True} if len(pixels) <= SMALL_BYTES else {}))
    data, at, idat = out.getvalue(), 8, bytearray()
    while at < len(data):
        length, tag = struct.unpack_from(">I4s", data, at)
        if tag == b"IDAT":
            idat += data[at + 8 : at + 8 + length]
        at += 12 + length
    return bytes(idat)


def _decode_png(job: _Job, data: bytes) -> bytes:
    header, mode = _png_header(job)
    # Pillow leaves rows black for which there is no data, so that there is exactly enough is checked here.
    rows_bytes = job.byte_count + job.size[1]
    inflate = zlib.decompressobj()
    if len(inflate.decompress(data, rows_bytes + 1)) != rows_bytes or not inflate.eof or inflate.unused_data:
        raise FormatError("the fallback data are not of the declared size")
    out = bytearray(b"\x89PNG\r\n\x1a\n")
    for tag, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    with Image.open(io.BytesIO(out), formats=["PNG"]) as image:
        if image.mode == mode:
            return _swapped(job, image.tobytes())
    raise FormatError("the fallback data are damaged")


def _lzma_filters(job: _Job, *, delta: bool) -> list[dict[str, Any]]:
    # No match reaches back further than the pixels go, and clearing a large dictionary takes longer than a small picture.
    dictionary = max(4096, min(_DICTIONARY_BYTES, job.byte_count))
    filters: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": dictionary}]
    if delta:
        filters.insert(0, {"id": lzma.FILTER_DELTA, "dist": max(1, MODES[job.mode].pixel_bytes)})
    return filters


def _lzma_codec(*, delta: bool) -> tuple[Callable[[_Job, bytes], bytes], Callable[[_Job, bytes], bytes]]:
    def encode(job: _Job, pixels: bytes) -> bytes:
        return lzma.compress(pixels, lzma.FORMAT_RAW, filters=_lzma_filters(job, delta=delta))

    def decode(job: _Job, data: bytes) -> bytes:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_lzma_filters(job, delta=delta))
        # One byte more than there may be, so that a longer stream shows without being unpacked.
        pixels = decoder.decompress(data, job.byte_count + 1)
        # The end marker may still be unread when exactly as many bytes are out as were asked for.
        if not decoder.eof:
            pixels += decoder.decompress(b"", 1)
        if not decoder.eof or decoder.unused_data:
            raise FormatError("the fallback data are damaged")
        return pixels

    return encode, decode


_encode_lzma, _decode_lzma = _lzma_codec(delta=False)
_encode_lzma_delta, _decode_lzma_delta = _lzma_codec(delta=True)

_ENCODERS: Final[dict[int, Callable[[_Job, bytes], bytes]]] = {
    WEBP: _encode_webp,
    PNG: _encode_png,
    LZMA: _encode_lzma,
    RAW: lambda _job, pixels: pixels,
    WEBP_GREY: _encode_webp_grey,
    LZMA_DELTA: _encode_lzma_delta,
}
_DECODERS: Final[dict[int, Callable[[_Job, bytes], bytes]]] = {
    WEBP: _decode_webp,
    PNG: _decode_png,
    LZMA: _decode_lzma,
    RAW: lambda _job, data: data,
    WEBP_GREY: _decode_webp_grey,
    LZMA_DELTA: _decode_lzma_delta,
}
