"""Metadata of PNG files: ICC, EXIF and XMP unpacked, every other ancillary chunk as it is."""

import struct
from collections.abc import Callable
from typing import Final

from ddpm_codec.image_io.metadata.density import density
from ddpm_codec.image_io.metadata.found import Found, inflate
from ddpm_codec.image_io.metadata.png_chunks import (
    XMP_KEYWORD,
    Chunk,
    Places,
    chunks_of,
    international_text,
    keyword,
    pack,
    unpack,
)
from ddpm_codec.picture import MetadataKey

COMMENT_KEYWORD: Final = b"Comment"
IPTC_KEYWORD: Final = b"Raw profile type iptc"
"""ImageMagick's name for IPTC in a text chunk: name, length in decimal, and the bytes in hexadecimal."""

_GREY, _TRUECOLOUR, _PALETTE, _GREY_ALPHA, _TRUECOLOUR_ALPHA = 0, 2, 3, 4, 6
_OF_THE_PICTURE: Final = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
_LENGTHS: Final = {b"cHRM": 32, b"cICP": 4, b"cLLI": 8, b"gAMA": 4, b"mDCV": 24, b"pHYs": 9, b"sRGB": 1, b"tIME": 7}
_SIGNIFICANT: Final = {_GREY: 1, _TRUECOLOUR: 3, _PALETTE: 3, _GREY_ALPHA: 2, _TRUECOLOUR_ALPHA: 4}
_BACKGROUND: Final = {_GREY: 2, _TRUECOLOUR: 6, _PALETTE: 1, _GREY_ALPHA: 2, _TRUECOLOUR_ALPHA: 6}
_GREY_SCALE: Final = {2: 85, 4: 17}
"""Factors by which readers scale grey samples of so many bits to 8."""


def read_png(file: bytes, found: Found) -> None:
    """Find the metadata of a PNG file."""
    places, where, depth, colour_type = Places([], [], []), 0, 8, _TRUECOLOUR
    for chunk in chunks_of(file):
        if chunk.type == b"IHDR":
            depth, colour_type = chunk.data[8:10]
        elif chunk.type == b"PLTE":
            where = max(where, 1)
            if colour_type in (_TRUECOLOUR, _TRUECOLOUR_ALPHA) and chunk.data:
                # Only a suggestion, which the pixels do not need.
                places[where].append(chunk)
        elif chunk.type == b"IDAT":
            where = 2
        elif not chunk.critical and chunk.type not in _OF_THE_PICTURE:
            try:
                kept = _of(chunk, colour_type, found)
            except ValueError as error:
                found.note(f"a PNG chunk {chunk.name} is left out: {error}")
                continue
            if kept:
                places[where].append(_scaled(chunk, depth, colour_type))
    if not any(chunk.type == b"PLTE" for chunk in places.before_pixels) and colour_type != _PALETTE:
        # Without a palette there is no other side of it.
        places = Places([], [*places.before_palette, *places.before_pixels], places.behind_pixels)
    found.keep("png", pack(places, palette=colour_type == _PALETTE))


def _of(chunk: Chunk, colour_type: int, found: Found) -> bool:
    """Keep a chunk's contents if they have a key of their own; return whether the chunk itself is to be kept.

    Raises:
        ValueError: the chunk cannot be kept.
    """
    if not chunk.intact:
        raise ValueError("its checksum is wrong")
    if chunk.type == b"iCCP":
        found.keep("icc", found.inflate(_packed(chunk)))
    elif chunk.type == b"eXIf":
        found.keep("exif", chunk.data)
    elif chunk.type == b"iTXt":
        text, compressed = international_text(chunk)
        text = found.inflate(text) if compressed else text
        if keyword(chunk) == XMP_KEYWORD:
            found.keep("xmp", text)
            return False
        return True
    elif chunk.type == b"iDOT":
        raise ValueError("it tells where the compressed pixels stood")
    else:
        _check(chunk, colour_type)
        if chunk.type == b"zTXt":
            found.inflate(_packed(chunk))
        return True
    return False


