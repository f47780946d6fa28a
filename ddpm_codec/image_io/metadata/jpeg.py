"""Metadata of JPEG files (JFIF, EXIF, XMP part 3, ICC.1 annex B.4, Photoshop's segments)."""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

from ddpm_codec.image_io.metadata.density import density
from ddpm_codec.image_io.metadata.extended_xmp import merged, names_extension
from ddpm_codec.image_io.metadata.found import MAX_UNPACKED_BYTES, Found
from ddpm_codec.image_io.metadata.photoshop import read_resources

_APP0, _APP1, _APP2, _APP13, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF, 0xFE
_START_OF_SCAN, _END_OF_IMAGE, _TEMPORARY, _RESTART_0, _RESTART_7 = 0xDA, 0xD9, 0x01, 0xD0, 0xD7
_EXIF: Final = b"Exif\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP: Final = b"http://ns.adobe.com/xmp/extension/\0"
_ICC: Final = b"ICC_PROFILE\0"
_PHOTOSHOP: Final = b"Photoshop 3.0\0"
_JFIF: Final = b"JFIF\0"
_ADOBE: Final = b"Adobe"
_JFIF_UNITS: Final = {0: "none", 1: "inch", 2: "cm"}
_TIFF_STARTS: Final = (b"II*\0", b"MM\0*")


def segments(file: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, data) of each segment before the first scan, or before damage."""
    at = 2
    while at + 4 <= len(file) and file[at] == 0xFF:
        marker = file[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _TEMPORARY or _RESTART_0 <= marker <= _RESTART_7:
            at += 2
            continue
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return
        (length,) = struct.unpack_from(">H", file, at + 2)
        if length < 2 or at + 2 + length > len(file):
            return
        yield marker, file[at + 4 : at + 2 + length]
        at += 2 + length


def read_jpeg(file: bytes, found: Found) -> None:
    """Find the metadata of a JPEG file, up to its first scan."""
    exif: list[bytes] = []
    icc: list[bytes] = []
    extended: list[bytes] = []
    photoshop: list[bytes] = []
    others: set[str] = set()
    for marker, data in segments(file):
        if marker == _COMMENT:
            found.comments.append(data)
        elif marker == _APP1 and data.startswith(_EXIF):
            exif.append(data[6:])
        elif marker == _APP1 and data.startswith(_XMP):
            found.keep("xmp", data[len(_XMP) :])
        elif marker == _APP1 and data.startswith(_EXTENDED_XMP):
            extended.append(data[len(_EXTENDED_XMP) :])
        elif marker == _APP2 and data.startswith(_ICC):
            icc.append(data[len(_ICC) :])
        elif marker == _APP13 and data.startswith(_PHOTOSHOP):
            photoshop.append(data[len(_PHOTOSHOP) :])
        elif marker == _APP0 and data.startswith(_JFIF):
            _read_jfif(data, found)
        elif _APP0 <= marker <= _APP15 and not (marker == _APP14 and data.startswith(_ADOBE)):
            name = data.partition(b"\0")[0][:32].decode("latin-1")
            others.add(f"APP{marker - _APP0} {name}".strip() if name.isprintable() else f"APP{marker - _APP0}")
    found.joined()
    _join_exif(exif, found)
    _join_icc(icc, found)
    _join_xmp(extended, found)
    read_resources(b"".join(photoshop), found, frozenset({"iptc"}))
    found.leave_out(others, "JPEG segments that are not kept")


def _read_jfif(data: bytes, found: Found) -> None:
    if len(data) >= 12:
        unit, across, down = struct.unpack_from(">BHH", data, 7)
        found.keep("density", density(across, down, _JFIF_UNITS.get(unit, "none")))


def _join_exif(pieces: list[bytes], found: Found) -> None:
    """Join EXIF that is spread over several segments: each but the first goes on where the one before ended."""
    whole: list[list[bytes]] = []
    for piece in pieces:
        if whole and not piece.startswith(_TIFF_STARTS):
            whole[-1].append(piece)
        else:
            whole.append([piece])
    for parts in whole:
        found.keep("exif", b"".join(parts))


def _join_icc(pieces: list[bytes], found: Found) -> None:
    """Join the pieces of a profile, each of which begins with its number, from 1, and how many there are."""
    if not pieces:
        return
    numbered: dict[int, bytes] = {}
    for piece in pieces:
        if len(piece) >= 2 and numbered.setdefault(piece[0], piece) != piece:
            found.note(f"the ICC profile is left out: there are several pieces {piece[0]}")
            return
    counts = {piece[1] for piece in numbered.values()}
    if len(counts) != 1 or sorted(numbered) != list(range(1, max(counts) + 1)):
        found.note(
            f"the ICC profile is left out: it is incomplete ({len(numbered)} of {max(counts, default=0)} pieces)"
        )
        return
    found.keep("icc", b"".join(numbered[number][2:] for number in sorted(numbered)))


def _join_xmp(pieces: list[bytes], found: Found) -> None:
    """Put extended XMP into the main packet, or say why not."""
    if not pieces:
        return
    main = found.metadata.get("xmp", b"")
    try:
        found.metadata["xmp"] = merged(main, _extension(pieces, names_extension(main)))
    except ValueError as error:
        found.note(f"extended XMP is left out: {error}")


def _extension(pieces: list[bytes], name: str) -> bytes:
    """Join the pieces of the extension that the main packet names by its MD5.

    Each piece is 32 digits of MD5, the length of the whole and the offset of the piece as u32, then its bytes.

    Raises:
        ValueError: there is no such extension, or it is incomplete or damaged.
    """
    mine = [piece for piece in pieces if len(piece) >= 40 and piece[:32].decode("latin-1").upper() == name.upper()]
    if not mine:
        raise ValueError("the main packet does not name it")
    (length,) = struct.unpack_from(">I", mine[0], 32)
    if length > MAX_UNPACKED_BYTES:
        raise ValueError(f"it has more than {MAX_UNPACKED_BYTES >> 20} MiB")
    whole = bytearray()
    for offset, data in sorted({struct.unpack_from(">I", piece, 36)[0]: piece[40:] for piece in mine}.items()):
        if offset != len(whole):
            raise ValueError("it is incomplete")
        whole += data
    # MD5 is part of the format here, and guards nothing.
    if len(whole) != length or hashlib.md5(whole, usedforsecurity=False).hexdigest().upper() != name.upper():
        raise ValueError("it is incomplete or damaged")
    return bytes(whole)
