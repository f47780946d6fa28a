"""Metadata of JPEG 2000 files (ISO/IEC 15444-1, annexes A and I) and AVIF files."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from ddpm_codec.image_io.metadata.density import density
from ddpm_codec.image_io.metadata.found import Found
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.picture import MetadataKey

_UUIDS: Final[dict[bytes, MetadataKey]] = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
}
_ICC_METHODS: Final = frozenset({2, 3})
_CAPTURE, _DISPLAY = b"resc", b"resd"
_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_OF_THE_PICTURE: Final = frozenset({b"jP  ", b"ftyp", b"jp2c", b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef", b"rreq"})
_COMMENT, _TILE = 0xFF64, 0xFF90
_LATIN_1: Final = 1


def boxes(file: bytes, at: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, contents) of each box from an offset, up to the end or to where the file is cut short."""
    while at + 8 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        head = 8
        if length == 1 and at + 16 <= len(file):
            (length,) = struct.unpack_from(">Q", file, at + 8)
            head = 16
        length = length or len(file) - at
        if length < head or at + length > len(file):
            return
        yield kind, file[at + head : at + length]
        at += length


def read_jpeg2000(file: bytes, found: Found) -> None:
    """Find the metadata of a JPEG 2000 file, in its boxes and in the head of its code stream."""
    if file.startswith(_CODESTREAM):
        _read_codestream(file, found)
    else:
        others: set[str] = set()
        for kind, data in boxes(file):
            _read_box(kind, data, found, others)
        found.leave_out(others, "JPEG 2000 boxes that are not kept")
    found.joined()


def _read_box(kind: bytes, data: bytes, found: Found, others: set[str]) -> None:
    if kind in (b"jp2h", b"res "):
        for inner, content in boxes(data):
            _read_box(inner, content, found, others)
    elif kind == b"colr":
        if data[0] in _ICC_METHODS:
            found.keep("icc", data[3:])
    elif kind in (_CAPTURE, _DISPLAY):
        _read_resolution(kind, data, found)
    elif kind == b"uuid" and data[:16] in _UUIDS:
        found.keep(_UUIDS[data[:16]], data[16:])
    elif kind == b"jp2c":
        _read_codestream(data, found)
    elif kind not in _OF_THE_PICTURE:
        others.add(kind.decode("latin-1").strip())


def _read_resolution(kind: bytes, data: bytes, found: Found) -> None:
    """Find samples per metre, down and across, as fractions times powers of ten; capture goes before display."""
    numbers = struct.unpack(">HHHHbb", data)
    down = Fraction(numbers[0], numbers[1]) * Fraction(10) ** numbers[4]
    across = Fraction(numbers[2], numbers[3]) * Fraction(10) ** numbers[5]
    if kind == _CAPTURE:
        found.metadata.pop("density", None)
    found.keep("density", density(across, down, "m"))


def _read_codestream(data: bytes, found: Found) -> None:
    """Find the comments in Latin-1 among the markers before the first tile."""
    at = 2
    while at + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _TILE or length < 2:
            return
        if marker == _COMMENT:
            (registration,) = struct.unpack_from(">H", data, at + 4)
            content = data[at + 6 : at + 2 + length]
            if registration == _LATIN_1:
                found.comments.append(content)
            else:
                found.note(f"a binary comment of JPEG 2000 ({len(content)} bytes) is left out")
        at += 2 + length


def read_avif(file: bytes, found: Found) -> None:
    """Find the metadata of an AVIF file, as libavif gives them.

    Where the file turns or mirrors the picture, the orientation in EXIF is what these say.
    """
    with opened(file, "AVIF") as image:
        keys: tuple[tuple[MetadataKey, str], ...] = (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp"))
        for key, name in keys:
            data = image.info.get(name)
            if isinstance(data, bytes):
                found.keep(key, data)
