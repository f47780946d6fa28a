"""The head of a progressive file, as short as it can be: a small picture may have no more than a thousand bytes."""

import json
from dataclasses import dataclass
from typing import Final

from ddpm_codec.container.columns import check_pixels, check_size, picture_info, read_blobs, write_blobs
from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    MAX_HEAD_BYTES,
    MAX_MODEL_NAME_BYTES,
    MAX_SIDE,
    MAX_TABLE_BYTES,
    PROGRESSIVE_PARAMETERS,
    SHORT_ID_BYTES,
    TAIL_PARAMETERS,
    Head,
    Values,
    checked_values,
)
from ddpm_codec.container.names import encode_checked
from ddpm_codec.container.packing import pack, unpack
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import MAX_NAME_BYTES, PictureInfo, check_name, decode_name
from ddpm_codec.varint import Reader, write_varint

ALPHA: Final = 1
NAME: Final = 2
MODEL_NAME: Final = 4
FINGERPRINT: Final = 8
METADATA: Final = 16
_OPTIONAL: Final = (NAME, MODEL_NAME, FINGERPRINT, METADATA)
_KNOWN: Final = ALPHA | sum(_OPTIONAL)

MODES: Final = {"RGB": 0, "RGBA": ALPHA}
"""Modes of pixels that a progressive file can have, and their flags."""

_SMALL_PIXELS: Final = 1 << 20
"""So many pixels with padding are harmless whatever the limit."""

_MAX_PARAMETER: Final = 1 << 40


@dataclass(frozen=True)
class ShortHead:
    """What the head of a progressive file says.

    Attributes:
        head: model and parameters; the model's name may be empty.
        info: the picture without its pixels.
        body_bytes: what all sections behind the head take together.
    """

    head: Head
    info: PictureInfo
    body_bytes: int


def write_short_head(short: ShortHead, usual_name: str) -> bytes:
    """Return the payload of the head.

    Args:
        short: what it says.
        usual_name: what a reader will call the picture where the head says nothing; another name is written down.

    Raises:
        InputError: the picture's name, size or metadata cannot be stored.
        ValueError: another mode than RGB or RGBA, a parameter is missing, or the model's name or identity is too long.
    """
    head, info = short.head, short.info
    model_name = head.model_name.encode()
    if len(head.model_id) != SHORT_ID_BYTES or len(model_name) > MAX_MODEL_NAME_BYTES:
        raise ValueError("the head of a progressive file names a model by a short identity and a short name")
    keys = (*PROGRESSIVE_PARAMETERS, *(TAIL_PARAMETERS if head.parameters.get("tail_level") else ()))
    if set(head.parameters) != set(keys):
        raise ValueError(f"a progressive file has the parameters {sorted(keys)}")
    check_size(info)
    name = b"" if info.name == usual_name else encode_checked(info.name)
    fingerprint = pack(_json(head.fingerprint)) if head.fingerprint else b""
    blobs = bytearray()
    write_blobs(blobs, [info])
    if len(blobs) > MAX_TABLE_BYTES:
        raise InputError(f"{info.name}: the metadata take more than {MAX_TABLE_BYTES} bytes; use --strip")
    metadata = pack(bytes(blobs)) if len(blobs) > 1 else b""
    optional = {NAME: name, MODEL_NAME: model_name, FINGERPRINT: fingerprint, METADATA: metadata}
    out = bytearray([MODES[info.mode] | sum(flag for flag, data in optional.items() if data)])
    out += head.model_id
    for value in (*(int(head.parameters[key]) for key in keys), *info.size, short.body_bytes):
        write_varint(out, value)
    for data in filter(None, optional.values()):
        write_varint(out, len(data))
        out += data
    return bytes(out)


def read_short_head(payload: bytes, usual_name: str, max_pixels: int) -> ShortHead:
    """Undo :func:`write_short_head`.

    Raises:
        FormatError: the head is damaged, or declares more than ``max_pixels`` pixels.
    """
    reader = Reader(payload)
    flags = reader.take(1)[0]
    if flags & ~_KNOWN:
        raise FormatError("its head says what is unknown: made by a newer version")
    try:
        model_id = reader.take(SHORT_ID_BYTES)
        parameters: Values = {key: reader.varint(_MAX_PARAMETER) for key in PROGRESSIVE_PARAMETERS}
        if parameters["tail_level"]:
            parameters |= {key: reader.varint(_MAX_PARAMETER) for key in TAIL_PARAMETERS}
        size = reader.varint(MAX_SIDE), reader.varint(MAX_SIDE)
        body_bytes = reader.varint()
        optional = {flag: reader.take(reader.varint(reader.left)) for flag in _OPTIONAL if flags & flag}
        name = _name(optional[NAME]) if NAME in optional else usual_name
        model_name = optional.get(MODEL_NAME, b"").decode()
        fingerprint = _fingerprint(optional[FINGERPRINT]) if FINGERPRINT in optional else {}
        info = PictureInfo(name, "RGBA" if flags & ALPHA else "RGB", size)
        if METADATA in optional:
            info = picture_info(info.name, info.mode, size, _blobs(optional[METADATA]))
    except (ValueError, RecursionError):
        raise FormatError("its head is damaged") from None
    if reader.left or 0 in size:
        raise FormatError("its head is damaged")
    check_pixels(info.pixel_count, max_pixels)
    # A picture of one row is coded as one of eight.
    width, height = (side + -side % 8 for side in size)
    check_pixels(width * height, max(max_pixels, _SMALL_PIXELS))
    return ShortHead(Head(CODEC_PROGRESSIVE, model_name, model_id, fingerprint, parameters), info, body_bytes)


def _name(data: bytes) -> str:
    name = decode_name(data)
    try:
        check_name(name)
    except InputError as error:
        raise FormatError(str(error)) from None
    if len(data) > MAX_NAME_BYTES:
        raise FormatError("a name is too long")
    return name


def _fingerprint(data: bytes) -> Values:
    return checked_values(json.loads(unpack(data, MAX_HEAD_BYTES)))


def _blobs(data: bytes) -> tuple[bytes, ...]:
    reader = Reader(unpack(data, MAX_TABLE_BYTES))
    (row,) = read_blobs(reader, 1)
    if reader.left:
        raise FormatError("its head has bytes left over")
    return row


def _json(values: Values) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
