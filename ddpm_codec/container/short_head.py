"""The head of a file of one picture, progressive or not: it is short because a small picture takes only a few hundred bytes.

A byte of flags, the first bytes of the model's identity, the coding parameters and the size come first; fields that most
files do without follow. What the head does not say, the reader knows: a picture without a name is named after its file.
"""

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from ddpm_codec.container.columns import check_pixels, check_size, picture_info, read_blobs, write_blobs
from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    MAX_HEAD_BYTES,
    MAX_MODEL_NAME_BYTES,
    MAX_SIDE,
    MAX_TABLE_BYTES,
    PROGRESSIVE_PARAMETERS,
    ROUTE_FALLBACK,
    ROUTE_INDEXED,
    ROUTE_MODEL,
    SHORT_ID_BYTES,
    SINGLE_PARAMETERS,
    Head,
    Values,
    checked_values,
)
from ddpm_codec.container.names import encode_checked
from ddpm_codec.container.packing import pack, unpack
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import MAX_NAME_BYTES, MODES, MODES_BY_NUMBER, PictureInfo, check_name, decode_name
from ddpm_codec.varint import Reader, write_varint

ALPHA: Final = 1
NAME: Final = 2
MODEL_NAME: Final = 4
FINGERPRINT: Final = 8
METADATA: Final = 16
MODE: Final = 32
ROUTE_SHIFT: Final = 6
"""The flags of the head; the highest two bits are the route of a single picture."""

OPTIONAL: Final = (NAME, MODEL_NAME, FINGERPRINT, METADATA)

_COLOUR: Final = {"RGB": 0, "RGBA": ALPHA}
"""Modes that take no byte of their own, and their flags."""

_USUAL_NAME: Final = "picture.png"
_MAX_PARAMETER: Final = 1 << 40
_SMALL_PIXELS: Final = 1 << 20
"""This many pixels, padding included, are harmless whatever the limit."""


@dataclass(frozen=True)
class ShortHead:
    """Contents of a short head.

    Attributes:
        head: codec, model and parameters; the name of the model may be empty.
        info: the picture without pixels.
        body_bytes: total size of the sections after the head of a progressive file; 0 in others.
        route: how the pixels of a single picture are coded; ROUTE_MODEL in a progressive file.
    """

    head: Head
    info: PictureInfo
    body_bytes: int = 0
    route: int = ROUTE_MODEL


def write_short_head(short: ShortHead, usual_name: str) -> bytes:
    """Return the head.

    Args:
        short: its contents.
        usual_name: the name a reader gives the picture by default; any other is stored.

    Raises:
        InputError: the picture's name, size or metadata cannot be stored.
        ValueError: the model cannot code the mode, a parameter is missing, or the model's name or identity is too long.
    """
    head, info = short.head, short.info
    progressive = head.codec == CODEC_PROGRESSIVE
    optional = _optional(short, usual_name)
    if len(head.model_id) != (0 if short.route == ROUTE_FALLBACK else SHORT_ID_BYTES):
        raise ValueError("the model's identity has the wrong length for a short head")
    keys = _parameters(head.codec, short.route)
    if set(head.parameters) != set(keys):
        raise ValueError(f"a short head needs the parameters {sorted(keys)}")
    if short.route != ROUTE_FALLBACK and info.mode not in _COLOUR:
        raise ValueError(f"no model codes mode {info.mode}")
    check_size(info)
    flags = _COLOUR.get(info.mode, MODE) | sum(flag for flag, data in optional.items() if data)
    out = bytearray([flags if progressive else flags | short.route << ROUTE_SHIFT])
    if flags & MODE:
        out.append(MODES[info.mode].number)
    out += head.model_id
    length = (short.body_bytes,) if progressive else ()
    for value in (*(int(head.parameters[key]) for key in keys), *info.size, *length):
        write_varint(out, value)
    for data in filter(None, optional.values()):
        write_varint(out, len(data))
        out += data
    return bytes(out)


