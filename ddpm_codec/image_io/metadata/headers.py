"""Metadata in the headers of simple formats: BMP, PCX, TGA, SGI, QOI, and PBM, PGM and PPM."""

import re
import struct
from typing import Final

from ddpm_codec.image_io.metadata.density import density
from ddpm_codec.image_io.metadata.found import Found

_BMP_HEADER_WITH_DENSITY, _BMP_V4, _BMP_V5 = 40, 108, 124
_EMBEDDED, _LINKED = b"DEBM", b"KNIL"
_PNM_TOKEN: Final = re.compile(rb"((?:#[^\r\n]*[\r\n]|\s)*+)(-?[\d.]+)")
_TGA_FOOTER: Final = b"TRUEVISION-XFILE.\0"
_QOI_LINEAR: Final = 1


def read_bmp(file: bytes, found: Found) -> None:
    """Find density and ICC profile of a BMP file."""
    _read_dib(file, 14, found)


def read_dib(file: bytes, found: Found) -> None:
    """Find density and ICC profile of a DIB file: BMP without its file header."""
    _read_dib(file, 0, found)


def _read_dib(file: bytes, start: int, found: Found) -> None:
    (size,) = struct.unpack_from("<I", file, start)
    if size < _BMP_HEADER_WITH_DENSITY:
        return
    across, down = struct.unpack_from("<ii", file, start + 24)
    found.keep("density", density(across, down, "m"))
    if size < _BMP_V4:
        return
    space = file[start + 56 : start + 60]
    if size >= _BMP_V5 and space in (_EMBEDDED, _LINKED):
        offset, length = struct.unpack_from("<II", file, start + 112)
        profile = file[start + offset : start + offset + length]
        if space == _LINKED:
            found.note("the name of a file with an ICC profile is left out")
        elif len(profile) < length:
            found.note("the ICC profile is left out: it is cut short")
        else:
            found.keep("icc", profile)
    elif space == bytes(4) and any(file[start + 60 : start + 108]):
        found.note("a calibrated colour space (primaries and gamma) is left out")


def read_pcx(file: bytes, found: Found) -> None:
    """Find the density of a PCX file."""
    across, down = struct.unpack_from("<HH", file, 12)
    found.keep("density", density(across, down, "inch"))


def read_sgi(file: bytes, found: Found) -> None:
    """Find the name in an SGI file, as a comment."""
    found.keep("comment", file[24:104].partition(b"\0")[0])


def read_qoi(file: bytes, found: Found) -> None:
    """Say what a QOI file tells of its colours and no key holds."""
    if file[13] == _QOI_LINEAR:
        found.note("that all channels are linear is left out")


def read_tga(file: bytes, found: Found) -> None:
    """Find the image ID of a TGA file, as a comment."""
    found.keep("comment", file[18 : 18 + file[0]].rstrip(b"\0"))
    if file.endswith(_TGA_FOOTER) and any(file[-26:-18]):
        found.note("the extension and developer areas of TGA are left out")


def read_pnm(file: bytes, found: Found) -> None:
    """Find the comments in the header of a PBM, PGM, PPM or PFM file."""
    if file[:2] not in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"):
        return
    at, tokens = 2, 2 if file[:2] in (b"P1", b"P4") else 3
    for _ in range(tokens):
        match = _PNM_TOKEN.match(file, at)
        if match is None:
            return
        found.comments += [line.strip() for line in re.findall(rb"#([^\r\n]*)", match[1])]
        at = match.end()
    found.joined()
