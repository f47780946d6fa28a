"""The lossless codec between pictures and blocks; files are the business of :mod:`ddpm_codec.codecs.api`.

Colour pictures (RGB, and the RGB of RGBA) go through the model, gathered into blocks; a picture larger than a block is cut
into parts, one block each. Every block is compared with the fallback and the smaller one is kept; a picture of it that the
model codes badly goes to the fallback alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.choice import OVERHEAD_BYTES, PICTURE_BYTES, Group, served_by_model
from ddpm_codec.codecs.colour_block import ColourBody, decode_colours, encode_colours
from ddpm_codec.codecs.fallback import decode_fallback, encode_fallback
from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.layout import FALLBACK, MODEL, BlockHeader, read_header
from ddpm_codec.codecs.options import MAX_BLOCK_TILES, CodingOptions
from ddpm_codec.codecs.tiling import Rect, largest_tile_count, part_count, split_parts
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.varint import Reader, write_varint

Pixels = NDArray[np.uint8]

COLOUR_MODES = ("RGB", "RGBA")

GRAPHIC_BPD = 0.75
"""A picture that the fallback codes below this rate is a graphic, not a photo: it stays with the fallback."""


@dataclass
class CodingTotals:
    """What the blocks of an encoding cost."""

    net_bits: int = 0
    net_dims: int = 0
    fallback_images: int = 0


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
        self._colour, self._other = Group(), Group()
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
        if not self._suits_model(picture, fallback):
            self._other.add(index, picture, fallback, self._options.tile)
            if self._other.pixels >= self._options.block_pixels:
                self._flush_other()
        elif picture.info.pixel_count > self._options.block_pixels:
            self._add_large(index, picture, fallback)
        else:
            self._colour.add(index, picture, fallback, self._options.tile)
            if self._colour.full(self._options):
                self._flush_colour()

    def _suits_model(self, picture: Picture, fallback: bytes) -> bool:
        if self._model is None or picture.mode not in COLOUR_MODES:
            return False
        # Only a picture that is hardly higher than a pixel, in tiles that are much too small, has so many of them.
        tiles = largest_tile_count(*picture.size, self._options.block_pixels, self._options.tile)
        return 8 * len(fallback) >= GRAPHIC_BPD * len(picture.pixels) and 2 * tiles <= MAX_BLOCK_TILES

    def finish(self) -> None:
        """Code what still waits."""
        self._flush_colour()
        self._flush_other()

    def _merge_other(self, group: Group) -> None:
        """Put pictures that the model does not make smaller beside those that it does not serve."""
        for entry in group.pictures:
            self._other.add(*entry, self._options.tile)
        self._other.pictures.sort(key=lambda entry: entry[0])
        if self._other.pixels >= self._options.block_pixels:
            self._flush_other()

    def _flush_other(self) -> None:
        if self._other.pictures:
            self._emit_fallback(self._other)
            self._other = Group()

    def _flush_colour(self) -> None:
        """Code the gathered colour pictures by the model, those of them that it makes smaller."""
        group, self._colour = self._colour, Group()
        if not group.pictures:
            return
        group, body = self._served(group, self._model_body([picture.array() for _, picture, _ in group.pictures]))
        if body is None or group.model_bytes(body.data) > group.fallback_bytes:
            self._merge_other(group)
            return
        self._count_net(body)
        header = BlockHeader(MODEL, 0, group.indices)
        self._emit(header, header.pack() + body.data)

    def _served(self, group: Group, body: ColourBody | None) -> tuple[Group, ColourBody | None]:
        """Return the group and its body, or, where that saves bytes, those without the pictures that want the fallback."""
        chosen = None
        if body is not None and len(group.pictures) > 1:
            chosen = served_by_model(body.part_bytes, [len(data) for _, _, data in group.pictures])
        if body is None or chosen is None:
            return group, body
        kept, others = group.split(chosen, self._options.tile)
        again = self._model_body([picture.array() for _, picture, _ in kept.pictures])
        best = min(group.model_bytes(body.data), group.fallback_bytes)
        if again is None or kept.model_bytes(again.data) + others.fallback_bytes >= best:
            return group, body
        self._merge_other(others)
        return kept, again

    def _add_large(self, index: int, picture: Picture, fallback: bytes) -> None:
        """Code a picture of several parts, one block each, unless the fallback of the whole is smaller."""
        width, height = picture.size
        array = picture.array()
        blocks: list[tuple[BlockHeader, ColourBody]] = []
        for number, rect in enumerate(split_parts(width, height, self._options.block_pixels, self._options.tile)):
            part = array[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
            body = self._model_body([part])
            if body is None:
                blocks.clear()
                break
            blocks.append((BlockHeader(MODEL, number, (index,)), body))
        size = sum(len(header.pack()) + len(body.data) + PICTURE_BYTES for header, body in blocks)
        if not blocks or size + OVERHEAD_BYTES > len(fallback):
            group = Group()
            group.add(index, picture, fallback, self._options.tile)
            self._merge_other(group)
            return
        for header, body in blocks:
            self._emit(header, header.pack() + body.data)
            self._count_net(body)

    def _model_body(self, arrays: list[Pixels]) -> ColourBody | None:
        return encode_colours(self._model(), arrays, self._options.tile) if self._model is not None else None

    def _emit_fallback(self, group: Group) -> None:
        header = BlockHeader(FALLBACK, 0, tuple(index for index, _, _ in group.pictures))
        out = bytearray(header.pack())
        for _, _, data in group.pictures[:-1]:
            write_varint(out, len(data))
        for _, _, data in group.pictures:
            out += data
        self.totals.fallback_images += len(group.pictures)
        self._emit(header, bytes(out))

    def _count_net(self, body: ColourBody) -> None:
        self.totals.net_bits += body.stats.net_bits
        self.totals.net_dims += body.stats.dims


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
        parts = [(rect, info.mode == "RGBA") for info, rect in zip(infos, rects, strict=True)]
        arrays = decode_colours(self._model(), reader, parts, self._options.tile)
        for index, rect, array in zip(header.pictures, rects, arrays, strict=True):
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
