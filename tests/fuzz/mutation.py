"""Random damage to bytes, and `.ddpm` files whose contents are damaged while all checksums are right."""

import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    CODEC_SINGLE,
    CRC_BYTES,
    MAX_TABLE_BYTES,
    PREAMBLE_BYTES,
    TAG_BLOCK,
    TAG_BYTES,
    TAG_END,
    TAG_HEAD,
    TAG_TABLE,
)
from ddpm_codec.container.packing import unpack
from ddpm_codec.container.section_writer import crc_bytes, framed_section, stored_crc
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader, write_varint

_EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 254, 255)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to three random changes: bits, values, runs cut out, put in, doubled, or moved."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(_EDGES)


def _cut(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + 1 + rng.randrange(min(64, len(data) + 1))]


def _end(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.randbytes(1 + rng.randrange(16)), bytes(1 + rng.randrange(9)), b"\xff" * 9))


def _double(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    run = data[start : start + 1 + rng.randrange(64)]
    data[start:start] = run


def _varint(data: bytearray, rng: random.Random) -> None:
    """Put a number where one may stand: a large one, or one near a limit."""
    out = bytearray()
    write_varint(out, rng.choice((1 << rng.randrange(63), (1 << rng.randrange(1, 63)) - 1, rng.randrange(300))))
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((1, len(out)))] = out


def _number(data: bytearray, rng: random.Random) -> None:
    """Put a 32-bit number where one may stand."""
    at = rng.randrange(len(data) + 1)
    data[at : at + 4] = struct.pack(
        rng.choice("<>") + "I", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
    )


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _set,
    _cut,
    _end,
    _insert,
    _double,
    _varint,
    _number,
)


@dataclass(frozen=True)
class Section:
    """A section of a file: its tag (empty but in archives) and its payload."""

    tag: bytes
    payload: bytes


def sections_of(data: bytes) -> list[Section]:
    """Return the sections of a whole, undamaged file; all of a single picture is one."""
    if data[PREAMBLE_BYTES - 1] == CODEC_SINGLE:
        return [Section(b"", data[PREAMBLE_BYTES:-CRC_BYTES])]
    found, at = [], PREAMBLE_BYTES
    progressive = data[PREAMBLE_BYTES - 1] == CODEC_PROGRESSIVE
    while at < len(data):
        tag = b"" if progressive else data[at : at + TAG_BYTES]
        if tag == TAG_END:
            break
        reader = Reader(data[at + len(tag) :])
        length = reader.varint()
        found.append(Section(tag, reader.take(length)))
        at = len(data) - reader.left + (crc_bytes(length) if progressive else CRC_BYTES)
    return found


def joined(preamble: bytes, sections: list[Section]) -> bytes:
    """Return a file of these sections with right checksums (FORMAT, sections 2, 4 and 11)."""
    if preamble[-1] == CODEC_SINGLE:
        data = preamble + b"".join(section.payload for section in sections)
        return data + struct.pack("<I", zlib.crc32(data))
    if preamble[-1] == CODEC_PROGRESSIVE:
        data, crc = preamble, zlib.crc32(preamble)
        for section in sections:
            framed = framed_section(section.payload)
            crc = zlib.crc32(framed, crc)
            data += framed + stored_crc(crc, len(section.payload))
        return data
    out = bytearray(preamble)
    start = zlib.crc32(preamble)
    for section in sections:
        tagged = bytearray(section.tag)
        write_varint(tagged, len(section.payload))
        tagged += section.payload
        crc = zlib.crc32(tagged, start)
        out += tagged + struct.pack("<I", crc)
        if section.tag in (TAG_HEAD, TAG_TABLE):
            start = crc
    return bytes(out) + TAG_END


def damaged_inside(data: bytes, rng: random.Random) -> bytes:
    """Return a file with changed contents, of which every checksum is right.

    Packed sections are unpacked before they are changed, so that what reads their contents is reached.
    """
    preamble, sections = data[:PREAMBLE_BYTES], sections_of(data)
    for _ in range(rng.choice((1, 1, 2))):
        index = rng.randrange(len(sections))
        chance = rng.random()
        if chance < 0.04 and len(sections) > 1:
            del sections[index]
        elif chance < 0.08:
            sections.insert(rng.randrange(len(sections) + 1), sections[index])
        else:
            sections[index] = _changed(sections[index], rng)
    return joined(preamble, sections)


def _changed(section: Section, rng: random.Random) -> Section:
    payload = section.payload
    if section.tag == TAG_TABLE and rng.random() < 0.9:
        with suppress(FormatError):  # a second change of the same section
            return Section(section.tag, b"\0" + damaged(unpack(payload, MAX_TABLE_BYTES), rng))
    if section.tag == TAG_BLOCK and rng.random() < 0.5:
        # Headers of blocks, of pictures and of coders stand at the start.
        return Section(section.tag, damaged(payload[:40], rng) + payload[40:])
    return Section(section.tag, damaged(payload, rng))
