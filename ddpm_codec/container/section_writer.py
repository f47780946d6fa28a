"""Writes a progressive ``.ddpm`` file: one picture, a minimal head, and sections. Any prefix of the file is usable.

Signature, version and codec as in every file; then sections, each ``varint`` length, payload, checksum. The first holds the
head, including the number of bytes after it; the others belong to the codec. Every CRC continues the previous one, so a
section is valid only after all sections before it. The head is short because a small picture may take only a thousand bytes.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Final

from ddpm_codec.container.columns import check_size, write_blobs
from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    CRC_BYTES,
    MAX_MODEL_NAME_BYTES,
    MAX_TABLE_BYTES,
    PREAMBLE_BYTES,
    PROGRESSIVE_PARAMETERS,
    SHORT_ID_BYTES,
    SHORT_SECTION,
    SIGNATURE,
    VERSION,
    Head,
    Values,
)
from ddpm_codec.container.names import encode_checked
from ddpm_codec.container.packing import pack
from ddpm_codec.errors import InputError
from ddpm_codec.picture import PictureInfo, check_name
from ddpm_codec.varint import write_varint

ALPHA: Final = 1
NAME: Final = 2
MODEL_NAME: Final = 4
FINGERPRINT: Final = 8
METADATA: Final = 16
OPTIONAL: Final = (NAME, MODEL_NAME, FINGERPRINT, METADATA)
KNOWN: Final = ALPHA | sum(OPTIONAL)

MODES: Final = {"RGB": 0, "RGBA": ALPHA}
"""Pixel modes of a progressive file, and their flags."""

_USUAL_NAME = "picture.png"

_LARGEST_BODY = (1 << 28) - 1
"""Fits in four bytes of the head: enough for almost every file."""


@dataclass(frozen=True)
class ShortHead:
    """Contents of the head of a progressive file.

    Attributes:
        head: model and parameters; the name of the model may be empty.
        info: the picture without pixels.
        body_bytes: total size of the sections after the head.
    """

    head: Head
    info: PictureInfo
    body_bytes: int


@dataclass(frozen=True)
class ProgressiveFile:
    """A progressive file in memory.

    Attributes:
        data: its bytes.
        start: offset of the end of the head.
        ends: offset at which each section ends.
    """

    data: bytes
    start: int
    ends: tuple[int, ...]


def write_sections(head: Head, info: PictureInfo, payloads: Sequence[bytes], *, file_name: str = "") -> ProgressiveFile:
    """Assemble a progressive file.

    Args:
        head: model and parameters.
        info: the picture.
        payloads: payloads of the sections of the codec.
        file_name: name of the output file; the name derived from it is not stored.

    Raises:
        InputError: the picture's name, size or metadata cannot be stored.
    """
    short = ShortHead(head, info, sum(map(section_bytes, payloads)))
    sections = [write_short_head(short, usual_name(file_name)), *payloads]
    out = bytearray(SIGNATURE + bytes([VERSION, CODEC_PROGRESSIVE]))
    crc = zlib.crc32(out)
    for payload in sections:
        framed = framed_section(payload)
        crc = zlib.crc32(framed, crc)
        out += framed + stored_crc(crc, len(payload))
    start, *ends = list(accumulate(map(section_bytes, sections), initial=PREAMBLE_BYTES))[1:]
    return ProgressiveFile(bytes(out), start, tuple(ends))


def write_short_head(short: ShortHead, usual_name: str) -> bytes:
    """Return the payload of the head.

    Args:
        short: contents of the head.
        usual_name: the name a reader gives the picture by default; any other is stored.

    Raises:
        InputError: the picture's name, size or metadata cannot be stored.
        ValueError: the mode is not RGB or RGBA, a parameter is missing, or the model's name or identity is too long.
    """
    head, info = short.head, short.info
    model_name = head.model_name.encode()
    if len(head.model_id) != SHORT_ID_BYTES or len(model_name) > MAX_MODEL_NAME_BYTES:
        raise ValueError("the model's identity or name has the wrong length for a progressive file")
    if set(head.parameters) != set(PROGRESSIVE_PARAMETERS):
        raise ValueError(f"a progressive file needs the parameters {sorted(PROGRESSIVE_PARAMETERS)}")
    check_size(info)
    name = b"" if info.name == usual_name else encode_checked(info.name)
    fingerprint = pack(_json(head.fingerprint)) if head.fingerprint else b""
    blobs = bytearray()
    write_blobs(blobs, [info])
    if len(blobs) > MAX_TABLE_BYTES:
        raise InputError(f"{info.name}: the metadata takes more than {MAX_TABLE_BYTES} bytes; use --strip")
    metadata = pack(bytes(blobs)) if len(blobs) > 1 else b""
    optional = {NAME: name, MODEL_NAME: model_name, FINGERPRINT: fingerprint, METADATA: metadata}
    out = bytearray([MODES[info.mode] | sum(flag for flag, data in optional.items() if data)])
    out += head.model_id
    for value in (*(int(head.parameters[key]) for key in PROGRESSIVE_PARAMETERS), *info.size, short.body_bytes):
        write_varint(out, value)
    for data in filter(None, optional.values()):
        write_varint(out, len(data))
        out += data
    return bytes(out)


def usual_name(file_name: str) -> str:
    """Return the default name of the picture in a progressive file of that name."""
    if not file_name:
        return _USUAL_NAME
    name = f"{PurePosixPath(file_name).stem}.png"
    try:
        check_name(name)
    except InputError:
        return _USUAL_NAME
    return name


def preamble_bytes(head: Head, info: PictureInfo, file_name: str) -> int:
    """Return the maximum number of bytes before the sections of the codec."""
    short = ShortHead(head, info, _LARGEST_BODY)
    return PREAMBLE_BYTES + section_bytes(write_short_head(short, usual_name(file_name)))


def section_bytes(payload: bytes) -> int:
    """Return the size of a section in the file."""
    return len(framed_section(payload)) + crc_bytes(len(payload))


def framed_section(payload: bytes) -> bytes:
    """Return a section without its checksum."""
    out = bytearray()
    write_varint(out, len(payload))
    return bytes(out) + payload


def crc_bytes(length: int) -> int:
    """Return the size in bytes of the checksum of a payload of the given length."""
    return 2 if length < SHORT_SECTION else CRC_BYTES


def stored_crc(crc: int, length: int) -> bytes:
    """Return a CRC-32 as stored after a payload of the given length: only its low half if that is short."""
    count = crc_bytes(length)
    return (crc & ((1 << 8 * count) - 1)).to_bytes(count, "little")


def _json(values: Values) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
