"""Reads a ``.ddpm`` archive: everything but the blocks at once, blocks on demand. A single picture is an archive of one."""

import zlib
from dataclasses import dataclass

from ddpm_codec.container.layout import (
    CODEC_FALLBACK,
    CODEC_SINGLE,
    CODECS,
    CRC_BYTES,
    DEFAULT_MAX_PIXELS,
    MAX_BLOCKS,
    MAX_HEAD_BYTES,
    MAX_TABLE_BYTES,
    MAX_VARINT_BYTES,
    PREAMBLE_BYTES,
    SIGNATURE,
    TAG_BLOCK,
    TAG_BYTES,
    TAG_END,
    TAG_HEAD,
    TAG_TABLE,
    Head,
    ImageEntry,
    check_version,
)
from ddpm_codec.container.short_head import read_short_head, usual_name
from ddpm_codec.container.source import Buffer, ByteSource
from ddpm_codec.container.table import read_head, read_table
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader


@dataclass(frozen=True)
class BlockInfo:
    """Location of a block.

    Attributes:
        index: index of the block, from 0.
        offset: start of its payload, in bytes from the start of the file.
        length: length of the payload, in bytes.
        start: start of its section; the checksum covers everything from here to the end of the payload.
        crc: CRC-32 stored in the file.
    """

    index: int
    offset: int
    length: int
    start: int
    crc: int


@dataclass(frozen=True)
class Container:
    """An open archive, or a single picture as an archive of one.

    Attributes:
        source: the file.
        head: codec and model.
        images: the image table.
        blocks: location of each block; None if ``tolerant`` reading did not find it intact. That of a single picture is
            its body, which has no block header.
        damaged: one line for each damaged item found by ``tolerant`` reading.
        crc: CRC-32 of everything before the blocks, with which the checksum of each block starts.
    """

    source: ByteSource
    head: Head
    images: list[ImageEntry]
    blocks: list[BlockInfo | None]
    damaged: tuple[str, ...]
    crc: int

    @property
    def label(self) -> str:
        """Name of the file in messages."""
        return self.source.label

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.source.size

    @property
    def pixel_count(self) -> int:
        """Total number of pixels."""
        return sum(image.info.pixel_count for image in self.images)

    def read_block(self, index: int) -> bytes:
        """Return the payload of a block.

        Raises:
            FormatError: the block is damaged or missing.
            InputError: the file can no longer be read.
        """
        block = self._block(index)
        length = block.offset + block.length - block.start
        data = self.source.read(block.start, length)
        if len(data) != length or zlib.crc32(data, self.crc) != block.crc:
            raise FormatError(f"{self.label}: block {index} is damaged (its checksum is wrong)")
        return data[block.offset - block.start :]

    def peek_block(self, index: int, length: int) -> bytes:
        """Return at most the first ``length`` bytes of the payload of a block, without verifying its checksum.

        Raises:
            FormatError: the block is missing.
            InputError: the file can no longer be read.
        """
        block = self._block(index)
        return self.source.read(block.offset, min(length, block.length))

    def _block(self, index: int) -> BlockInfo:
        block = self.blocks[index]
        if block is None:
            raise FormatError(f"{self.label}: block {index} is damaged or missing")
        return block


def read_container(source: ByteSource, *, max_pixels: int = DEFAULT_MAX_PIXELS, tolerant: bool = False) -> Container:
    """Read and check everything in an archive but the payloads of its blocks, or all of a single picture.

    Args:
        source: the file.
        max_pixels: refuse files that declare more pixels.
        tolerant: skip damaged blocks and list them; this verifies the checksum of every block. A damaged head or image
            table is still an error, and so is a damaged single picture, which has one checksum.

    Raises:
        FormatError: the file is damaged, truncated, not a .ddpm file, or made by a newer version.
        InputError: the file cannot be read.
    """
    if source.size < PREAMBLE_BYTES:
        raise FormatError(f"{source.label}: is not a .ddpm file, or is cut short")
    try:
        with source.view() as data:
            return _Parser(source, data, max_pixels).parse(tolerant=tolerant)
    except FormatError as error:
        raise FormatError(f"{source.label}: {error}") from None


