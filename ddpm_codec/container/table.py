"""The table of images, column by column, and the head: to bytes and back."""

import json
from collections.abc import Sequence

from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    CODECS,
    MAX_BLOCKS,
    MAX_HEAD_BYTES,
    MAX_IMAGES,
    MAX_MODEL_NAME_BYTES,
    MAX_SIDE,
    MAX_TABLE_BYTES,
    MODEL_ID_BYTES,
    PROGRESSIVE_PARAMETERS,
    ROUTES,
    SHORT_ID_BYTES,
    TAIL_PARAMETERS,
    Head,
    ImageEntry,
    Values,
)
from ddpm_codec.container.names import read_names, write_names
from ddpm_codec.container.packing import pack, unpack
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import METADATA_KEYS, MODES_BY_NUMBER, MetadataKey, Palette, PictureInfo, Transparency
from ddpm_codec.varint import Reader, write_varint

_PALETTE = len(METADATA_KEYS)
_TRANSPARENCY = _PALETTE + 1
_BLOB_COLUMNS = _TRANSPARENCY + 1
_INTEGER, _ALPHAS, _COLOUR = 1, 2, 3
_MAX_COLOUR_PARTS = 4


def write_table(images: Sequence[ImageEntry], block_count: int) -> bytes:
    """Return the payload of the section TABL.

    Raises:
        InputError: there are too many images, or their names or metadata are too large.
    """
    if not 1 <= len(images) <= MAX_IMAGES:
        raise InputError(f"a file holds 1 to {MAX_IMAGES} pictures, not {len(images)}")
    if block_count > MAX_BLOCKS:
        raise InputError(f"a file holds at most {MAX_BLOCKS} blocks, not {block_count}; use larger ones")
    out = bytearray()
    write_varint(out, len(images))
    write_varint(out, block_count)
    infos = [image.info for image in images]
    write_names(out, [info.name for info in infos])
    for axis in (0, 1):
        for info in infos:
            if not 1 <= info.size[axis] <= MAX_SIDE:
                raise InputError(f"{info.name}: a picture of {info.size[0]}x{info.size[1]} pixels cannot be stored")
            write_varint(out, info.size[axis])
    out += bytes(info.layout.number for info in infos)
    out += bytes(image.route for image in images)
    _write_blobs(out, infos)
    if len(out) > MAX_TABLE_BYTES:
        raise InputError(f"names and metadata take more than {MAX_TABLE_BYTES} bytes; use --strip or several files")
    return pack(bytes(out))


def read_table(payload: bytes, max_pixels: int) -> tuple[list[ImageEntry], int]:
    """Return the images of a section TABL, and how many blocks there are.

    Raises:
        FormatError: the table is damaged, or declares more than ``max_pixels`` pixels.
    """
    reader = Reader(unpack(payload, MAX_TABLE_BYTES))
    count = reader.varint(MAX_IMAGES)
    block_count = reader.varint(MAX_BLOCKS)
    if not count:
        raise FormatError("it holds no images")
    names = read_names(reader, count)
    widths = [reader.varint(MAX_SIDE) for _ in range(count)]
    heights = [reader.varint(MAX_SIDE) for _ in range(count)]
    if 0 in widths or 0 in heights:
        raise FormatError("an image has no pixels")
    pixels = sum(width * height for width, height in zip(widths, heights, strict=True))
    if pixels > max_pixels:
        raise FormatError(f"it declares {pixels} pixels, more than {max_pixels} (--max-pixels raises the limit)")
    numbers, routes = reader.take(count), reader.take(count)
    if not set(numbers) <= set(MODES_BY_NUMBER) or not set(routes) <= ROUTES:
        raise FormatError("a pixel mode or codec is unknown: made by a newer version")
    blobs = _read_blobs(reader, count)
    if reader.left:
        raise FormatError("it has bytes left over")
    return [
        ImageEntry(_info(name, MODES_BY_NUMBER[number].name, (width, height), own), route)
        for name, number, width, height, own, route in zip(names, numbers, widths, heights, blobs, routes, strict=True)
    ], block_count


