"""Reads and writes metadata, palettes, transparent colours and white values of pictures, column by column."""

from typing import Final

from ddpm_codec.container.layout import MAX_SIDE
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import MODES, MetadataKey, Palette, PictureInfo, Transparency
from ddpm_codec.varint import Reader, write_varint

_METADATA: Final[dict[MetadataKey, int]] = {
    "icc": 0,
    "exif": 1,
    "xmp": 2,
    "iptc": 5,
    "comment": 6,
    "density": 7,
    "png": 8,
}
"""Column of each kind of metadata."""
_PALETTE, _TRANSPARENCY, _WHITE = 3, 4, 9
_BLOB_COLUMNS = 10
_ANY_FLAGS = (1 << 63) - 1
_INTEGER, _ALPHAS, _COLOUR = 1, 2, 3
_MAX_COLOUR_PARTS = 4


def check_size(info: PictureInfo) -> None:
    """Check that the size of a picture can be stored.

    Raises:
        InputError: a side is 0 or too long.
    """
    if not all(1 <= side <= MAX_SIDE for side in info.size):
        raise InputError(f"{info.name}: a picture of {info.size[0]}x{info.size[1]} pixels cannot be stored")


def check_pixels(pixels: int, max_pixels: int) -> None:
    """Check the number of pixels that a file declares.

    Raises:
        FormatError: it exceeds ``max_pixels``.
    """
    if pixels > max_pixels:
        raise FormatError(f"it declares {pixels} pixels, more than {max_pixels} (use --max-pixels to raise the limit)")


def write_blobs(out: bytearray, infos: list[PictureInfo]) -> None:
    """Append the flags of the columns present, then each distinct blob once, then the columns of indices."""
    rows = [_blobs_of(info) for info in infos]
    present = [column for column in range(_BLOB_COLUMNS) if any(row[column] for row in rows)]
    write_varint(out, sum(1 << column for column in present))
    if not present:
        return
    pool: dict[bytes, int] = {b"": 0}
    for row in rows:
        for column in present:
            pool.setdefault(row[column], len(pool))
    write_varint(out, len(pool) - 1)
    for blob in list(pool)[1:]:
        write_varint(out, len(blob))
    for blob in list(pool)[1:]:
        out += blob
    for column in present:
        for row in rows:
            write_varint(out, pool[row[column]])


def read_blobs(reader: Reader, count: int) -> list[tuple[bytes, ...]]:
    """Read the output of :func:`write_blobs` for ``count`` pictures; see :func:`picture_info`.

    Raises:
        FormatError: the columns are damaged.
    """
    flags = reader.varint(_ANY_FLAGS)
    if flags >> _BLOB_COLUMNS:
        raise FormatError("it has unknown columns: made by a newer version")
    if not flags:
        return [(b"",) * _BLOB_COLUMNS] * count
    lengths = [reader.varint(reader.left) for _ in range(reader.varint(_BLOB_COLUMNS * count))]
    pool = [b"", *(reader.take(length) for length in lengths)]
    columns = [
        [pool[reader.varint(len(pool) - 1)] for _ in range(count)] if flags >> column & 1 else [b""] * count
        for column in range(_BLOB_COLUMNS)
    ]
    return list(zip(*columns, strict=True))


def _blobs_of(info: PictureInfo) -> tuple[bytes, ...]:
    blobs = {_METADATA[key]: data for key, data in info.metadata.items()}
    if info.palette is not None:
        blobs[_PALETTE] = bytes([info.palette.channels]) + info.palette.colours
    blobs[_TRANSPARENCY] = _transparency_blob(info.transparency)
    blobs[_WHITE] = _white_blob(info.white)
    return tuple(blobs.get(column, b"") for column in range(_BLOB_COLUMNS))


def picture_info(name: str, mode: str, size: tuple[int, int], blobs: tuple[bytes, ...]) -> PictureInfo:
    """Build the info of a picture from its row of :func:`read_blobs`.

    Raises:
        FormatError: a palette, transparent colour or white value is damaged, or does not fit the mode.
    """
    if blobs[_PALETTE] and not MODES[mode].has_palette:
        raise FormatError(f"a picture of mode {mode} cannot have a palette")
    metadata = {key: blobs[column] for key, column in _METADATA.items() if blobs[column]}
    palette, transparency = _palette(blobs[_PALETTE]), _transparency(blobs[_TRANSPARENCY])
    return PictureInfo(name, mode, size, palette, transparency, metadata, _white(blobs[_WHITE], mode))


def _palette(blob: bytes) -> Palette | None:
    if not blob:
        return None
    channels, colours = blob[0], blob[1:]
    if channels not in (3, 4) or len(colours) % channels or len(colours) > 256 * channels:
        raise FormatError("a palette is damaged")
    return Palette(channels, colours)


def _transparency_blob(value: Transparency | None) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return bytes([_ALPHAS]) + value
    out = bytearray([_INTEGER if isinstance(value, int) else _COLOUR])
    for part in (value,) if isinstance(value, int) else value:
        write_varint(out, part)
    return bytes(out)


def _transparency(blob: bytes) -> Transparency | None:
    if not blob:
        return None
    reader = Reader(blob)
    kind = reader.take(1)[0]
    if kind == _ALPHAS and reader.left <= 256:
        return reader.rest()
    parts: list[int] = []
    while reader.left and len(parts) < _MAX_COLOUR_PARTS:
        parts.append(reader.varint(0xFFFF))
    if not reader.left and kind == _INTEGER and len(parts) == 1:
        return parts[0]
    if not reader.left and kind == _COLOUR:
        return tuple(parts)
    raise FormatError("a transparent colour is damaged")


def _white_blob(white: int | None) -> bytes:
    out = bytearray()
    if white is not None:
        write_varint(out, white)
    return bytes(out)


def _white(blob: bytes, mode: str) -> int | None:
    if not blob:
        return None
    reader, layout = Reader(blob), MODES[mode]
    white = reader.varint((1 << layout.sample_bits) - 1)
    if reader.left or not white or not layout.has_white:
        raise FormatError("a white value is damaged")
    return white
