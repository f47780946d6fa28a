"""Reads and writes metadata, palettes and transparent colours of pictures, column by column."""

from ddpm_codec.container.layout import MAX_SIDE
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import METADATA_KEYS, MODES, MetadataKey, Palette, PictureInfo, Transparency
from ddpm_codec.varint import Reader, write_varint

_PALETTE = len(METADATA_KEYS)
_TRANSPARENCY = _PALETTE + 1
_BLOB_COLUMNS = _TRANSPARENCY + 1
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
    """Append a byte of flags for the columns present, then each distinct blob once, then the columns of indices."""
    rows = [_blobs_of(info) for info in infos]
    present = [column for column in range(_BLOB_COLUMNS) if any(row[column] for row in rows)]
    out.append(sum(1 << column for column in present))
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
    flags = reader.take(1)[0]
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
    metadata = [info.metadata.get(key, b"") for key in METADATA_KEYS]
    palette = bytes([info.palette.channels]) + info.palette.colours if info.palette is not None else b""
    return (*metadata, palette, _transparency_blob(info.transparency))


def picture_info(name: str, mode: str, size: tuple[int, int], blobs: tuple[bytes, ...]) -> PictureInfo:
    """Build the info of a picture from its row of :func:`read_blobs`.

    Raises:
        FormatError: a palette or transparent colour is damaged, or does not fit the mode.
    """
    if blobs[_PALETTE] and not MODES[mode].has_palette:
        raise FormatError(f"a picture of mode {mode} cannot have a palette")
    metadata: dict[MetadataKey, bytes] = {key: blob for key, blob in zip(METADATA_KEYS, blobs, strict=False) if blob}
    return PictureInfo(name, mode, size, _palette(blobs[_PALETTE]), _transparency(blobs[_TRANSPARENCY]), metadata)


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