class _Parser:
    """Parses the sections of a file in order."""

    def __init__(self, source: ByteSource, data: Buffer, max_pixels: int) -> None:
        self._source = source
        self._data = data
        self._end = len(data)
        self._max_pixels = max_pixels
        self._at = PREAMBLE_BYTES
        self._crc = 0

    def parse(self, *, tolerant: bool) -> Container:
        codec = self._preamble()
        if codec == CODEC_SINGLE:
            return self._single()
        head = Head() if codec == CODEC_FALLBACK else read_head(self._section(TAG_HEAD, MAX_HEAD_BYTES), codec)
        table = self._section(TAG_TABLE, MAX_TABLE_BYTES + MAX_VARINT_BYTES + 1)
        images, block_count = read_table(table, self._max_pixels)
        # A block has at least this many bytes, so the declared count cannot create a list larger than the file.
        if block_count * (TAG_BYTES + 2 + CRC_BYTES) > self._end and not tolerant:
            raise FormatError("is cut short")
        blocks, damaged = self._salvage(block_count) if tolerant else (self._blocks(block_count), ())
        return Container(self._source, head, images, blocks, damaged, self._crc)

    def _preamble(self) -> int:
        start = self._data[:PREAMBLE_BYTES]
        if not start.startswith(SIGNATURE):
            raise FormatError("is not a .ddpm file")
        version, codec = start[len(SIGNATURE) :]
        check_version(version)
        if codec not in CODECS and codec != CODEC_SINGLE:
            raise FormatError(f"codec {codec} is unknown: made by a newer version")
        self._crc = zlib.crc32(start)
        return codec

    def _single(self) -> Container:
        """Return the single picture as an archive of one; its only checksum covers head and body."""
        start, end = self._at, self._end - CRC_BYTES
        data = self._data[start : max(start, end)]
        crc = self._stored_crc(max(start, end))
        if end < start or zlib.crc32(data, self._crc) != crc:
            raise FormatError("is cut short or damaged (its checksum is wrong)")
        reader = Reader(data)
        short = read_short_head(reader, CODEC_SINGLE, usual_name(self._source.file_name), self._max_pixels)
        block = BlockInfo(0, end - reader.left, reader.left, start, crc)
        image = ImageEntry(short.info, short.route)
        return Container(self._source, short.head, [image], [block], (), self._crc)

    def _section(self, tag: bytes, limit: int) -> bytes:
        """Return the payload of the next section, which must be ``tag``; its checksum continues the previous one."""
        start, length = self._frame(self._at, tag)
        end = start + length
        if length > limit:
            raise FormatError(f"section {tag.decode()} is larger than the format allows")
        crc = zlib.crc32(self._data[self._at : end], self._crc)
        if crc != self._stored_crc(end):
            raise FormatError(f"section {tag.decode()} is damaged (its checksum is wrong)")
        self._at, self._crc = end + CRC_BYTES, crc
        return self._data[start:end]

    def _frame(self, at: int, tag: bytes) -> tuple[int, int]:
        """Return start and length of the payload of the section at ``at``, which lies within the file with its checksum."""
        found = self._data[at : at + TAG_BYTES]
        if len(found) < TAG_BYTES:
            raise FormatError("is cut short")
        if found != tag:
            raise FormatError(f"is damaged: section {tag.decode().strip()} not found where expected")
        head = Reader(self._data[at + TAG_BYTES : at + TAG_BYTES + MAX_VARINT_BYTES])
        available = head.left
        length = head.varint()
        start = at + TAG_BYTES + available - head.left
        if length > self._end - start - CRC_BYTES:
            raise FormatError(f"is cut short, or section {tag.decode().strip()} is damaged")
        return start, length

    def _stored_crc(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + CRC_BYTES], "little")

    def _blocks(self, count: int) -> list[BlockInfo | None]:
        blocks: list[BlockInfo | None] = []
        for index in range(count):
            block = self._block(self._at)
            if block.index != index:
                raise FormatError(f"is damaged: block {index} not found where expected")
            blocks.append(block)
            self._at = block.offset + block.length + CRC_BYTES
        if not self._at_end():
            raise FormatError("is cut short, or damaged at its end")
        return blocks

    def _at_end(self) -> bool:
        return self._end - self._at == TAG_BYTES and self._data[self._at :] == TAG_END

    def _salvage(self, count: int) -> tuple[list[BlockInfo | None], tuple[str, ...]]:
        """Return every intact block, wherever it is, and one line for each problem."""
        found: dict[int, BlockInfo] = {}
        at = self._at
        while (at := self._data.find(TAG_BLOCK, at)) >= 0:
            block = self._whole_block(at, count)
            if block is None:
                at += 1
            else:
                found.setdefault(block.index, block)
                at = self._at = block.offset + block.length + CRC_BYTES
        damaged = [f"block {index} is damaged or missing" for index in range(count) if index not in found]
        if not damaged and not self._at_end():
            damaged.append("the end is damaged or missing")
        return [found.get(index) for index in range(count)], tuple(damaged)

    def _whole_block(self, at: int, count: int) -> BlockInfo | None:
        try:
            block = self._block(at)
        except FormatError:
            return None
        body = self._data[at : block.offset + block.length]
        return block if block.index < count and zlib.crc32(body, self._crc) == block.crc else None

    def _block(self, at: int) -> BlockInfo:
        start, length = self._frame(at, TAG_BLOCK)
        header = Reader(self._data[start : start + min(length, MAX_VARINT_BYTES)])
        available = header.left
        index = header.varint(MAX_BLOCKS)
        used = available - header.left
        crc = self._stored_crc(start + length)
        return BlockInfo(index, start + used, length - used, at, crc)
