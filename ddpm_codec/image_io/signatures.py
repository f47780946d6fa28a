"""Tells image formats apart by the first bytes of a file, for files whose suffix says nothing."""

import re
import struct
from collections.abc import Callable
from typing import Final

HEAD_BYTES: Final = 512
"""How many first bytes :func:`sniff` wants; with fewer it may know less, but never another format."""

_PREFIXES: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"8BPS\0\x01", "PSD"),
    (b"8BPS\0\x02", "PSD"),
    (b"qoif", "QOI"),
    (b"P7\n", "PAM"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
)
# Two letters at the start are no proof, as text may begin with them; the fields behind must fit as well.
_PPM: Final = re.compile(
    rb"P(?:[1-6]|[fF])(?:\s*#[^\r\n]*[\r\n]|\s)\s*(?:#[^\r\n]*(?:[\r\n]\s*|\Z))*(?:\d+\s+(?:\d|#)|\Z)"
)
_BMP_HEADER_SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_PCX_VERSIONS: Final = frozenset({0, 2, 3, 4, 5})
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
)


def sniff(head: bytes) -> str | None:
    """Return the format of a file whose first bytes are ``head``, by Pillow's name for it; None if they fit none.

    ``JPEG`` includes MPO, ``PNG`` animated PNG, ``PPM`` PBM, PGM and PFM, ``TIFF`` BigTIFF. ``HEIC``, ``JXL`` and ``PAM`` are
    recognised though Pillow does not read them. TGA and DIB have no signature.

    Args:
        head: the first ``HEAD_BYTES`` bytes, or the whole file if it is shorter.
    """
    for prefix, name in _PREFIXES:
        if head.startswith(prefix):
            return name
    return next((name for name, fits in _TESTS if fits(head)), None)


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _brands(head: bytes) -> frozenset[bytes]:
    """Return the brands of an ISO base media file (ISO/IEC 14496-12, 4.3)."""
    if head[4:8] != b"ftyp":
        return frozenset()
    (size,) = struct.unpack_from(">I", head)
    return frozenset({head[8:12]} | {head[at : at + 4] for at in range(16, min(size, len(head)), 4)})


def _is_avif(head: bytes) -> bool:
    return not _AVIF_BRANDS.isdisjoint(_brands(head))


def _is_heic(head: bytes) -> bool:
    return not _HEIC_BRANDS.isdisjoint(_brands(head))


def _is_ppm(head: bytes) -> bool:
    return _PPM.match(head) is not None


def _is_bmp(head: bytes) -> bool:
    return head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_SIZES


def _is_ico(head: bytes) -> bool:
    if head[:4] != b"\0\0\x01\0" or len(head) < 22:
        return False
    count, length, offset = int.from_bytes(head[4:6], "little"), *struct.unpack_from("<II", head, 14)
    return bool(count > 0 and length > 0 and offset >= 6 + 16 * count)


def _is_pcx(head: bytes) -> bool:
    if len(head) < 128 or head[0] != 10 or head[1] not in _PCX_VERSIONS or head[2] != 1:
        return False
    left, top, right, bottom = struct.unpack_from("<4H", head, 4)
    return head[3] in (1, 2, 4, 8) and head[64] == 0 and left <= right and top <= bottom


def _is_sgi(head: bytes) -> bool:
    if head[:2] != b"\x01\xda" or len(head) < 12:
        return False
    return head[2] in (0, 1) and head[3] in (1, 2) and struct.unpack_from(">H", head, 4)[0] in (1, 2, 3)


_TESTS: Final[tuple[tuple[str, Callable[[bytes], bool]], ...]] = (
    ("WEBP", _is_webp),
    ("AVIF", _is_avif),
    ("HEIC", _is_heic),
    ("PPM", _is_ppm),
    ("BMP", _is_bmp),
    ("ICO", _is_ico),
    ("PCX", _is_pcx),
    ("SGI", _is_sgi),
)
