"""Writes a ``.ddpm`` archive: blocks go to a spool first, because head and image table are known only at the end.

A file of one picture needs neither table nor sections: :func:`write_single`.
"""

import zlib
from collections.abc import Sequence
from typing import BinaryIO

from ddpm_codec.container.layout import (
    CODEC_FALLBACK,
    CODEC_SINGLE,
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
from ddpm_codec.container.short_head import ShortHead, usual_name, write_short_head
from ddpm_codec.container.table import write_head, write_table
from ddpm_codec.varint import write_varint


class ContainerWriter:
    """Collects the blocks of a file and assembles it.

    Args:
        spool: an empty file, open for reading and writing, that stores blocks until head and table are known.
    """

    def __init__(self, spool: BinaryIO) -> None:
        self._spool = spool
        self._lengths: list[int] = []

    @property
    def block_count(self) -> int:
        """Number of blocks so far."""
        return len(self._lengths)

    def add_block(self, payload: bytes) -> None:
        """Append a block.

        Raises:
            OSError: the spool cannot be written.
        """
        body = _varints(self.block_count) + payload
        self._spool.write(body)
        self._lengths.append(len(body))

    def finish(self, out: BinaryIO, head: Head, images: Sequence[ImageEntry]) -> int:
        """Write the file to ``out`` and return its length in bytes.

        Raises:
            InputError: the image table exceeds the limits of the format.
            OSError: the file cannot be written.
        """
        table = write_table(images, self.block_count)
        model = write_head(head) if head.codec != CODEC_FALLBACK else None
        self._spool.seek(0)
        return self._assemble(out, bytes([VERSION, head.codec]), model, table)

    def _assemble(self, out: BinaryIO, kind: bytes, head: bytes | None, table: bytes) -> int:
        length = out.write(SIGNATURE + kind)
        crc = zlib.crc32(SIGNATURE + kind)
        for tag, payload in ((TAG_HEAD, head), (TAG_TABLE, table)):
            if payload is not None:
                start = tag + _varints(len(payload)) + payload
                crc = zlib.crc32(start, crc)
                length += out.write(start + crc.to_bytes(CRC_BYTES, "little"))
        for size in self._lengths:
            body = self._spool.read(size)
            start = TAG_BLOCK + _varints(size)
            checksum = zlib.crc32(body, zlib.crc32(start, crc))
            for piece in (start, body, checksum.to_bytes(CRC_BYTES, "little")):
                length += out.write(piece)
        return length + out.write(TAG_END)


def write_single(short: ShortHead, body: bytes, *, file_name: str = "") -> bytes:
    """Return a file of one picture: preamble, head, body, and a CRC-32 of them all.

    Args:
        short: the head.
        body: the coded pixels.
        file_name: name of the output file; the name derived from it is not stored.

    Raises:
        InputError: the picture's name, size or metadata cannot be stored.
    """
    data = SIGNATURE + bytes([VERSION, CODEC_SINGLE]) + write_short_head(short, usual_name(file_name)) + body
    return data + zlib.crc32(data).to_bytes(CRC_BYTES, "little")


def _varints(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        write_varint(out, value)
    return bytes(out)