def _check(chunk: Chunk, colour_type: int) -> None:
    """Check what others would stumble over if it were written again."""
    expected = _LENGTHS.get(chunk.type, len(chunk.data))
    if chunk.type == b"sBIT":
        expected = _SIGNIFICANT.get(colour_type, 0)
    elif chunk.type == b"bKGD":
        expected = _BACKGROUND.get(colour_type, 0)
    if len(chunk.data) != expected:
        raise ValueError(f"it has {len(chunk.data)} bytes instead of {expected}")


def _packed(chunk: Chunk) -> bytes:
    """Return the zlib stream in ``iCCP`` or ``zTXt``, behind keyword and method.

    Raises:
        ValueError: there is none.
    """
    _, separator, rest = chunk.data.partition(b"\0")
    if not separator or not rest or rest[0] != 0:
        raise ValueError("it is malformed")
    return rest[1:]


def _scaled(chunk: Chunk, depth: int, colour_type: int) -> Chunk:
    """Scale a grey background as the samples are scaled."""
    if chunk.type != b"bKGD" or colour_type != _GREY or depth not in _GREY_SCALE:
        return chunk
    (value,) = struct.unpack(">H", chunk.data)
    return Chunk(b"bKGD", struct.pack(">H", value * _GREY_SCALE[depth] & 0xFFFF))


def keys_of_chunks(metadata: dict[MetadataKey, bytes]) -> tuple[dict[MetadataKey, bytes], list[Chunk]]:
    """Translate ``png`` metadata for other formats.

    Returns:
        The metadata without ``png``, with ``density``, ``comment`` and ``iptc`` where a chunk says them and no key did; and
        the chunks that no key stands for.
    """
    keys = dict(metadata)
    keys.pop("png", None)
    rest = []
    for chunk in unpack(metadata.get("png", b"")):
        key, read = _key_of(chunk)
        value = read(chunk) if key is not None and key not in keys else b""
        if key is not None and value:
            keys[key] = value
        elif chunk.data or chunk.type not in (b"PLTE", b"IDAT"):
            rest.append(chunk)
    return keys, rest


def _key_of(chunk: Chunk) -> tuple[MetadataKey | None, Callable[[Chunk], bytes]]:
    """Return the key that stands for a chunk, None if none does, and what reads its value."""
    if chunk.type == b"pHYs":
        return "density", _density_of
    if chunk.type in (b"tEXt", b"zTXt", b"iTXt"):
        if keyword(chunk) == COMMENT_KEYWORD:
            return "comment", _text
        if keyword(chunk) == IPTC_KEYWORD:
            return "iptc", _iptc_of
    return None, _text


def _density_of(chunk: Chunk) -> bytes:
    """Return the density that ``pHYs`` gives."""
    across, down, unit = struct.unpack(">IIB", chunk.data)
    return density(across, down, "m" if unit == 1 else "none")


def _iptc_of(chunk: Chunk) -> bytes:
    """Return the IPTC records in a text chunk as ImageMagick writes them, alone or among Photoshop's resources."""
    _, _, digits = (*_text(chunk).split(None, 2), b"", b"", b"")[:3]
    try:
        records = bytes.fromhex(digits.decode())
    except ValueError:
        return b""
    # ImageMagick wraps IPTC into the resource that Photoshop keeps it in.
    if records.startswith(b"8BIM\x04\x04\0\0"):
        (length,) = struct.unpack_from(">I", records, 8)
        records = records[12 : 12 + length]
    return records


def _text(chunk: Chunk) -> bytes:
    """Return the text of a text chunk, unpacked; empty if it is damaged."""
    try:
        if chunk.type == b"zTXt":
            return inflate(_packed(chunk))
        if chunk.type == b"iTXt":
            text, compressed = international_text(chunk)
            return inflate(text) if compressed else text
    except ValueError:
        return b""
    return chunk.data.partition(b"\0")[2]
