"""Writes PNG files: pixels by Pillow or libpng, every other chunk by itself."""

import struct
import zlib
from typing import Final, NamedTuple

import imagecodecs
import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.density import density, parse_density
from ddpm_codec.image_io.metadata.found import LABELS
from ddpm_codec.image_io.metadata.png import COMMENT_KEYWORD, IPTC_KEYWORD, keys_of_chunks
from ddpm_codec.image_io.metadata.png_chunks import (
    SIGNATURE,
    XMP_KEYWORD,
    Chunk,
    Places,
    chunks_of,
    split,
    unpack,
)
from ddpm_codec.image_io.writers.pillow import saved
from ddpm_codec.image_io.writers.written import Written
from ddpm_codec.picture import MetadataKey, Picture

WIDE_COLOUR: Final = frozenset({"LA;16", "RGB;16", "RGBA;16"})
"""Modes that PNG holds and Pillow does not."""

_OF_THE_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_MAX_INTEGER: Final = (1 << 31) - 1
_HEX_LINE: Final = 72
_MAX_PILLOW_TEXT: Final = 1 << 20
"""Pillow does not open files with compressed text that unpacks to more."""


def write_png(picture: Picture, metadata: dict[MetadataKey, bytes]) -> Written:
    """Return a picture as a PNG file.

    Args:
        picture: its pixels, palette and transparency; its metadata are not written.
        metadata: what to write.

    Raises:
        InputError: PNG does not hold the picture.
    """
    head, *core = _pixels(picture)
    palette = next((chunk for chunk in core if chunk.type == b"PLTE"), None)
    notes: list[str] = []
    places = _stored(metadata.get("png", b""), palette, notes)
    kept: dict[MetadataKey, bytes] = {"png": metadata["png"]} if any(places) and not notes else {}
    pieces = [
        _piece(key, data, notes)
        for key, data in metadata.items()
        if key != "png" and _is_new(key, data, metadata, notes)
    ]
    kept |= {piece.key: piece.expected for piece in pieces}
    first = [piece.chunk for piece in pieces if piece.key == "icc"]
    text = [piece.chunk for piece in pieces if piece.key != "icc"]
    pixels = core[core.index(palette) + 1 :] if palette is not None else core
    order = [head, *first, *places.before_palette, *([palette] if palette is not None else [])]
    order += [*places.before_pixels, *text, *pixels, *places.behind_pixels, Chunk(b"IEND", b"")]
    return Written(SIGNATURE + b"".join(chunk.to_bytes() for chunk in order), kept, notes)


def _pixels(picture: Picture) -> list[Chunk]:
    """Return the chunks of the picture itself, but for ``IEND``."""
    if picture.mode not in WIDE_COLOUR:
        chunks = [chunk for chunk in chunks_of(saved(picture, "PNG")) if chunk.type in _OF_THE_PICTURE]
        if picture.mode == "1":
            # Pillow writes a transparent white as 255, which is no value of one bit.
            return [chunk._replace(data=_one_bit(chunk.data)) if chunk.type == b"tRNS" else chunk for chunk in chunks]
        return chunks
    file = imagecodecs.png_encode(np.ascontiguousarray(picture.samples()))
    head, *pixels = [chunk for chunk in chunks_of(bytes(file)) if chunk.type in _OF_THE_PICTURE]
    return [head, *_transparent(picture), *pixels]


def _one_bit(grey: bytes) -> bytes:
    return struct.pack(">H", int(any(grey)))


def _transparent(picture: Picture) -> list[Chunk]:
    """Return the chunk of the transparent colour of a picture of 16-bit colour, if it has one."""
    if picture.transparency is None:
        return []
    if picture.mode != "RGB;16" or not isinstance(picture.transparency, tuple):
        raise InputError("png cannot hold this picture exactly")
    return [Chunk(b"tRNS", struct.pack(">HHH", *picture.transparency))]