def read_short_head(reader: Reader, codec: int, usual_name: str, max_pixels: int) -> ShortHead:
    """Read the output of :func:`write_short_head`; what follows is left to read.

    Args:
        reader: positioned at the head.
        codec: CODEC_PROGRESSIVE or CODEC_SINGLE.
        usual_name: name of a picture whose name is not stored.
        max_pixels: limit of the declared pixels.

    Raises:
        FormatError: the head is damaged, or declares more than ``max_pixels`` pixels.
    """
    flags = reader.take(1)[0]
    route = flags >> ROUTE_SHIFT
    if route not in SINGLE_PARAMETERS or (codec == CODEC_PROGRESSIVE and flags >= MODE):
        raise FormatError("its head has unknown fields: made by a newer version")
    route = ROUTE_MODEL if codec == CODEC_PROGRESSIVE else route
    mode = _mode(reader, flags)
    if flags & (MODEL_NAME | FINGERPRINT if route == ROUTE_FALLBACK else MODE):
        raise FormatError("its head is damaged")
    try:
        model_id = b"" if route == ROUTE_FALLBACK else reader.take(SHORT_ID_BYTES)
        parameters: Values = {key: reader.varint(_MAX_PARAMETER) for key in _parameters(codec, route)}
        size = reader.varint(MAX_SIDE), reader.varint(MAX_SIDE)
        body_bytes = reader.varint() if codec == CODEC_PROGRESSIVE else 0
        optional = {flag: reader.take(reader.varint(reader.left)) for flag in OPTIONAL if flags & flag}
        name = _name(optional[NAME]) if NAME in optional else usual_name
        model_name = optional.get(MODEL_NAME, b"").decode()
        fingerprint = _fingerprint(optional[FINGERPRINT]) if FINGERPRINT in optional else {}
        info = PictureInfo(name, mode, size)
        if METADATA in optional:
            info = picture_info(name, mode, size, _blobs(optional[METADATA]))
    except (ValueError, RecursionError):
        raise FormatError("its head is damaged") from None
    if 0 in size or len(optional.get(MODEL_NAME, b"")) > MAX_MODEL_NAME_BYTES:
        raise FormatError("its head is damaged")
    _check_pixels(info, max_pixels, stepwise=codec == CODEC_PROGRESSIVE or route == ROUTE_INDEXED)
    return ShortHead(Head(codec, model_name, model_id, fingerprint, parameters), info, body_bytes, route)


def usual_name(file_name: str) -> str:
    """Return the default name of the picture in a file of that name."""
    if not file_name:
        return _USUAL_NAME
    name = f"{PurePosixPath(file_name).stem}.png"
    try:
        check_name(name)
    except InputError:
        return _USUAL_NAME
    return name


def _parameters(codec: int, route: int) -> tuple[str, ...]:
    """Return the parameters of a codec, in order."""
    return PROGRESSIVE_PARAMETERS if codec == CODEC_PROGRESSIVE else SINGLE_PARAMETERS[route]


def _optional(short: ShortHead, usual_name: str) -> dict[int, bytes]:
    """Return the fields that may be missing; those that are empty will be."""
    head, info = short.head, short.info
    model_name = head.model_name.encode()
    if len(model_name) > MAX_MODEL_NAME_BYTES:
        raise ValueError("the name of the model is too long")
    blobs = bytearray()
    write_blobs(blobs, [info])
    if len(blobs) > MAX_TABLE_BYTES:
        raise InputError(f"{info.name}: the metadata takes more than {MAX_TABLE_BYTES} bytes; use --strip")
    return {
        NAME: b"" if info.name == usual_name else encode_checked(info.name),
        MODEL_NAME: model_name,
        FINGERPRINT: pack(_json(head.fingerprint)) if head.fingerprint else b"",
        METADATA: pack(bytes(blobs)) if len(blobs) > 1 else b"",
    }


def _mode(reader: Reader, flags: int) -> str:
    if not flags & MODE:
        return "RGBA" if flags & ALPHA else "RGB"
    found = MODES_BY_NUMBER.get(reader.take(1)[0])
    if found is None:
        raise FormatError("a pixel mode is unknown: made by a newer version")
    if flags & ALPHA or found.name in _COLOUR:
        raise FormatError("its head is damaged")
    return found.name


def _check_pixels(info: PictureInfo, max_pixels: int, *, stepwise: bool) -> None:
    check_pixels(info.pixel_count, max_pixels)
    if stepwise:
        if info.white is not None:
            raise FormatError("its head is damaged")
        # Sides are padded to multiples of 8, so one row is coded as eight.
        width, height = (side + -side % 8 for side in info.size)
        check_pixels(width * height, max(max_pixels, _SMALL_PIXELS))


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
        raise FormatError("its head has extra bytes")
    return row


def _json(values: Values) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
