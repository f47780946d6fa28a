"""The lossless codec between pictures and blocks; files are the business of :mod:`ddpm_codec.codecs.api`.

Colour pictures (RGB, and the RGB of RGBA) go through the model, gathered into blocks; a picture larger than a block is cut
into parts, one block each. Every block is compared with the fallback and the smaller one is kept.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.block import decode_block, encode_block
from ddpm_codec.codecs.fallback import decode_array, decode_fallback, encode_array, encode_fallback
from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.layout import FALLBACK, MODEL, BlockHeader, read_header
from ddpm_codec.codecs.options import CodingOptions
from ddpm_codec.codecs.tiling import Rect, part_count, split_parts
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.varint import Reader, write_varint

Pixels = NDArray[np.uint8]

COLOUR_MODES = ("RGB", "RGBA")

GRAPHIC_BPD = 0.75
"""A picture that the fallback codes below this rate is a graphic, not a photo: it stays with the fallback."""


_OVERHEAD_BYTES = 512
"""What a model-coded block must save beyond its own bytes: more than the head of a file that names a model."""

_PICTURE_BYTES = 16
"""And for each picture or part in it: more than block framing and lists of indices may cost."""


@dataclass
class CodingTotals:
    """What the blocks of an encoding cost."""

    net_bits: int = 0
    net_dims: int = 0
    fallback_images: int = 0


@dataclass
class _Group:
    """Pictures that wait to share a block."""

    pictures: list[tuple[int, Picture, bytes]] = field(default_factory=list)
    pixels: int = 0

    def add(self, index: int, picture: Picture, fallback: bytes) -> None:
        self.pictures.append((index, picture, fallback))
        self.pixels += picture.info.pixel_count


class LosslessEncoder:
    """Turns a sequence of pictures into blocks.

    Args:
        model: opens the lattice model at the first picture that needs it; None: everything goes through the fallback.
        options: how pictures are cut.
        emit: called with the header and the bytes (header included) of each block, in order.
    """

    def __init__(
        self,
        model: Callable[[], DiffusionLattice] | None,
        options: CodingOptions,
        emit: Callable[[BlockHeader, bytes], None],
    ) -> None:
        self._model, self._options, self._emit = model, options, emit
        self._colour, self._other = _Group(), _Group()
        self._count = 0
        self.totals = CodingTotals()

    @property
    def used_model(self) -> bool:
        """Whether a block was coded by the model."""
        return self.totals.net_dims > 0

    def add(self, picture: Picture) -> None:
        """Take the next picture of the image table."""
        index, self._count = self._count, self._count + 1
        fallback = encode_fallback(picture)
        graphic = 8 * len(fallback) < GRAPHIC_BPD * len(picture.pixels)
        if self._model is None or picture.mode not in COLOUR_MODES or graphic:
            self._other.add(index, picture, fallback)
            if self._other.pixels >= self._options.block_pixels:
                self._flush_other()
        elif picture.info.pixel_count > self._options.block_pixels:
            self._add_large(index, picture, fallback)
        else:
            self._colour.add(index, picture, fallback)
            if self._colour.pixels >= self._options.block_pixels:
                self._flush_colour()

    def finish(self) -> None:
        """Code what still waits."""
        self._flush_colour()
        self._flush_other()

    def _merge_other(self, group: _Group) -> None:
        """Put pictures that the model does not make smaller beside those that it does not serve."""
        for entry in group.pictures:
            self._other.add(*entry)
        self._other.pictures.sort(key=lambda entry: entry[0])
        if self._other.pixels >= self._options.block_pixels:
            self._flush_other()

    def _flush_other(self) -> None:
        if self._other.pictures:
            self._emit_fallback(self._other)
            self._other = _Group()

    def _flush_colour(self) -> None:
        """Code the gathered colour pictures by the model where that is smaller."""
        group, self._colour = self._colour, _Group()
        if not group.pictures:
            return
        pictures = [picture for _, picture, _ in group.pictures]
        body = self._model_body([picture.array() for picture in pictures])
        price = _OVERHEAD_BYTES + _PICTURE_BYTES * len(pictures)
        if body is None or len(body[0]) + price > sum(len(data) for _, _, data in group.pictures):
            self._merge_other(group)
            return
        self._count_net(body[1])
        header = BlockHeader(MODEL, 0, tuple(index for index, _, _ in group.pictures))
        self._emit(header, header.pack() + body[0])

    def _add_large(self, index: int, picture: Picture, fallback: bytes) -> None:
        """Code a picture of several parts, one block each, unless the fallback of the whole is smaller."""
        width, height = picture.size
        array = picture.array()
        blocks: list[tuple[BlockHeader, bytes]] = []
        costs: list[tuple[int, int]] = []
        for number, rect in enumerate(split_parts(width, height, self._options.block_pixels, self._options.tile)):
            part = array[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
            body = self._model_body([part])
            if body is None:
                blocks.clear()
                break
            header = BlockHeader(MODEL, number, (index,))
            blocks.append((header, header.pack() + body[0]))
            costs.append(body[1])
        size = sum(len(block) + _PICTURE_BYTES for _, block in blocks)
        if not blocks or size + _OVERHEAD_BYTES > len(fallback):
            group = _Group()
            group.add(index, picture, fallback)
            self._merge_other(group)
            return
        for (header, block), cost in zip(blocks, costs, strict=True):
            self._emit(header, block)
            self._count_net(cost)

    def _model_body(self, arrays: list[Pixels]) -> tuple[bytes, tuple[int, int]] | None:
        """Return (checksum, alpha planes and model-coded colours; (net bits, dims)), or None."""
        if self._model is None:
            return None
        colours = [np.ascontiguousarray(array[:, :, :3]) for array in arrays]
        coded = encode_block(self._model(), colours, self._options.tile)
        if coded is None:
            return None
        out = bytearray(_checksum(colours).to_bytes(4, "little"))
        for array in arrays:
            if array.shape[2] == 4:
                alpha = encode_array(np.ascontiguousarray(array[:, :, 3]))
                write_varint(out, len(alpha))
                out += alpha
        return bytes(out) + coded[0], (coded[1].net_bits, coded[1].dims)

    def _emit_fallback(self, group: _Group) -> None:
        header = BlockHeader(FALLBACK, 0, tuple(index for index, _, _ in group.pictures))
        out = bytearray(header.pack())
        for _, _, data in group.pictures[:-1]:
            write_varint(out, len(data))
        for _, _, data in group.pictures:
            out += data
        self.totals.fallback_images += len(group.pictures)
        self._emit(header, bytes(out))

    def _count_net(self, cost: tuple[int, int]) -> None:
        self.totals.net_bits += cost[0]
        self.totals.net_dims += cost[1]


class LosslessDecoder:
    """Turns blocks back into pictures.

    Args:
        model: opens the lattice model at the first block that needs it; None: the file names no model.
        options: as encoded.
        table: the image table.
        blocks: blocks of the file; no picture has more parts.
    """

    def __init__(
        self,
        model: Callable[[], DiffusionLattice] | None,
        options: CodingOptions,
        table: list[PictureInfo],
        blocks: int,
    ) -> None:
        self._model, self._options, self._table, self._blocks = model, options, table, blocks
        self._partial: dict[int, tuple[Pixels, set[int]]] = {}
        self._done: set[int] = set()

    def decode(self, block: bytes) -> list[tuple[int, Picture]]:
        """Return (index, picture) for every picture that is complete with this block.

        Raises:
            FormatError: the block does not belong here.
        """
        reader = Reader(block)
        header = read_header(reader, len(self._table))
        if self._done.intersection(header.pictures):
            raise FormatError("it holds a picture for the second time")
        pictures = list((self._fallback if header.kind == FALLBACK else self._colours)(header, reader))
        self._done.update(index for index, _ in pictures)
        return pictures

    def missing(self) -> list[int]:
        """Return the pictures that no block has completed."""
        return [index for index in range(len(self._table)) if index not in self._done]

    def _fallback(self, header: BlockHeader, reader: Reader) -> Iterator[tuple[int, Picture]]:
        if header.part:
            raise FormatError("it holds a part of a picture where whole ones belong")
        lengths = [reader.varint(reader.left) for _ in header.pictures[:-1]]
        pieces = [reader.take(length) for length in lengths] + [reader.rest()]
        for index, data in zip(header.pictures, pieces, strict=True):
            info = self._table[index]
            yield index, Picture(info, decode_fallback(data, info.mode, info.size))

    def _colours(self, header: BlockHeader, reader: Reader) -> Iterator[tuple[int, Picture]]:
        if self._model is None:
            raise FormatError("it needs a model that the file does not name")
        infos = [self._table[index] for index in header.pictures]
        if any(info.mode not in COLOUR_MODES for info in infos):
            raise FormatError("it codes a picture by the model that the model does not serve")
        rects = [self._part(info, header) for info in infos]
        checksum = int.from_bytes(reader.take(4), "little")
        alphas = [self._alpha(info, rect, reader) for info, rect in zip(infos, rects, strict=True)]
        colours = decode_block(self._model(), reader.rest(), rects, self._options.tile)
        if _checksum(colours) != checksum:
            raise FormatError("its pixels do not match their checksum")
        for index, rect, colour, alpha in zip(header.pictures, rects, colours, alphas, strict=True):
            array = colour if alpha is None else np.dstack([colour, alpha])
            picture = self._place(index, header.part, rect, array)
            if picture is not None:
                yield index, picture

    def _part(self, info: PictureInfo, header: BlockHeader) -> Rect:
        if part_count(*info.size, self._options.block_pixels, self._options.tile) > self._blocks:
            raise FormatError("its picture has more parts than the file has blocks")
        parts = split_parts(*info.size, self._options.block_pixels, self._options.tile)
        if header.part >= len(parts) or (len(header.pictures) > 1 and len(parts) > 1):
            raise FormatError("it names a part that its picture lacks")
        return parts[header.part]

    @staticmethod
    def _alpha(info: PictureInfo, rect: Rect, reader: Reader) -> Pixels | None:
        if info.mode != "RGBA":
            return None
        return decode_array(reader.take(reader.varint(reader.left)), (rect.height, rect.width))

    def _place(self, index: int, part: int, rect: Rect, array: Pixels) -> Picture | None:
        """Put a part where it belongs; return the picture if it is complete."""
        info = self._table[index]
        width, height = info.size
        count = part_count(width, height, self._options.block_pixels, self._options.tile)
        if count == 1:
            return Picture(info, array.tobytes())
        canvas, parts = self._partial.setdefault(
            index, (np.zeros((height, width, info.layout.channels), np.uint8), set())
        )
        if part in parts:
            raise FormatError("it holds a part of a picture for the second time")
        canvas[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width] = array
        parts.add(part)
        if len(parts) < count:
            return None
        del self._partial[index]
        return Picture(info, canvas.tobytes())


def _checksum(colours: list[Pixels]) -> int:
    """Return the CRC-32 of the decoded colours: what catches a network that did not repeat itself."""
    crc = 0
    for colour in colours:
        crc = zlib.crc32(colour.tobytes(), crc)
    return crc