def _stored(data: bytes, palette: Chunk | None, notes: list[str]) -> Places:
    """Return the chunks that are stored as chunks, but for a histogram of another palette than the one beside it."""
    places = split(unpack(data), palette=palette is not None)
    suggested = next((chunk for chunk in places.before_pixels if chunk.type == b"PLTE"), None)
    entries = len((palette or suggested or Chunk(b"PLTE", b"")).data) // 3
    for part in places:
        for chunk in [chunk for chunk in part if chunk.type == b"hIST" and len(chunk.data) != 2 * entries]:
            part.remove(chunk)
            notes.append(f"png cannot hold the chunk hIST beside a palette of {entries} entries; it is left out")
    return places


def _is_new(key: MetadataKey, data: bytes, metadata: dict[MetadataKey, bytes], notes: list[str]) -> bool:
    """Whether no stored chunk says a piece already; where one says another, that one stays, with a note."""
    said, _ = keys_of_chunks({"png": metadata.get("png", b"")})
    if key in said and said[key] != data:
        notes.append(f"png has {LABELS[key]} metadata among its chunks; other ones are left out")
    return key not in said


class _Piece(NamedTuple):
    """A piece of metadata as a chunk, and what must be found when it is read."""

    key: MetadataKey
    chunk: Chunk
    expected: bytes


def _piece(key: MetadataKey, data: bytes, notes: list[str]) -> _Piece:
    expected = data
    if key == "icc":
        chunk = Chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(data))
    elif key == "exif":
        chunk = Chunk(b"eXIf", data)
    elif key == "xmp":
        chunk = Chunk(b"iTXt", XMP_KEYWORD + bytes(5) + data)
    elif key == "iptc":
        chunk = _iptc(data)
    elif key == "comment":
        chunk, expected = _comment(data, notes)
    else:
        chunk, expected = _density(data, notes)
    return _Piece(key, chunk, expected)


def _iptc(data: bytes) -> Chunk:
    """Return IPTC as ImageMagick writes it: as Photoshop's image resource 0x0404, in hexadecimal."""
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + bytes(len(data) % 2)
    digits = resource.hex()
    lines = "\n".join(digits[at : at + _HEX_LINE] for at in range(0, len(digits), _HEX_LINE))
    text = f"\niptc\n{len(resource):8}\n{lines}\n".encode()
    if len(text) > _MAX_PILLOW_TEXT:
        return Chunk(b"tEXt", IPTC_KEYWORD + b"\0" + text)
    return Chunk(b"zTXt", IPTC_KEYWORD + b"\0\0" + zlib.compress(text))


def _comment(data: bytes, notes: list[str]) -> tuple[Chunk, bytes]:
    """Return a comment as text: UTF-8 if it is that and more than ASCII, else Latin-1."""
    expected = data.rstrip(b"\0").replace(b"\0", b" ")
    if expected != data:
        notes.append("png text cannot hold zero bytes; those of the comment are left out")
    try:
        utf_8 = not expected.decode().isascii()
    except UnicodeDecodeError:
        utf_8 = False
    kind, between = (b"iTXt", bytes(5)) if utf_8 else (b"tEXt", b"\0")
    return Chunk(kind, COMMENT_KEYWORD + between + expected), expected


def _density(data: bytes, notes: list[str]) -> tuple[Chunk, bytes]:
    """Return a density as whole pixels per metre, or as the ratio of two integers."""
    given = parse_density(data)
    pair = given.per_metre()
    if pair is None:
        ratio = given.across / given.down
        across, down, unit = ratio.numerator, ratio.denominator, 0
    else:
        across, down, unit = max(1, round(pair[0])), max(1, round(pair[1])), 1
    across, down = min(across, _MAX_INTEGER), min(down, _MAX_INTEGER)
    written = density(across, down, "m" if unit else "none")
    if not given.close_to(parse_density(written)):
        notes.append(f"png holds whole pixels per metre; the density {data.decode()} is written as {written.decode()}")
    return Chunk(b"pHYs", struct.pack(">IIB", across, down, unit)), written
