"""Lossless coding without a model: the smallest result of several classical codecs, verified by decoding.

The first byte identifies the codec (numbers are never reused); the rest is its data. Both sides know size and mode, so
container headers (RIFF, PNG chunks) are omitted and rebuilt by the decoder. The data cannot claim a different size.
"""

import io
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import FormatError
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.picture import MODES, Picture

WEBP: Final = 1
PNG: Final = 2
LZMA: Final = 3
RAW: Final = 4
WEBP_GREY: Final = 5
LZMA_DELTA: Final = 6
LZMA_PLANES: Final = 7

MAX_WEBP_SIDE: Final = 16383
"""WebP stores width - 1 and height - 1 in 14 bits each."""

SMALL_BYTES: Final = 1 << 20
"""Up to this many bytes of pixels every codec is tried; above, only the fast ones."""

THOROUGH_PIXELS: Final = 1 << 16
"""Below this, WebP runs at full effort; above, full effort takes five times as long and saves 0.01 %."""

_BYTE_MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_DICTIONARY_BYTES: Final = 1 << 24


@dataclass(frozen=True)
class _Job:
    """Mode and size, known to both sides, and the effort of the encoder."""

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
        """PNG or WebP mode with the same number of 8-bit channels; None if the samples are not bytes."""
        layout = MODES[self.mode]
        return _BYTE_MODES[layout.channels] if layout.sample_bits == 8 else None


def encode_fallback(picture: Picture, *, effort: int = 4) -> bytes:
    """Encode the pixels of ``picture`` (any mode; not its palette or metadata) as a codec byte and data.

    Args:
        picture: the picture.
        effort: 0 (fast) to 6 (small).
    """
    return _encode(_Job(picture.mode, picture.size, effort), picture.pixels)


def decode_fallback(data: bytes, mode: str, size: tuple[int, int]) -> bytes:
    """Decode the output of :func:`encode_fallback`.

    Args:
        data: codec byte and data.
        mode: the picture's mode, a key of ``MODES``.
        size: (width, height) of the picture.

    Raises:
        FormatError: the data is damaged, or not of a picture of this mode and size.
    """
    if not data:
        raise FormatError("the fallback data is empty")
    decoder = _DECODERS.get(data[0])
    if decoder is None:
        raise FormatError(f"fallback codec {data[0]} is unknown: made by a newer version")
    job = _Job(mode, size)
    try:
        pixels = decoder(job, data[1:])
    except FormatError:
        raise
    except Exception as error:  # Pillow's decoders can raise almost any exception on damaged data.
        raise FormatError("the fallback data is damaged") from error
    if len(pixels) != job.byte_count:
        raise FormatError("the fallback data does not have the declared size")
    return pixels


def encode_array(pixels: NDArray[np.uint8], *, effort: int = 4) -> bytes:
    """Encode ``pixels``, [height, width] or [height, width, 1 to 4], as a codec byte and data."""
    height, width = pixels.shape[:2]
    return _encode(_Job(_BYTE_MODES[pixels[0, 0].size], (width, height), effort), pixels.tobytes())


