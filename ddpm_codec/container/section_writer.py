"""Writes a progressive ``.ddpm`` file: one picture, a minimal head, and sections. Any prefix of the file is usable.

Signature, version and codec as in every file; then sections, each ``varint`` length, payload, checksum. The first holds the
head, including the number of bytes after it; the others belong to the codec. Every CRC continues the previous one, so a
section is valid only after all sections before it. The head is short because a small picture may take only a thousand bytes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    CRC_BYTES,
    PREAMBLE_BYTES,
    SHORT_SECTION,
    SIGNATURE,
    VERSION,
    Head,
)
from ddpm_codec.container.short_head import ShortHead, usual_name, write_short_head
from ddpm_codec.picture import PictureInfo
from ddpm_codec.varint import write_varint

_LARGEST_BODY = (1 << 28) - 1
"""Fits in four bytes of the head: enough for almost every file."""


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
