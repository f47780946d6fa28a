"""Strips and tiles of TIFF files that are JPEG (TIFF Technical Note 2): sequential, Huffman-coded, 8 bits.

libjpeg fills in what a scan lacks. So data are decoded again with bytes inserted behind every piece of entropy-coded data:
they change the pixels only where data were missing.
"""

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError

_SOI, _EOI, _SOS, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_END_OF_SCAN: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_RESTART: Final = re.compile(rb"\xff+[\xd0-\xd7]", re.DOTALL)
_PROBES: Final = (bytes.fromhex("a53c96e1785ac31e") * 8, bytes.fromhex("5ac3691e87a53ce1") * 8)
_SPACES: Final = {1: "GRAYSCALE", 2: "UNKNOWN", 3: "RGB", 4: "CMYK"}


@dataclass
class _Stream:
    """The parts of a JPEG stream that pixels depend on.

    Attributes:
        pieces: segments and entropy-coded data.
        data: which of them are entropy-coded data.
        size: (width, height).
        components: the numbers of the components in the frame.
        scanned: those of the components that scans hold.
        jfif: whether there is a marker of JFIF.
        transform: of the marker of Adobe; None without one.
    """

    pieces: list[bytes] = field(default_factory=lambda: [bytes((0xFF, _SOI))])
    data: list[int] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    components: tuple[int, ...] = ()
    scanned: set[int] = field(default_factory=set)
    jfif: bool = False
    transform: int | None = None


def decode_jpeg(data: bytes, tables: bytes, channels: int, size: tuple[int, int], *, ycbcr: bool) -> NDArray[np.uint8]:
    """Decode a strip or tile.

    Args:
        data: its bytes.
        tables: the bytes of tag JPEGTables, empty if there are none.
        channels: how many it has.
        size: (width, height) that it has at most.
        ycbcr: whether its colours are YCbCr, which become RGB.

    Returns:
        [height, width, channels].

    Raises:
        InputError: the data are damaged, incomplete, or of a kind on which decoders disagree.
    """
    stream = _Stream()
    if tables:
        _walk(tables, stream, whole=False)
    _walk(data, stream, whole=True)
    _check(stream, channels, size, ycbcr=ycbcr)
    pixels = _pixels(b"".join(stream.pieces), channels, ycbcr=ycbcr)
    for probe in _PROBES:
        if not np.array_equal(_pixels(_extended(stream, probe), channels, ycbcr=ycbcr), pixels):
            raise InputError("is damaged (the JPEG data of a strip or tile end too early)")
    return pixels


def _walk(data: bytes, stream: _Stream, *, whole: bool) -> None:
    """Follow the markers to EOI; without ``whole``, tables are enough and may lack it."""
    if data[:2] != bytes((0xFF, _SOI)):
        raise InputError("is damaged (JPEG data without a start)")
    at = 2
    while True:
        match = _MARKER.match(data, at)
        if match is None:
            if whole or at < len(data):
                raise InputError("is damaged (the JPEG data of a strip or tile are cut off or garbled)")
            return
        marker, at = match[1][0], match.end()
        if marker == _EOI:
            if whole:
                stream.pieces.append(bytes((0xFF, _EOI)))
            return
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data) or marker <= 1 or 0xD0 <= marker <= _SOI:
            raise InputError("is damaged (the JPEG data of a strip or tile are cut off or garbled)")
        _take(stream, marker, data[at + 2 : at + length])
        at += length
        if marker == _SOS:
            end = _END_OF_SCAN.search(data, at)
            stream.data.append(len(stream.pieces))
            stream.pieces.append(data[at : end.start() if end else len(data)])
            at = end.start() if end else len(data)


def _take(stream: _Stream, marker: int, body: bytes) -> None:
    """Take over what a segment says, and keep it if pixels depend on it."""
    if marker in _FRAMES:
        if marker not in _SEQUENTIAL or body[:1] != b"\x08":
            raise InputError(
                "has JPEG data that are progressive, lossless or not of 8 bits, which are not read in TIFF"
            )
        if stream.components or len(body) < 6 or len(body) != 6 + 3 * body[5]:
            raise InputError("is damaged (a frame header of its JPEG data)")
        stream.size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
        stream.components = tuple(body[6::3])
    elif marker == _SOS:
        if not body or len(body) != 4 + 2 * body[0]:
            raise InputError("is damaged (a scan header of its JPEG data)")
        stream.scanned |= set(body[1:-3:2])
    elif marker == _APP0 and body.startswith(b"JFIF\0"):
        stream.jfif = True
    elif marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
        stream.transform = body[11]
    if not 0xE0 <= marker <= 0xEF and marker != 0xFE:
        stream.pieces.append(bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body)


def _check(stream: _Stream, channels: int, size: tuple[int, int], *, ycbcr: bool) -> None:
    if len(stream.components) != channels or stream.scanned != set(stream.components):
        raise InputError("is damaged (its JPEG data do not have all channels)")
    if not (0 < stream.size[0] <= size[0] + 15 and 0 < stream.size[1] <= size[1] + 15):
        raise InputError("is damaged (its JPEG data have another size than its strips or tiles)")
    # Where the markers of JPEG and the tags of TIFF tell different colours, some readers believe these, others those.
    told = stream.transform if stream.transform is not None else 1 if stream.jfif and channels == 3 else None
    letters = bytes(stream.components) == b"RGB"
    if (told is not None and channels > 1 and bool(told) != ycbcr) or (letters and ycbcr):
        raise InputError("has JPEG data whose colours are not what its tags say")


def _extended(stream: _Stream, probe: bytes) -> bytes:
    """Return the stream with bytes inserted behind every piece of entropy-coded data."""
    pieces = list(stream.pieces)
    for index in stream.data:
        restarts = [match.start() for match in _RESTART.finditer(pieces[index])]
        cuts = [0, *restarts, len(pieces[index])]
        pieces[index] = b"".join(pieces[index][start:end] + probe for start, end in itertools.pairwise(cuts))
    return b"".join(pieces)


def _pixels(stream: bytes, channels: int, *, ycbcr: bool) -> NDArray[np.uint8]:
    space = _SPACES[channels]
    try:
        decoded: NDArray[Any] = imagecodecs.jpeg8_decode(
            stream, colorspace="YCBCR" if ycbcr else space, outcolorspace=space
        )
    except Exception as error:
        raise InputError(f"is damaged ({' '.join(str(error).split())[:200]})") from error
    return decoded.reshape(*decoded.shape[:2], channels)
