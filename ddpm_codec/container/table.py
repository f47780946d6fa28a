"""Reads and writes the image table, column by column, and the head."""

import json
from collections.abc import Sequence

from ddpm_codec.container.columns import check_pixels, check_size, picture_info, read_blobs, write_blobs
from ddpm_codec.container.layout import (
    CODECS,
    MAX_BLOCKS,
    MAX_HEAD_BYTES,
    MAX_IMAGES,
    MAX_MODEL_NAME_BYTES,
    MAX_SIDE,
    MAX_TABLE_BYTES,
    MODEL_ID_BYTES,
    ROUTES,
    Head,
    ImageEntry,
    checked_values,
)
from ddpm_codec.container.names import read_names, write_names
from ddpm_codec.container.packing import pack, unpack
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import MODES_BY_NUMBER
from ddpm_codec.varint import Reader, write_varint


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
            check_size(info)
            write_varint(out, info.size[axis])
    out += bytes(info.layout.number for info in infos)
    out += bytes(image.route for image in images)
    write_blobs(out, infos)
    if len(out) > MAX_TABLE_BYTES:
        raise InputError(
            f"names and metadata together take more than {MAX_TABLE_BYTES} bytes; use --strip or several files"
        )
    return pack(bytes(out))


def read_table(payload: bytes, max_pixels: int) -> tuple[list[ImageEntry], int]:
    """Read the images of a section TABL, and the number of blocks.

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
    check_pixels(pixels, max_pixels)
    numbers, routes = reader.take(count), reader.take(count)
    if not set(numbers) <= set(MODES_BY_NUMBER) or not set(routes) <= ROUTES:
        raise FormatError("a pixel mode or codec is unknown: made by a newer version")
    blobs = read_blobs(reader, count)
    if reader.left:
        raise FormatError("it has extra bytes")
    return [
        ImageEntry(picture_info(name, MODES_BY_NUMBER[number].name, (width, height), own), route)
        for name, number, width, height, own, route in zip(names, numbers, widths, heights, blobs, routes, strict=True)
    ], block_count


def write_head(head: Head) -> bytes:
    """Return the payload of the section HEAD of a file coded with a model.

    Raises:
        ValueError: the codec is unknown, or the model's name or identity has the wrong length.
    """
    name = head.model_name.encode()
    if head.codec not in CODECS or len(head.model_id) != MODEL_ID_BYTES or not 1 <= len(name) <= MAX_MODEL_NAME_BYTES:
        raise ValueError("the model's identity must have 32 bytes, and its name must be short")
    out = bytearray()
    write_varint(out, len(name))
    out += name + head.model_id
    values = {"fingerprint": head.fingerprint, "parameters": head.parameters}
    text = {key: value for key, value in values.items() if value}
    return bytes(out) + pack(json.dumps(text, sort_keys=True, separators=(",", ":")).encode())


def read_head(payload: bytes, codec: int) -> Head:
    """Read the output of :func:`write_head`.

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
    return Head(codec, name, model_id, *(checked_values(values.get(key, {})) for key in ("fingerprint", "parameters")))
