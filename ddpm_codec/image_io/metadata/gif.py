"""Metadata of GIF files: comments, and the application extensions that hold XMP and ICC profiles (GIF89a)."""

from collections.abc import Iterator
from typing import Final

from ddpm_codec.image_io.metadata.density import density
from ddpm_codec.image_io.metadata.found import Found

_EXTENSION, _IMAGE, _PLAIN_TEXT, _CONTROL, _COMMENT, _APPLICATION = 0x21, 0x2C, 0x01, 0xF9, 0xFE, 0xFF
_XMP: Final = b"XMP DataXMP"
_ICC: Final = b"ICCRGBG1012"
_LOOPING: Final = frozenset({b"NETSCAPE2.0", b"ANIMEXTS1.0"})
_TRAILER: Final = b"\x01" + bytes(range(255, -1, -1))
"""XMP stands in its extension as it is; read as sub-blocks, these bytes behind it lead to the end from wherever one is."""


def read_gif(file: bytes, found: Found) -> None:
    """Find the metadata of a GIF file, of all its frames."""
    aspect = file[12]
    if aspect:
        # Width to height of a pixel is (aspect + 15) / 64.
        found.keep("density", density(64, aspect + 15, "none"))
    others: set[str] = {"background colour"} if file[11] else set()
    for label, data in _extensions(file):
        content = _joined(data)
        name = data[1:12] if label == _APPLICATION else b""
        if label == _COMMENT:
            found.comments.append(content)
        elif name == _XMP:
            raw = data[12:]
            found.keep("xmp", raw.removesuffix(_TRAILER + b"\0") if raw.endswith(_TRAILER + b"\0") else content[11:])
        elif name == _ICC:
            found.keep("icc", content[11:])
        elif label == _CONTROL and content[1:3].strip(b"\0"):
            others.add("delay of a frame")
        elif label == _PLAIN_TEXT:
            others.add("plain text")
        elif label != _CONTROL and name not in _LOOPING:
            others.add(name.decode("latin-1") if name.isalnum() else f"extension {label}")
    found.joined()
    found.leave_out(others, "GIF extensions that are not kept")


def _extensions(file: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (label, sub-blocks with their lengths and terminator) of each extension up to the trailer or damage."""
    at = 13 + _table_bytes(file[10])
    while at + 2 <= len(file):
        if file[at] == _EXTENSION:
            end = _blocks_end(file, at + 2)
            yield file[at + 1], file[at + 2 : end]
        elif file[at] == _IMAGE and at + 10 < len(file):
            end = _blocks_end(file, at + 11 + _table_bytes(file[at + 9]))
        else:
            return
        at = end


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks_end(file: bytes, at: int) -> int:
    while at < len(file) and file[at]:
        at += 1 + file[at]
    return at + 1


def _joined(data: bytes) -> bytes:
    """Return the contents of sub-blocks."""
    out, at = bytearray(), 0
    while at < len(data) and data[at]:
        out += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    return bytes(out)
