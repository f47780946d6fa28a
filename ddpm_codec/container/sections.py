"""The progressive ``.ddpm`` file: one picture, a head, and sections that are used as far as they are there.

Signature, version and codec as in every file; then sections, each ``varint`` length, payload, checksum. The first holds the
head, which also says how many bytes follow it; the others belong to the codec. Every CRC goes on from the one before, so that
a section counts only behind all those that precede it. Any prefix is a file.
"""

import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ddpm_codec.atomic import new_file, reason
from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    CRC_BYTES,
    DEFAULT_MAX_PIXELS,
    PREAMBLE_BYTES,
    SHORT_SECTION,
    SIGNATURE,
    VERSION,
    Head,
)
from ddpm_codec.container.short_head import ShortHead, read_short_head, write_short_head
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.picture import PictureInfo, check_name
from ddpm_codec.varint import Reader, write_varint

MAX_SECTIONS = 1 << 20
_LENGTH_BYTES = 9
_USUAL_NAME = "picture.png"

_LARGEST_BODY = (1 << 28) - 1
"""Four bytes in the head: enough for almost every file."""


@dataclass(frozen=True)
class SectionFile:
    """An opened progressive file, or what there is of one.

    Attributes:
        path: the file.
        file_bytes: its length.
        whole_bytes: the length that it was written with.
        head: model and parameters.
        info: the picture without its pixels.
        sections: payloads of the codec's sections that are whole.
        ends: where each of them ends, in bytes from the start of the file.
        start: where the first of them starts.
        damaged: what follows them is neither the end nor the start of a section.
    """

    path: Path
    file_bytes: int
    whole_bytes: int
    head: Head
    info: PictureInfo
    sections: tuple[bytes, ...]
    ends: tuple[int, ...]
    start: int
    damaged: bool

    @property
    def used_bytes(self) -> int:
        """Bytes up to the end of the last whole section."""
        return self.ends[-1] if self.ends else self.start

    @property
    def cut(self) -> bool:
        """Whether some of the file is missing."""
        return self.file_bytes < self.whole_bytes

    def require_whole(self) -> None:
        """Refuse a file with a damaged section; one that is cut short is none.

        Raises:
            FormatError: naming the place.
        """
        if self.damaged:
            raise FormatError(
                f"{self.path}: is damaged behind byte {self.used_bytes} (a checksum is wrong); --keep-going shows the "
                "picture up to there"
            )


def file_codec(path: Path) -> int | None:
    """Return the codec of a file, or None where it is foreign: the reader proper says what is wrong.

    Raises:
        FormatError: it ends within its first ten bytes.
        InputError: it cannot be read.
    """
    with reading(path), path.open("rb") as file:
        start = file.read(PREAMBLE_BYTES)
    if start and SIGNATURE.startswith(start):
        raise FormatError(f"{path}: is too short for a first picture")
    if not start.startswith(SIGNATURE):
        return None
    if len(start) < PREAMBLE_BYTES:
        raise FormatError(f"{path}: is too short for a first picture")
    return start[-1] if start[-2] == VERSION else None


