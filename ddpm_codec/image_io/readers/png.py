"""PNG files (W3C, Portable Network Graphics, third edition): all colour types, depths and both interlacings.

The chunks are walked here: a reader that meets the end too early makes up the missing rows, and an ancillary chunk that is
damaged or large must not cost the pixels. What is decoded is a file of the critical chunks and tRNS alone.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import palette_of, pixels_of, transparency_of
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.image_io.readers.simple import ceil_div, file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Picture, PictureInfo, Transparency, check_name

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
GREY: Final = 0
COLOUR: Final = 2
INDEXED: Final = 3
_CHANNELS: Final = {GREY: 1, COLOUR: 3, INDEXED: 1, 4: 2, 6: 4}
_DEPTHS: Final = {GREY: (1, 2, 4, 8, 16), COLOUR: (8, 16), INDEXED: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_WIDE_MODES: Final = {COLOUR: "RGB;16", 4: "LA;16", 6: "RGBA;16"}
_TRNS_BYTES: Final = {GREY: 2, COLOUR: 6}
_MAX_SIDE: Final = (1 << 31) - 1
_PIECE: Final = 1 << 20
# Column and row of the first pixel and the steps between pixels, of each pass (PNG, 8.1).
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class _Layout:
    """The fields of IHDR."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    body: bytes

    def passes(self) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, int], int]]:
        """Yield of each pass where its pixels lie, its columns and rows, and the bytes of its filtered rows."""
        for place in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            left, top, across, down = place
            columns, rows = ceil_div(self.width - left, across), ceil_div(self.height - top, down)
            if columns > 0 and rows > 0:
                yield place, (columns, rows), rows * (1 + (columns * self.depth * _CHANNELS[self.colour] + 7) // 8)


@dataclass
class _Parts:
    """What :func:`_parts` gathers of a file."""

    layout: _Layout
    plte: bytes | None = None
    trns: bytes | None = None
    data: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`. Only IHDR's checksum is looked at; chunks are passed over."""
    layout = _layout(file)
    return Header("PNG", (layout.width, layout.height), _frames(file), bits=layout.depth)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`. Of an animation, the default image is taken."""
    parts = _parts(file)
    check_name(name)
    layout, trns = parts.layout, parts.trns
    size = layout.width, layout.height
    metadata, notes = file_metadata(file, "PNG")
    notes = (*parts.notes, *notes)
    if layout.depth == 16 and layout.colour != GREY:
        parts.trns = None  # of which libpng would make an alpha channel
        pixels = _wide_samples(parts).astype("<u2").tobytes()
        transparent = struct.unpack(">3H", trns) if trns else None
        return ReadPicture(
            Picture(PictureInfo(name, _WIDE_MODES[layout.colour], size, None, transparent, metadata), pixels), notes
        )
    _inflated(parts, keep=False)
    with opened(_rebuilt(parts), "PNG") as image:
        image.load()
        info = PictureInfo(name, image.mode, size, palette_of(image), _transparency(image, layout), metadata)
        return ReadPicture(Picture(info, pixels_of(image)), notes)


def _layout(file: BinaryIO) -> _Layout:
    """Read and check signature and IHDR."""
    file.seek(0)
    if read_exactly(file, len(SIGNATURE)) != SIGNATURE:
        raise InputError("is damaged (no PNG signature)")
    length, tag = struct.unpack(">I4s", read_exactly(file, 8))
    if tag == b"CgBI":
        raise InputError("is a PNG of Apple's own kind (CgBI), whose colours are multiplied by alpha")
    if (length, tag) != (13, b"IHDR"):
        raise InputError("is damaged (the first chunk is not IHDR)")
    body = read_exactly(file, 13)
    if struct.unpack(">I", read_exactly(file, 4)) != (zlib.crc32(b"IHDR" + body),):
        raise InputError("is damaged (the checksum of IHDR does not match)")
    width, height, depth, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", body)
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise InputError(f"has no pixels ({width}x{height})")
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        fields = (
            f"depth {depth}, colour type {colour}, compression {compression}, filter {filters}, interlace {interlace}"
        )
        raise InputError(f"has an IHDR that PNG does not define ({fields})")
    return _Layout(width, height, depth, colour, bool(interlace), body)


def _frames(file: BinaryIO) -> int:
    """Return the number of frames of an animation, with the default image where that is not one of them."""
    declared = controls = 0
    before_data, default_is_frame = True, False
    at, end = len(SIGNATURE) + 25, file.seek(0, 2)
    while at + 8 <= end:
        file.seek(at)
        length, tag = struct.unpack(">I4s", read_exactly(file, 8))
        if tag == b"IEND":
            break
        before_data &= tag != b"IDAT"
        if tag == b"acTL" and before_data and length == 8:
            declared = struct.unpack(">I", read_exactly(file, 4))[0]
        if tag == b"fcTL":
            controls += 1
            default_is_frame |= before_data
        at += 12 + length
    if not declared:
        return 1
    return max(declared, controls) + (not default_is_frame)


def _parts(file: BinaryIO) -> _Parts:
    """Walk the chunks and check their checksums.

    Raises:
        InputError: the file is damaged, or has a critical chunk that is not known.
    """
    parts = _Parts(_layout(file))
    previous = b"IHDR"
    while previous != b"IEND":
        start = file.read(8)
        if len(start) < 8:
            raise InputError("is damaged (the file ends before its IEND chunk)")
        length, tag = struct.unpack(">I4s", start)
        # A transparent colour belongs to the pixels, though its chunk is ancillary.
        needed = not tag[0] & 0x20 or tag == b"tRNS"
        body, whole = _body(file, length, tag, keep=needed)
        if needed and not whole:
            raise InputError(f"is damaged (the checksum of its {_shown(tag)} chunk does not match)")
        if needed:
            _take(parts, tag, body, previous)
        previous = tag
    end = file.tell()
    surplus = file.seek(0, 2) - end
    if surplus:
        parts.notes.append(f"{surplus} bytes behind the end of the PNG data are left out")
    return parts


def _body(file: BinaryIO, length: int, tag: bytes, *, keep: bool) -> tuple[bytes, bool]:
    """Return a chunk's data, or nothing where they need not be kept, and whether its checksum is right."""
    crc, pieces = zlib.crc32(tag), []
    for at in range(0, length, _PIECE):
        piece = file.read(min(_PIECE, length - at))
        crc = zlib.crc32(piece, crc)
        if keep:
            pieces.append(piece)
        if not piece:
            raise InputError(f"is damaged (the file ends inside its {_shown(tag)} chunk)")
    stored = file.read(4)
    if len(stored) < 4:
        raise InputError(f"is damaged (the file ends inside its {_shown(tag)} chunk)")
    return b"".join(pieces), stored == struct.pack(">I", crc)


def _shown(tag: bytes) -> str:
    return tag.decode("ascii") if tag.isalpha() else repr(tag)


def _take(parts: _Parts, tag: bytes, body: bytes, previous: bytes) -> None:
    """Keep a chunk that pixels depend on, if it is where it has to be."""
    colour = parts.layout.colour
    if tag == b"IDAT":
        if parts.data and previous != b"IDAT":
            raise InputError("is damaged (its IDAT chunks do not follow each other)")
        parts.data.append(body)
    elif tag == b"PLTE":
        if parts.plte is not None or parts.data or parts.trns is not None or colour in (GREY, 4):
            raise InputError("is damaged (its PLTE chunk is out of place)")
        if len(body) % 3 or not 3 <= len(body) <= 3 << min(8, parts.layout.depth):
            raise InputError(f"is damaged (its PLTE chunk has {len(body)} bytes)")
        parts.plte = body
    elif tag == b"tRNS":
        if parts.trns is not None or parts.data or colour in (4, 6) or (colour == INDEXED and parts.plte is None):
            raise InputError("is damaged (its tRNS chunk is out of place)")
        entries = len(parts.plte or b"") // 3
        if len(body) != _TRNS_BYTES.get(colour, len(body)) or (colour == INDEXED and not 1 <= len(body) <= entries):
            raise InputError(f"is damaged (its tRNS chunk has {len(body)} bytes)")
        parts.trns = body
    elif tag != b"IEND" or body:
        raise InputError(f"has a critical chunk {_shown(tag)} that is not known")


def _inflated(parts: _Parts, *, keep: bool) -> bytes:
    """Check that the data inflate to exactly what the header needs, as readers fill in what is missing; return them."""
    if parts.layout.colour == INDEXED and parts.plte is None:
        raise InputError("is damaged (it has no palette)")
    needed, found = sum(count for _, _, count in parts.layout.passes()), 0
    inflate, pieces = zlib.decompressobj(), []
    rest = data = b"".join(parts.data)
    try:
        while not inflate.eof and found <= needed:
            piece = inflate.decompress(rest, _PIECE)
            rest = inflate.unconsumed_tail
            if not piece and not rest:
                break
            found += len(piece)
            if keep:
                pieces.append(piece)
    except zlib.error as error:
        raise InputError(f"is damaged (its pixels do not unpack: {error})") from None
    if found != needed or not inflate.eof:
        size = f"{parts.layout.width}x{parts.layout.height}"
        raise InputError(f"is damaged (its data hold {found} of the {needed} bytes that {size} pixels need)")
    # libpng writes to standard error of bytes behind the compressed data.
    parts.data = [data[: len(data) - len(inflate.unused_data)]]
    return b"".join(pieces)


def _wide_samples(parts: _Parts) -> NDArray[np.uint16]:
    """Return 16-bit samples of several channels, [height, width, channels]."""
    layout = parts.layout
    filtered = _inflated(parts, keep=layout.interlaced)
    channels = _CHANNELS[layout.colour]
    if not layout.interlaced:
        return _decoded(_rebuilt(parts), (layout.height, layout.width, channels))
    samples, at = np.zeros((layout.height, layout.width, channels), np.uint16), 0
    for (left, top, across, down), (columns, rows), count in layout.passes():
        # Each pass is a picture of its own, coded as one that is not interlaced.
        body = struct.pack(">IIBBBBB", columns, rows, layout.depth, layout.colour, 0, 0, 0)
        part = _Parts(replace(layout, body=body), data=[zlib.compress(filtered[at : at + count], 1)])
        samples[top::down, left::across] = _decoded(_rebuilt(part), (rows, columns, channels))
        at += count
    return samples


def _decoded(file: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    samples = imagecodecs.png_decode(file)
    if samples.dtype != np.uint16 or samples.size != math.prod(shape):
        raise InputError("is damaged (its samples are not what the header says)")
    return samples.reshape(shape)


def _rebuilt(parts: _Parts) -> bytes:
    """Return a PNG file of what pixels depend on alone."""
    plte = parts.plte if parts.layout.colour == INDEXED else None
    chunks = [(b"IHDR", parts.layout.body), (b"PLTE", plte), (b"tRNS", parts.trns)]
    chunks += [(b"IDAT", body) for body in parts.data]
    out = [SIGNATURE]
    for tag, body in (*chunks, (b"IEND", b"")):
        if body or tag == b"IEND":
            body = body or b""
            out += [struct.pack(">I", len(body)), tag, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(tag)))]
    return b"".join(out)


def _transparency(image: Image.Image, layout: _Layout) -> Transparency | None:
    """Return Pillow's transparency; a grey of 2 or 4 bits scaled to 8 as Pillow scales its pixels, but not this."""
    value = transparency_of(image)
    factor = {2: 85, 4: 17}.get(layout.depth, 1) if layout.colour == GREY else 1
    if factor == 1 or not isinstance(value, int):
        return value
    return (value & (1 << layout.depth) - 1) * factor
