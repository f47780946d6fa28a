"""Image files with metadata, put together by hand: what was put in is known byte for byte."""

import hashlib
import io
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
EXIF = (
    b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0" + b"a maker's own bytes, which no library knows"
)
ICC = b"\0\0\x01\0not parsed by anybody" * 20
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><é/></x:xmpmeta>'.encode()
IPTC = b"\x1c\x02\x78\0\x05Hallo\x1c\x02\x05\0\x03abc"

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
NOTE = "http://ns.adobe.com/xmp/note/"


def packet(inside: str) -> bytes:
    return (
        f'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF}">{inside}</rdf:RDF></x:xmpmeta>    <?xpacket end="w"?>'
    ).encode()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks_of(file: bytes) -> list[tuple[bytes, bytes]]:
    """Return (type, data) of every chunk of a PNG file."""
    found, at = [], len(SIGNATURE)
    while at < len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        found.append((kind, file[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(
    image: Image.Image,
    *,
    before_palette: tuple[bytes, ...] = (),
    before_pixels: tuple[bytes, ...] = (),
    behind_pixels: tuple[bytes, ...] = (),
) -> bytes:
    """Return a PNG file of an image without metadata, with chunks put in."""
    out = io.BytesIO()
    image.save(out, "PNG")
    parts = [SIGNATURE]
    done = False
    for kind, data in chunks_of(out.getvalue()):
        if kind in (b"PLTE", b"IDAT") and not done:
            parts += before_palette
        if kind == b"IDAT" and parts[-1][4:8] != b"IDAT":
            parts += before_pixels
        if kind == b"IEND":
            parts += behind_pixels
        done = done or kind == b"PLTE"
        parts.append(chunk(kind, data))
    return b"".join(parts)


def rgb(size: tuple[int, int] = (7, 5)) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(*segments: bytes, image: Image.Image | None = None, jfif: bytes = b"\0\0\x01\0\x01") -> bytes:
    """Return a JPEG file with a JFIF segment of a density (unit, across, down) and further segments behind it."""
    out = io.BytesIO()
    (image or rgb()).save(out, "JPEG")
    file = out.getvalue()
    head = segment(0xE0, b"JFIF\0\x01\x02" + jfif + b"\0\0")
    # Pillow's own JFIF segment has 18 bytes behind the start of the image.
    return b"\xff\xd8" + head + b"".join(segments) + file[20:]


def app1_exif(exif: bytes) -> list[bytes]:
    return [segment(0xE1, b"Exif\0\0" + exif[at : at + 60000]) for at in range(0, len(exif), 60000)]


def app1_xmp(xmp: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)


def extended_xmp(extension: bytes, piece: int = 60000) -> tuple[str, list[bytes]]:
    """Return the digits that name an extension, and its segments."""
    name = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper()
    head = b"http://ns.adobe.com/xmp/extension/\0" + name.encode() + struct.pack(">I", len(extension))
    pieces = [
        segment(0xE1, head + struct.pack(">I", at) + extension[at : at + piece])
        for at in range(0, len(extension), piece)
    ]
    return name, pieces


def app2_icc(icc: bytes, piece: int = 60000) -> list[bytes]:
    starts = range(0, len(icc), piece)
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(starts)]) + icc[at : at + piece])
        for number, at in enumerate(starts, 1)
    ]


def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    pascal = bytes([len(name)]) + name
    return (
        b"8BIM"
        + struct.pack(">H", number)
        + pascal
        + bytes(len(pascal) % 2)
        + struct.pack(">I", len(data))
        + (data + bytes(len(data) % 2))
    )


def app13(*resources: bytes) -> bytes:
    return segment(0xED, b"Photoshop 3.0\0" + b"".join(resources))