def write_head(head: Head) -> bytes:
    """Return the payload of the section HEAD, of a file that was coded with a model.

    Raises:
        ValueError: the codec is unknown, or the model's name or identity is not of the right length.
    """
    name = head.model_name.encode()
    if head.codec not in CODECS or len(head.model_id) != MODEL_ID_BYTES or not 1 <= len(name) <= MAX_MODEL_NAME_BYTES:
        raise ValueError("a head names a model by 32 bytes and a short name")
    out = bytearray()
    write_varint(out, len(name))
    out += name + head.model_id
    values = {"fingerprint": head.fingerprint, "parameters": head.parameters}
    text = {key: value for key, value in values.items() if value}
    return bytes(out) + pack(json.dumps(text, sort_keys=True, separators=(",", ":")).encode())


def read_head(payload: bytes, codec: int) -> Head:
    """Undo :func:`write_head`.

    Raises:
        FormatError: the head is damaged.
    """
    if codec not in CODECS:
        raise FormatError(f"codec {codec} is unknown: made by a newer version")
    reader = Reader(payload)
    try:
        name = reader.take(reader.varint(MAX_MODEL_NAME_BYTES)).decode()
        model_id = reader.take(MODEL_ID_BYTES)
        values = json.loads(unpack(reader.rest(), MAX_HEAD_BYTES))
    except (ValueError, RecursionError):
        raise FormatError("its head is damaged") from None
    if not isinstance(values, dict) or not set(values) <= {"fingerprint", "parameters"} or not name:
        raise FormatError("its head is damaged")
    return Head(codec, name, model_id, *(_values(values.get(key, {})) for key in ("fingerprint", "parameters")))


def write_short_head(head: Head) -> bytes:
    """Return the head of a progressive file: name, identity, parameters as varints, fingerprint if any.

    Raises:
        ValueError: a parameter is missing, or the model's name or identity is not of the right length.
    """
    name = head.model_name.encode()
    keys = (*PROGRESSIVE_PARAMETERS, *(TAIL_PARAMETERS if head.parameters.get("tail_level") else ()))
    if len(head.model_id) != SHORT_ID_BYTES or not 1 <= len(name) <= MAX_MODEL_NAME_BYTES:
        raise ValueError("the head of a progressive file names a model by a short identity and a short name")
    if set(head.parameters) != set(keys):
        raise ValueError(f"a progressive file has the parameters {sorted(keys)}")
    out = bytearray()
    write_varint(out, len(name))
    out += name + head.model_id
    for key in keys:
        write_varint(out, int(head.parameters[key]))
    if head.fingerprint:
        out += pack(json.dumps(head.fingerprint, sort_keys=True, separators=(",", ":")).encode())
    return bytes(out)


def read_short_head(payload: bytes) -> Head:
    """Undo :func:`write_short_head`.

    Raises:
        FormatError: the head is damaged.
    """
    reader = Reader(payload)
    try:
        name = reader.take(reader.varint(MAX_MODEL_NAME_BYTES)).decode()
        model_id = reader.take(SHORT_ID_BYTES)
        parameters: Values = {key: reader.varint(1 << 40) for key in PROGRESSIVE_PARAMETERS}
        if parameters["tail_level"]:
            parameters |= {key: reader.varint(1 << 40) for key in TAIL_PARAMETERS}
        fingerprint = json.loads(unpack(reader.rest(), MAX_HEAD_BYTES)) if reader.left else {}
    except (ValueError, RecursionError):
        raise FormatError("its head is damaged") from None
    if not name:
        raise FormatError("its head is damaged")
    return Head(CODEC_PROGRESSIVE, name, model_id, _values(fingerprint), parameters)


def _values(found: object) -> Values:
    if not isinstance(found, dict) or any(
        isinstance(value, bool) or not isinstance(value, int | str) for value in found.values()
    ):
        raise FormatError("its head is damaged")
    return found


def _write_blobs(out: bytearray, infos: list[PictureInfo]) -> None:
    """Append a byte that says which columns are there, then each distinct blob once, then the columns of indices."""
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


def _read_blobs(reader: Reader, count: int) -> list[tuple[bytes, ...]]:
    flags = reader.take(1)[0]
    if flags >> _BLOB_COLUMNS:
        raise FormatError("it has columns that are unknown: made by a newer version")
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


def _info(name: str, mode: str, size: tuple[int, int], blobs: tuple[bytes, ...]) -> PictureInfo:
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
