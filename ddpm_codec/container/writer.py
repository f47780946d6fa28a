"""Writing a ``.ddpm`` file: blocks first, into an unnamed file; head and table last, when they are known."""

import tempfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ddpm_codec.atomic import check_target, new_file, reason
from ddpm_codec.container.layout import (
    CODEC_FALLBACK,
    CRC_BYTES,
    SIGNATURE,
    TAG_BLOCK,
    TAG_END,
    TAG_HEAD,
    TAG_TABLE,
    VERSION,
    Head,
    ImageEntry,
)
from ddpm_codec.container.table import write_head, write_table
from ddpm_codec.errors import OutputError
from ddpm_codec.varint import write_varint


@dataclass(frozen=True)
class Block:
    """What is coded together; the payload is the codec's affair.

    Attributes:
        index: place among the blocks, from 0.
        payload: opaque bytes.
    """

    index: int
    payload: bytes


class ContainerWriter:
    """Writes one file; used in a ``with`` block, which leaves nothing behind unless :meth:`finish` was called.

    Args:
        path: the file to write.
        overwrite: replace a file that is there.

    Raises:
        OutputExistsError: ``path`` is there (when the ``with`` block is entered, and again at the end).
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self._path = path
        self._overwrite = overwrite
        self._resources = ExitStack()
        self._spool: IO[bytes] | None = None
        self._lengths: list[int] = []

    def __enter__(self) -> Self:
        check_target(self._path, overwrite=self._overwrite)
        try:
            # Beside the output, because a temporary folder may be small, or memory.
            self._spool = self._resources.enter_context(tempfile.TemporaryFile(dir=self._path.parent))
        except OSError as error:
            raise self._failure(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._spool = None
        try:
            self._resources.close()
        except OSError as failure:
            # Closing flushes; on a full disk it fails once more, and what counts is the first error.
            if kind is None:
                raise self._failure(failure) from failure

    @property
    def block_count(self) -> int:
        """Blocks added so far."""
        return len(self._lengths)

    @property
    def block_bytes(self) -> int:
        """Bytes of the blocks added so far, as they will be in the file, framing included."""
        return sum(len(TAG_BLOCK) + len(_varints(length)) + length + CRC_BYTES for length in self._lengths)

    def add_block(self, payload: bytes) -> Block:
        """Put a block behind those already there.

        Raises:
            OutputError: it cannot be written.
        """
        block = Block(self.block_count, payload)
        body = _varints(block.index) + payload
        try:
            self._open_spool().write(body)
        except OSError as error:
            raise self._failure(error) from error
        self._lengths.append(len(body))
        return block

    def finish(self, head: Head, images: Sequence[ImageEntry]) -> int:
        """Write the file and return its length in bytes.

        Raises:
            InputError: the table does not fit the format.
            OutputExistsError: a file has appeared at the path meanwhile.
            OutputError: it cannot be written.
        """
        spool = self._open_spool()
        table = write_table(images, self.block_count)
        model = write_head(head) if head.codec != CODEC_FALLBACK else None
        with new_file(self._path, overwrite=self._overwrite) as temporary, temporary.open("wb") as file:
            spool.seek(0)
            self._assemble(file, spool, bytes([VERSION, head.codec]), model, table)
            return file.tell()

    def _assemble(self, file: IO[bytes], spool: IO[bytes], kind: bytes, head: bytes | None, table: bytes) -> None:
        file.write(SIGNATURE + kind)
        crc = zlib.crc32(SIGNATURE + kind)
        for tag, payload in ((TAG_HEAD, head), (TAG_TABLE, table)):
            if payload is not None:
                start = tag + _varints(len(payload)) + payload
                crc = zlib.crc32(start, crc)
                file.write(start + crc.to_bytes(CRC_BYTES, "little"))
        for length in self._lengths:
            body = spool.read(length)
            start = TAG_BLOCK + _varints(length)
            file.write(start)
            file.write(body)
            file.write(zlib.crc32(body, zlib.crc32(start, crc)).to_bytes(CRC_BYTES, "little"))
        file.write(TAG_END)

    def _open_spool(self) -> IO[bytes]:
        if self._spool is None:
            raise ValueError("the writer is used outside its with block")
        return self._spool

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({reason(error)})")


def _varints(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        write_varint(out, value)
    return bytes(out)
