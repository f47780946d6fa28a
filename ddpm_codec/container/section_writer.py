"""Writing a progressive ``.ddpm`` file: one picture, a head as short as it can be, and sections; any prefix is a file.

Signature, version and codec as in every file; then sections, each ``varint`` length, payload, checksum. The first holds the
head, which also says how many bytes follow it; the others belong to the codec. Every CRC goes on from the one before, so that
a section counts only behind all those that precede it. A small picture may have no more than a thousand bytes in all.
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
    TAIL_PARAMETERS,
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
"""Modes of pixels that a progressive file can have, and their flags."""

_USUAL_NAME = "picture.png"

_LARGEST_BODY = (1 << 28) - 1
"""Four bytes in the head: enough for almost every file."""


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


@dataclass(frozen=True)
class ProgressiveFile:
    """A progressive file in memory.

    Attributes:
        data: its bytes.
        start: where the head ends.
        ends: where each section ends.
    """

    data: bytes
    start: int
    ends: tuple[int, ...]


def write_sections(head: Head, info: PictureInfo, payloads: Sequence[bytes], *, file_name: str = "") -> ProgressiveFile:
    """Return a progressive file.

    Args:
        head: model and parameters.
        info: the picture.
        payloads: of the codec's sections.
        file_name: that the file will have: where the picture has its usual name, that is not stored.

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


def usual_name(file_name: str) -> str:
    """Return what the picture of a progressive file of that name is called where its head does not say."""
    if not file_name:
        return _USUAL_NAME
    name = f"{PurePosixPath(file_name).stem}.png"
    try:
        check_name(name)
    except InputError:
        return _USUAL_NAME
    return name


def preamble_bytes(head: Head, info: PictureInfo, file_name: str) -> int:
    """Return the most that comes before the codec's sections can take in the file."""
    short = ShortHead(head, info, _LARGEST_BODY)
    return PREAMBLE_BYTES + section_bytes(write_short_head(short, usual_name(file_name)))


def section_bytes(payload: bytes) -> int:
    """Return what a section takes in the file."""
    return len(framed_section(payload)) + crc_bytes(len(payload))


def framed_section(payload: bytes) -> bytes:
    """Return a section without its checksum."""
    out = bytearray()
    write_varint(out, len(payload))
    return bytes(out) + payload


def crc_bytes(length: int) -> int:
    """Return the bytes of the checksum of a payload of so many bytes."""
    return 2 if length < SHORT_SECTION else CRC_BYTES


def stored_crc(crc: int, length: int) -> bytes:
    """Return a CRC-32 as it stands behind a payload of so many bytes: its low half behind a short one."""
    count = crc_bytes(length)
    return (crc & ((1 << 8 * count) - 1)).to_bytes(count, "little")


def _json(values: Values) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
