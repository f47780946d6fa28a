"""Reads a progressive ``.ddpm`` file, possibly incomplete; see :mod:`ddpm_codec.container.section_writer`."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    CRC_BYTES,
    DEFAULT_MAX_PIXELS,
    PREAMBLE_BYTES,
    SIGNATURE,
    VERSION,
    Head,
    check_version,
)
from ddpm_codec.container.section_writer import crc_bytes, stored_crc
from ddpm_codec.container.short_head import ShortHead, read_short_head, usual_name
from ddpm_codec.container.source import ByteSource
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import PictureInfo
from ddpm_codec.varint import Reader

MAX_SECTIONS = 1 << 20
_LENGTH_BYTES = 9

TOO_SHORT = "is too short for a first picture"


@dataclass(frozen=True)
class SectionFile:
    """An open progressive file, possibly incomplete.

    Attributes:
        label: name of the file in messages.
        file_bytes: size of the file.
        whole_bytes: size of the complete file.
        head: model and parameters.
        info: the picture without pixels.
        sections: payloads of the complete sections.
        ends: offset at which each of them ends, in bytes.
        start: offset of the first of them.
        damaged: whether they are followed by something other than the end or the start of a section.
        rescued: what follows them in a damaged file: payloads of sections that are whole, and None for each that is not.
    """

    label: str
    file_bytes: int
    whole_bytes: int
    head: Head
    info: PictureInfo
    sections: tuple[bytes, ...]
    ends: tuple[int, ...]
    start: int
    damaged: bool
    rescued: tuple[bytes | None, ...] = ()

    @property
    def used_bytes(self) -> int:
        """Bytes up to the end of the last complete section."""
        return self.ends[-1] if self.ends else self.start

    @property
    def cut(self) -> bool:
        """Whether the end of the file is missing."""
        return self.file_bytes < self.whole_bytes

    def require_whole(self) -> None:
        """Refuse a file with a damaged section; a truncated file is accepted.

        Raises:
            FormatError: a section is damaged; the message says where.
        """
        if self.damaged:
            raise FormatError(
                f"{self.label}: is damaged after byte {self.used_bytes} (a checksum is wrong); --keep-going decodes the "
                "picture up to there"
            )


class SectionReader:
    """Parses the sections of a progressive file as its bytes arrive.

    Args:
        file_name: name of the file, from which the picture is named if the head does not name it.
        max_pixels: refuse files that declare more pixels.

    Attributes:
        file_bytes: bytes received so far.
        short: the head; None until it has arrived.
        start: offset of the first section after the head.
        ends: offset at which each complete section ends.
        damaged: whether they are followed by something other than the end or the start of a section.
    """

    def __init__(self, *, file_name: str = "", max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self._file_name, self._max_pixels = file_name, max_pixels
        # The next section starts at byte `_at` of the file, byte `_cursor` of the buffer; the CRC covers all before it.
        self._buffer, self._cursor, self._at, self._crc = bytearray(), 0, 0, 0
        self.file_bytes = 0
        self._refused: str | None = None
        self.short: ShortHead | None = None
        self.start = 0
        self.ends: list[int] = []
        self.damaged = False

    def feed(self, data: bytes) -> list[bytes]:
        """Add the next bytes and return the payloads of the sections they complete.

        Raises:
            FormatError: they are not from a progressive file, or its head is damaged.
        """
        if self._refused is not None:
            raise FormatError(self._refused)
        try:
            return self._feed(data)
        except FormatError as error:
            # What was taken of the head is gone: there is no going on.
            self._refused = str(error)
            raise

    def _feed(self, data: bytes) -> list[bytes]:
        del self._buffer[: self._cursor]
        self._cursor = 0
        self._buffer += data
        self.file_bytes += len(data)
        if not self._at and not self._preamble():
            return []
        found: list[bytes] = []
        if self.short is None:
            payload = self._next()
            if payload is None:
                if self.damaged:
                    raise FormatError("its head is damaged")
                return []
            head = Reader(payload)
            short = read_short_head(head, CODEC_PROGRESSIVE, usual_name(self._file_name), self._max_pixels)
            if head.left:
                raise FormatError("its head is damaged")
            self.short = short
            self.start = self._at
        whole_bytes = self.start + self.short.body_bytes
        if self.file_bytes > whole_bytes:
            self.damaged = True
            del self._buffer[self._cursor + max(0, whole_bytes - self._at) :]
        while len(self.ends) < MAX_SECTIONS and (payload := self._next()) is not None:
            found.append(payload)
            self.ends.append(self._at)
        # A file of full length is not missing anything, so an apparent start of a section is damage.
        self.damaged = self.damaged or self._at < whole_bytes <= self.file_bytes
        return found

    def _preamble(self) -> bool:
        """Return whether signature, version and codec have arrived."""
        start = bytes(self._buffer[:PREAMBLE_BYTES])
        if not SIGNATURE.startswith(start[: len(SIGNATURE)]):
            raise FormatError("is not a .ddpm file")
        if len(start) < PREAMBLE_BYTES:
            return False
        check_version(start[-2])
        if start[-1] != CODEC_PROGRESSIVE:
            raise FormatError("is not a progressive .ddpm file")
        self._advance(PREAMBLE_BYTES, zlib.crc32(start))
        return True

    def _next(self) -> bytes | None:
        """Return the payload of the next section, or None if it is incomplete or damaged (then ``damaged`` is set)."""
        try:
            framed = self._frame()
        except FormatError:
            self.damaged = True
            return None
        if framed is None:
            return None
        start, length = framed
        end = start + length
        crc = zlib.crc32(self._arrived(0, end), self._crc)
        whole_end = end + crc_bytes(length)
        if stored_crc(crc, length) != self._arrived(end, whole_end):
            self.damaged = True
            return None
        payload = self._arrived(start, end)
        self._advance(whole_end, crc)
        return payload

    def _arrived(self, first: int, end: int) -> bytes:
        """Return bytes by offset from the start of the next section."""
        return bytes(self._buffer[self._cursor + first : self._cursor + end])

    def _advance(self, length: int, crc: int) -> None:
        self._cursor, self._at, self._crc = self._cursor + length, self._at + length, crc

    def _frame(self) -> tuple[int, int] | None:
        """Return start and length of the payload of the next section, or None if it is incomplete.

        Raises:
            FormatError: its length is invalid.
        """
        bytes_of_length = self._arrived(0, _LENGTH_BYTES)
        if len(bytes_of_length) < _LENGTH_BYTES and all(byte >= 0x80 for byte in bytes_of_length):
            return None
        head = Reader(bytes_of_length)
        length = head.varint()
        start = len(bytes_of_length) - head.left
        left = len(self._buffer) - self._cursor
        return (start, length) if length <= left - start - crc_bytes(length) else None


def file_codec(source: ByteSource) -> int | None:
    """Return the codec of a file, or None if it is not a .ddpm file, which the readers then report.

    Raises:
        FormatError: the file ends within its first ten bytes.
        InputError: the file cannot be read.
    """
    start = source.read(0, PREAMBLE_BYTES)
    if start and SIGNATURE.startswith(start):
        raise FormatError(f"{source.label}: {TOO_SHORT}")
    if not start.startswith(SIGNATURE):
        return None
    if len(start) < PREAMBLE_BYTES:
        raise FormatError(f"{source.label}: {TOO_SHORT}")
    return start[-1] if start[-2] == VERSION else None


def read_sections(source: ByteSource, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> SectionFile:
    """Read a progressive file, possibly incomplete.

    Raises:
        FormatError: not a progressive .ddpm file, or its head is damaged or incomplete.
        InputError: the file cannot be read.
    """
    reader = SectionReader(file_name=source.file_name, max_pixels=max_pixels)
    data = source.read_all()
    if not data:
        raise FormatError(f"{source.label}: is not a .ddpm file")
    try:
        sections = reader.feed(data)
    except FormatError as error:
        raise FormatError(f"{source.label}: {error}") from None
    if reader.short is None:
        raise FormatError(f"{source.label}: {TOO_SHORT}")
    return SectionFile(
        label=source.label,
        file_bytes=len(data),
        whole_bytes=reader.start + reader.short.body_bytes,
        head=reader.short.head,
        info=reader.short.info,
        sections=tuple(sections),
        ends=tuple(reader.ends),
        start=reader.start,
        damaged=reader.damaged,
        rescued=tuple(_rescued(data, reader.ends[-1])) if reader.damaged and reader.ends else (),
    )


def _rescued(data: bytes, start: int) -> Iterator[bytes | None]:
    """Yield the payloads of the sections from a damaged one on, None for each that is not whole.

    The chain of checksums goes on from a stored one of four bytes, which is right if that of the next section is.
    """
    chain: int | None = None
    reader = Reader(data[start:])
    while reader.left:
        at = len(data) - reader.left
        try:
            payload = reader.take(reader.varint())
            end = len(data) - reader.left
            stored = reader.take(crc_bytes(len(payload)))
        except FormatError:
            return
        crc = None if chain is None else zlib.crc32(data[at:end], chain)
        whole = crc is not None and stored_crc(crc, len(payload)) == stored
        yield payload if whole else None
        chain = crc if whole else None
        if len(stored) == CRC_BYTES:
            chain = int.from_bytes(stored, "little")