def read_sections(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> SectionFile:
    """Read a progressive file as far as it goes.

    Raises:
        FormatError: foreign, or cut before the end of the head and the table, or damaged there.
        InputError: it is missing or cannot be read.
    """
    with reading(path):
        data = path.read_bytes()
    try:
        return _parse(path, data, max_pixels)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn failures to read ``path`` into one line.

    Raises:
        InputError: it is missing, or not a file.
    """
    try:
        regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
        folder = path.is_dir()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    if not regular:
        raise InputError(f"{path}: is a folder" if folder else f"{path}: is not a regular file")
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error


def _parse(path: Path, data: bytes, max_pixels: int) -> SectionFile:
    if not data.startswith(SIGNATURE[: len(data)]) or not data:
        raise FormatError("is not a .ddpm file")
    if len(data) < PREAMBLE_BYTES:
        raise FormatError("is too short for a first picture")
    if data[len(SIGNATURE)] != VERSION or data[PREAMBLE_BYTES - 1] != CODEC_PROGRESSIVE:
        raise FormatError("is not a progressive .ddpm file of this version")
    crc = zlib.crc32(data[:PREAMBLE_BYTES])
    first = _section(data, PREAMBLE_BYTES, crc)
    if first is None:
        raise FormatError("is too short for a first picture")
    if not first.sound:
        raise FormatError("its head is damaged")
    short = read_short_head(first.payload, usual_name(path), max_pixels)
    whole_bytes = first.end + short.body_bytes
    found = list(_sections(data[:whole_bytes], first))
    damaged = len(data) > whole_bytes
    if found and not found[-1].sound:
        damaged = True
        del found[-1]
    end = found[-1].end if found else first.end
    # Of a file of its full length nothing is missing: what looks like the start of a section is none.
    damaged = damaged or end < whole_bytes <= len(data)
    return SectionFile(
        path=path,
        file_bytes=len(data),
        whole_bytes=whole_bytes,
        head=short.head,
        info=short.info,
        sections=tuple(section.payload for section in found),
        ends=tuple(section.end for section in found),
        start=first.end,
        damaged=damaged,
    )


def usual_name(path: Path) -> str:
    """Return what the picture of a progressive file is called where its head does not say."""
    name = f"{path.stem}.png"
    try:
        check_name(name)
    except InputError:
        return _USUAL_NAME
    return name


@dataclass(frozen=True)
class _Section:
    """A section: its payload, where it ends, the CRC up to there, and whether its checksum is right."""

    payload: bytes
    end: int
    crc: int
    sound: bool


def _sections(data: bytes, before: _Section) -> Iterator[_Section]:
    """Yield the sections behind ``before`` as far as they are whole; the last may be unsound."""
    for _ in range(MAX_SECTIONS):
        section = _section(data, before.end, before.crc)
        if section is None:
            return
        yield section
        if not section.sound:
            return
        before = section


def _section(data: bytes, at: int, crc: int) -> _Section | None:
    """Return the section at ``at``, or None where it is not whole."""
    try:
        framed = _frame(data, at)
    except FormatError:
        return _Section(b"", at, crc, sound=False)
    if framed is None:
        return None
    start, length = framed
    crc = zlib.crc32(data[at : start + length], crc)
    end = start + length + crc_bytes(length)
    return _Section(data[start : start + length], end, crc, stored_crc(crc, length) == data[start + length : end])


def _frame(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the payload of the section at ``at`` starts and its length, or None where it is not whole.

    Raises:
        FormatError: what stands there is no length.
    """
    head = Reader(data[at : at + _LENGTH_BYTES])
    available = head.left
    ended = next((i for i, byte in enumerate(data[at : at + _LENGTH_BYTES]) if byte < 0x80), None)
    if ended is None and available < _LENGTH_BYTES:
        return None
    length = head.varint()
    start = at + available - head.left
    return (start, length) if length <= len(data) - start - crc_bytes(length) else None


def write_sections(
    path: Path, head: Head, info: PictureInfo, payloads: Sequence[bytes], *, named_after: Path, overwrite: bool = False
) -> list[int]:
    """Write a progressive file, or nothing.

    Args:
        path: the file to write.
        head: model and parameters.
        info: the picture.
        payloads: of the codec's sections.
        named_after: the file that ``path`` will become: where the picture has its usual name, that is not stored.
        overwrite: replace a file that is there.

    Returns:
        Where the head ends and where each section ends, in bytes.

    Raises:
        InputError: the picture's name, size or metadata cannot be stored.
        OutputExistsError: ``path`` is there.
        OutputError: it cannot be written.
    """
    short = ShortHead(head, info, sum(map(section_bytes, payloads)))
    sections = [write_short_head(short, usual_name(named_after)), *payloads]
    preamble = SIGNATURE + bytes([VERSION, CODEC_PROGRESSIVE])
    with new_file(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        file.write(preamble)
        crc = zlib.crc32(preamble)
        for payload in sections:
            framed = framed_section(payload)
            crc = zlib.crc32(framed, crc)
            file.write(framed + stored_crc(crc, len(payload)))
    return list(accumulate(map(section_bytes, sections), initial=PREAMBLE_BYTES))[1:]


def crc_bytes(length: int) -> int:
    """Return the bytes of the checksum of a payload of so many bytes."""
    return 2 if length < SHORT_SECTION else CRC_BYTES


def stored_crc(crc: int, length: int) -> bytes:
    """Return a CRC-32 as it stands behind a payload of so many bytes: its low half behind a short one."""
    count = crc_bytes(length)
    return (crc & ((1 << 8 * count) - 1)).to_bytes(count, "little")


def framed_section(payload: bytes) -> bytes:
    """Return a section without its checksum."""
    out = bytearray()
    write_varint(out, len(payload))
    return bytes(out) + payload


def section_bytes(payload: bytes) -> int:
    """Return what a section takes in the file."""
    return len(framed_section(payload)) + crc_bytes(len(payload))


def preamble_bytes(head: Head, info: PictureInfo, named_after: Path) -> int:
    """Return the most that comes before the codec's sections can take in the file."""
    short = ShortHead(head, info, _LARGEST_BODY)
    return PREAMBLE_BYTES + section_bytes(write_short_head(short, usual_name(named_after)))
