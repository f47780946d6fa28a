"""Photoshop's image resources, in PSD files and in JPEG segments (Adobe Photoshop File Formats Specification)."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from ddpm_codec.image_io.metadata.density import density
from ddpm_codec.image_io.metadata.found import Found
from ddpm_codec.picture import MetadataKey

_SIGNATURES: Final = frozenset({b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR"})
_RESOLUTION: Final = 1005
KEYS: Final[dict[int, MetadataKey]] = {1028: "iptc", 1039: "icc", 1058: "exif", 1060: "xmp"}
"""Resources that hold a kind of metadata."""


def resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, data) of each image resource.

    Raises:
        ValueError: they are damaged; those before have been yielded.
    """
    at = 0
    while at + 12 <= len(data):
        if data[at : at + 4] not in _SIGNATURES:
            raise ValueError("Photoshop's image resources are damaged")
        (number, name_length) = struct.unpack_from(">HB", data, at + 4)
        start = at + 6 + (name_length + 2) // 2 * 2
        if start + 4 > len(data):
            raise ValueError("Photoshop's image resources are cut short")
        (length,) = struct.unpack_from(">I", data, start)
        if start + 4 + length > len(data):
            raise ValueError("Photoshop's image resources are cut short")
        yield number, data[start + 4 : start + 4 + length]
        at = start + 4 + (length + 1) // 2 * 2


def resolution(data: bytes) -> bytes:
    """Return the density that the resource 1005 gives: pixels per inch as 16.16 fixed point, across and down."""
    if len(data) < 14:
        return b""
    across, down = struct.unpack_from(">I4xI", data)
    return density(Fraction(across, 1 << 16), Fraction(down, 1 << 16), "inch")


def read_resources(data: bytes, found: Found, keys: frozenset[str] = frozenset(KEYS.values())) -> None:
    """Find metadata among image resources: those of ``keys``, and the density where no other is known."""
    others: set[str] = set()
    try:
        for number, value in resources(data):
            key = KEYS.get(number)
            if number == _RESOLUTION:
                if "density" not in found.metadata:
                    found.keep("density", resolution(value))
            elif key in keys:
                found.keep(key, value)
            else:
                others.add(str(number))
    except ValueError as error:
        found.note(f"{error}; the rest of them is left out")
    found.leave_out(others, "image resources of Photoshop that are not kept")


def read_psd(file: bytes, found: Found) -> None:
    """Find the metadata of a PSD file."""
    (colours,) = struct.unpack_from(">I", file, 26)
    (length,) = struct.unpack_from(">I", file, 30 + colours)
    read_resources(file[34 + colours : 34 + colours + length], found)
