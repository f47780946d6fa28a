"""The progressive ``.ddpm`` file: one picture, a head, and sections that are used as far as they are there.

Signature, version and codec as in every file; then sections, each ``varint`` length, payload, checksum. The first holds the
head, the second the picture's row of the image table, the others belong to the codec. Every CRC goes on from the one before,
so that a section counts only behind all those that precede it. There is no end mark: any prefix is a file.
"""

import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ddpm_codec.atomic import new_file, reason
from ddpm_codec.container.layout import (
    CODEC_PROGRESSIVE,
    CRC_BYTES,
    DEFAULT_MAX_PIXELS,
    MAX_HEAD_BYTES,
    MAX_TABLE_BYTES,
    PREAMBLE_BYTES,
    SHORT_SECTION,
    SIGNATURE,
    VERSION,
    Head,
    ImageEntry,
)
from ddpm_codec.container.table import read_short_head, read_table, write_short_head, write_table
from ddpm_codec.errors import FormatError, InputError, OutputError
from ddpm_codec.varint import Reader, write_varint

MAX_SECTIONS = 1 << 20
_LENGTH_BYTES = 9


@dataclass(frozen=True)
class SectionFile:
    """An opened progressive file, or what there is of one.

    Attributes:
        path: the file.
        file_bytes: its length.
        head: model and parameters.
        image: the picture without its pixels.
        sections: payloads of the codec's sections that are whole.
        ends: where each of them ends, in bytes from the start of the file.
        start: where the first of them starts.
        damaged: the checksum of the section behind them is wrong.
    """

    path: Path
    file_bytes: int
    head: Head
    image: ImageEntry
    sections: tuple[bytes, ...]
    ends: tuple[int, ...]
    start: int
    damaged: bool

    @property
    def used_bytes(self) -> int:
        """Bytes up to the end of the last whole section."""
        return self.ends[-1] if self.ends else self.start

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
    at = PREAMBLE_BYTES
    payloads: list[bytes] = []
    ends: list[int] = []
    damaged = False
    while len(payloads) < MAX_SECTIONS + 2:
        try:
            framed = _frame(data, at)
        except FormatError:
            damaged = True
            break
        if framed is None:
            break
        start, length = framed
        crc = zlib.crc32(data[at : start + length], crc)
        end = start + length + crc_bytes(length)
        if stored_crc(crc, length) != data[start + length : end]:
            damaged = True
            break
        payloads.append(data[start : start + length])
        at = end
        ends.append(at)
    if len(payloads) < 2:
        raise FormatError("its head is damaged" if damaged else "is too short for a first picture")
    if len(payloads[0]) > MAX_HEAD_BYTES or len(payloads[1]) > MAX_TABLE_BYTES:
        raise FormatError("its head is larger than the format allows")
    head = read_short_head(payloads[0])
    images, count = read_table(payloads[1], max_pixels)
    if len(images) != 1 or count:
        raise FormatError("a progressive file holds one picture")
    return SectionFile(path, len(data), head, images[0], tuple(payloads[2:]), tuple(ends[2:]), ends[1], damaged)


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


class SectionWriter:
    """Writes a progressive file, section by section; used in a ``with`` block, which leaves nothing behind on failure.

    Args:
        path: the file to write.
        head: model and parameters.
        image: the picture.
        overwrite: replace a file that is there.

    Raises:
        OutputExistsError: ``path`` is there.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, head: Head, image: ImageEntry, *, overwrite: bool = False) -> None:
        self._path, self._head, self._image = path, head, image
        self._new = new_file(path, overwrite=overwrite)
        self._file: IO[bytes] | None = None
        self._crc = 0
        self.bytes = 0

    def __enter__(self) -> Self:
        temporary = self._new.__enter__()
        # Closed in __exit__, before the file appears.
        self._file = temporary.open("wb")
        preamble = SIGNATURE + bytes([VERSION, CODEC_PROGRESSIVE])
        self._crc = zlib.crc32(preamble)
        self._write(preamble)
        self.add(write_short_head(self._head))
        self.add(write_table([self._image], 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as failure:
            if kind is None:
                failed = OutputError(f"{self._path}: cannot be written ({reason(failure)})")
                self._new.__exit__(type(failed), failed, None)
                raise failed from failure
        self._new.__exit__(kind, error, traceback)

    def add(self, payload: bytes) -> int:
        """Put a section behind the others and return the bytes of the file so far.

        Raises:
            OutputError: it cannot be written.
        """
        framed = framed_section(payload)
        self._crc = zlib.crc32(framed, self._crc)
        self._write(framed + stored_crc(self._crc, len(payload)))
        return self.bytes

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise ValueError("the writer is used outside its with block")
        try:
            self._file.write(data)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({reason(error)})") from error
        self.bytes += len(data)


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


def preamble_bytes(head: Head, image: ImageEntry) -> int:
    """Return what comes before the codec's sections takes in the file."""
    return PREAMBLE_BYTES + section_bytes(write_short_head(head)) + section_bytes(write_table([image], 0))