def decode_array(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Decode the output of :func:`encode_array` to an array of shape ``shape``.

    Raises:
        FormatError: the data is damaged, or not of an array of this shape.
    """
    mode = _BYTE_MODES[shape[2] if len(shape) == 3 else 1]
    return np.frombuffer(decode_fallback(data, mode, (shape[1], shape[0])), np.uint8).reshape(shape)


def _encode(job: _Job, pixels: bytes) -> bytes:
    candidates = [bytes([codec]) + _ENCODERS[codec](job, pixels) for codec in _choices(job)]
    for data in sorted(candidates, key=len):
        # Verified here, so that a library bug costs bytes rather than pixels.
        if data[0] == RAW or decode_fallback(data, job.mode, job.size) == pixels:
            return data
    return bytes([RAW]) + pixels


def _choices(job: _Job) -> list[int]:
    """Return the codecs to try, by mode and size."""
    small = job.byte_count <= SMALL_BYTES
    fits_webp = max(job.size) <= MAX_WEBP_SIDE
    choices = []
    if job.byte_mode and fits_webp:
        choices.append(WEBP if MODES[job.mode].channels >= 3 else WEBP_GREY)
    wide = MODES[job.mode].sample_bits > 8
    fits_png = job.byte_mode is not None or MODES[job.mode].sample_bits == 16 or job.mode == "1"
    # On large colour pictures PNG never won in our tests, and takes as long.
    if fits_png and (small or WEBP not in choices):
        choices.append(PNG)
    if small or not choices:
        choices += [LZMA, LZMA_DELTA]
    if wide and (small or PNG not in choices):
        choices.append(LZMA_PLANES)
    if small:
        choices.append(RAW)
    return choices


def _encode_webp(job: _Job, pixels: bytes) -> bytes:
    return _to_vp8l(Image.frombytes(job.byte_mode or "", job.size, pixels), job)


def _decode_webp(job: _Job, data: bytes) -> bytes:
    if job.byte_mode not in ("RGB", "RGBA"):
        raise FormatError(f"fallback codec {WEBP} does not support mode {job.mode}")
    return _from_vp8l(data, job.size, job.byte_mode)


def _encode_webp_grey(job: _Job, pixels: bytes) -> bytes:
    channels = job.shape[2]
    samples = np.frombuffer(pixels, np.uint8).reshape(job.shape)
    spread = np.ascontiguousarray(samples[:, :, [0, 0, 0] if channels == 1 else [0, 0, 0, 1]])
    return _to_vp8l(Image.frombytes(_BYTE_MODES[channels + 2], job.size, spread.tobytes()), job)


def _decode_webp_grey(job: _Job, data: bytes) -> bytes:
    if job.byte_mode not in ("L", "LA"):
        raise FormatError(f"fallback codec {WEBP_GREY} does not support mode {job.mode}")
    height, width, channels = job.shape
    raw = _from_vp8l(data, job.size, _BYTE_MODES[channels + 2])
    samples = np.frombuffer(raw, np.uint8).reshape(height, width, channels + 2)
    return np.ascontiguousarray(samples[:, :, 2:]).tobytes()


def _to_vp8l(image: Image.Image, job: _Job) -> bytes:
    """Return the payload of the VP8L chunk: WebP without its RIFF container."""
    out = io.BytesIO()
    thorough = job.effort > 4 or image.width * image.height <= THOROUGH_PIXELS
    image.save(out, "WEBP", lossless=True, exact=True, method=job.effort, quality=100 if thorough else 75, exif=b"")
    data = out.getvalue()
    at = data.index(b"VP8L", 12)
    (length,) = struct.unpack_from("<I", data, at + 4)
    return data[at + 8 : at + 8 + length]


def _from_vp8l(data: bytes, size: tuple[int, int], mode: str) -> bytes:
    """Decode the payload of a VP8L chunk; the size in its header must match."""
    if len(data) < 5 or data[0] != 0x2F:
        raise FormatError("the fallback data is damaged")
    (bits,) = struct.unpack_from("<I", data, 1)
    if ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) != size:
        raise FormatError("the fallback data does not have the declared size")
    chunk = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    # WebP drops a fully opaque alpha channel; asked for, it comes back.
    samples = imagecodecs.webp_decode(b"RIFF" + struct.pack("<I", len(chunk)) + chunk, hasalpha=mode == "RGBA")
    return samples.tobytes()


def _png_header(job: _Job) -> bytes:
    """Return the IHDR for a mode and size."""
    layout = MODES[job.mode]
    if layout.sample_bits > 16:
        raise FormatError(f"fallback codec {PNG} does not support mode {job.mode}")
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[layout.channels]
    return struct.pack(">IIBBBBB", *job.size, layout.sample_bits, colour, 0, 0, 0)


def _swapped(job: _Job, pixels: bytes) -> bytes:
    """Swap the bytes of 16-bit samples if the mode stores them big-endian."""
    return np.frombuffer(pixels, ">u2").astype("<u2").tobytes() if job.mode == "I;16B" else pixels


def _encode_png(job: _Job, pixels: bytes) -> bytes:
    """Return the zlib stream of a PNG file: its concatenated IDAT chunks."""
    layout = MODES[job.mode]
    if layout.sample_bits == 16 and layout.channels > 1:
        file = imagecodecs.png_encode(np.frombuffer(pixels, "<u2").astype(np.uint16).reshape(job.shape), level=9)
    else:
        out = io.BytesIO()
        mode = job.byte_mode or ("I;16" if layout.sample_bits == 16 else "1")
        image = Image.frombytes(mode, job.size, _swapped(job, pixels))
        image.save(out, "PNG", **({"optimize": True} if len(pixels) <= SMALL_BYTES else {}))
        file = out.getvalue()
    at, idat = 8, bytearray()
    while at < len(file):
        length, tag = struct.unpack_from(">I4s", file, at)
        if tag == b"IDAT":
            idat += file[at + 8 : at + 8 + length]
        at += 12 + length
    return bytes(idat)


def _decode_png(job: _Job, data: bytes) -> bytes:
    header = _png_header(job)
    # PNG readers make up rows without data, so check that the length is exact.
    rows_bytes = job.byte_count + job.size[1]
    inflate = zlib.decompressobj()
    if len(inflate.decompress(data, rows_bytes + 1)) != rows_bytes or not inflate.eof or inflate.unused_data:
        raise FormatError("the fallback data does not have the declared size")
    out = bytearray(b"\x89PNG\r\n\x1a\n")
    for tag, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    layout = MODES[job.mode]
    if layout.sample_bits == 16:
        samples = imagecodecs.png_decode(bytes(out))
        if samples.dtype != np.uint16 or samples.size != job.byte_count // 2:
            raise FormatError("the fallback data is damaged")
        return samples.astype(layout.stored).tobytes()
    with opened(bytes(out), "PNG") as image:
        if image.mode == (job.byte_mode or "1"):
            return image.tobytes()
    raise FormatError("the fallback data is damaged")


def _lzma_filters(job: _Job, *, delta: bool) -> list[dict[str, Any]]:
    # Matches cannot reach back past the data, and clearing a large dictionary takes longer than a small picture.
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
        # Ask for one byte too many, to detect a longer stream without unpacking it.
        pixels = decoder.decompress(data, job.byte_count + 1)
        # The end marker may still be unread when the requested number of bytes has been returned.
        if not decoder.eof:
            pixels += decoder.decompress(b"", 1)
        if not decoder.eof or decoder.unused_data:
            raise FormatError("the fallback data is damaged")
        return pixels

    return encode, decode


def _encode_planes(job: _Job, pixels: bytes) -> bytes:
    """LZMA of the bytes of the differences between neighbours in a row, sorted by their significance.

    Samples of any type are taken as unsigned integers. The first of a row stays, and each other becomes its difference to
    the one to its left, modulo 2^bits. Then all highest bytes follow each other, all second ones, and so on.
    """
    samples = _integers(job, pixels)
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    planes = differences.astype(differences.dtype.newbyteorder(">")).view(np.uint8)
    return _encode_lzma(job, planes.reshape(-1, samples.dtype.itemsize).T.tobytes())


def _decode_planes(job: _Job, data: bytes) -> bytes:
    if MODES[job.mode].sample_bits <= 8:
        raise FormatError(f"fallback codec {LZMA_PLANES} does not support mode {job.mode}")
    width = np.dtype(MODES[job.mode].stored).itemsize
    planes = np.frombuffer(_decode_lzma(job, data), np.uint8)
    if planes.size != job.byte_count:
        raise FormatError("the fallback data does not have the declared size")
    together = np.ascontiguousarray(planes.reshape(width, -1).T)
    differences = together.view(f">u{width}").reshape(job.shape)
    samples = np.cumsum(differences, axis=1, dtype=np.dtype(f"u{width}"))
    order = np.dtype(MODES[job.mode].stored).byteorder
    return samples.astype(f"{'>' if order == '>' else '<'}u{width}").tobytes()


def _integers(job: _Job, pixels: bytes) -> NDArray[Any]:
    """Return samples of more than 8 bits as unsigned integers in the machine's byte order, [height, width, channels]."""
    stored = np.dtype(MODES[job.mode].stored)
    unsigned = np.dtype(f"u{stored.itemsize}")
    return np.frombuffer(pixels, unsigned.newbyteorder(stored.byteorder)).astype(unsigned).reshape(job.shape)


_encode_lzma, _decode_lzma = _lzma_codec(delta=False)
_encode_lzma_delta, _decode_lzma_delta = _lzma_codec(delta=True)

_ENCODERS: Final[dict[int, Callable[[_Job, bytes], bytes]]] = {
    WEBP: _encode_webp,
    PNG: _encode_png,
    LZMA: _encode_lzma,
    RAW: lambda _job, pixels: pixels,
    WEBP_GREY: _encode_webp_grey,
    LZMA_DELTA: _encode_lzma_delta,
    LZMA_PLANES: _encode_planes,
}
_DECODERS: Final[dict[int, Callable[[_Job, bytes], bytes]]] = {
    WEBP: _decode_webp,
    PNG: _decode_png,
    LZMA: _decode_lzma,
    RAW: lambda _job, data: data,
    WEBP_GREY: _decode_webp_grey,
    LZMA_DELTA: _decode_lzma_delta,
    LZMA_PLANES: _decode_planes,
}
