"""The bytes of a ``.ddpm`` file, in memory or in a seekable binary stream."""

import io
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from ddpm_codec.errors import InputError


class Buffer(Protocol):
    """Buffer that a file is parsed from: ``bytes`` or a memory map."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: slice) -> bytes: ...

    def find(self, wanted: bytes, start: int) -> int:
        """Return the first position of ``wanted`` at or after ``start``, or -1."""
        ...


class ByteSource:
    """The bytes of one file.

    Args:
        data: the bytes, or a stream; a stream that is not a regular file, or is not at its start, is read to its end at
            once.
        label: name of the file in messages.
        file_name: its name without folders, from which the picture of a progressive file is named; empty if it has none.

    Attributes:
        size: size in bytes.

    Raises:
        InputError: the stream cannot be read.
    """

    def __init__(self, data: bytes | BinaryIO, label: str = "<bytes>", file_name: str = "") -> None:
        self.label, self.file_name = label, file_name
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None
        self._data = b""
        if isinstance(data, bytes):
            self._data = data
        else:
            with self._reading():
                if _can_be_mapped(data):
                    self._stream = data
                else:
                    self._data = _content(data)
        with self._reading():
            self.size = len(self._data) if self._stream is None else _length(self._stream)

    def read(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``; fewer at the end of the file.

        Raises:
            InputError: the stream can no longer be read.
        """
        if self._stream is None:
            return self._data[start : start + length]
        with self._reading(), self._lock:
            self._stream.seek(start)
            return self._stream.read(length)

    def read_all(self) -> bytes:
        """Return all bytes; see :meth:`read`."""
        return self.read(0, self.size)

    @contextmanager
    def view(self) -> Iterator[Buffer]:
        """Provide all bytes, without copying if possible.

        Raises:
            InputError: the stream can no longer be read.
        """
        if self._stream is None or not self.size:
            yield self._data
            return
        with self._reading():
            mapped = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ)
        with mapped:
            yield mapped

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(f"{self.label}: cannot be read ({cause or error})") from error


def _can_be_mapped(stream: BinaryIO) -> bool:
    """Return whether a stream is an ordinary file at its start, and not, say, a decompressing one that has a file."""
    raw = getattr(stream, "raw", stream)
    try:
        return isinstance(raw, io.FileIO) and stream.seekable() and stream.tell() == 0
    except OSError:
        return False


def _content(stream: BinaryIO) -> bytes:
    found = stream.read()
    if not isinstance(found, bytes | bytearray | memoryview):
        raise TypeError(f"a source is a binary stream; this one gives {type(found).__name__}")
    return bytes(found)


def _length(stream: BinaryIO) -> int:
    end = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return end
