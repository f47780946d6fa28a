"""Decodes blocks of the lossless codec into pictures."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import decode_fallback
from ddpm_codec.codecs.lossless.colour_block import decode_colours
from ddpm_codec.codecs.lossless.layout import COLOUR_MODES, FALLBACK, BlockHeader, read_header
from ddpm_codec.codecs.tiling import CodingOptions, Rect, region_count, split_regions
from ddpm_codec.coding.bits_back import LatticeModel
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.varint import Reader

Pixels = NDArray[np.uint8]


class LosslessDecoder:
    """Decodes blocks into pictures.

    Args:
        model: opens the lattice model when a block first needs it; None if the file names no model.
        options: as encoded.
        table: the image table.
        blocks: number of blocks in the file, an upper limit of the regions of a picture.
    """

    def __init__(
        self,
        model: Callable[[], LatticeModel] | None,
        options: CodingOptions,
        table: list[PictureInfo],
        blocks: int,
    ) -> None:
        self._model, self._options, self._table, self._blocks = model, options, table, blocks
        self._partial: dict[int, tuple[Pixels, set[int]]] = {}
        self._done: set[int] = set()

    def decode(self, block: bytes) -> list[tuple[int, Picture]]:
        """Return (index, picture) for each picture completed by this block.

        Raises:
            FormatError: the block does not fit the image table.
        """
        reader = Reader(block)
        return self.decode_body(read_header(reader, len(self._table)), reader)

    def decode_body(self, header: BlockHeader, reader: Reader) -> list[tuple[int, Picture]]:
        """Return what :meth:`decode` returns, of a block whose header is known.

        Raises:
            FormatError: the body does not fit the image table.
        """
        if self._done.intersection(header.pictures):
            raise FormatError("it repeats a picture")
        pictures = list((self._fallback if header.kind == FALLBACK else self._colours)(header, reader))
        self._done.update(index for index, _ in pictures)
        return pictures

    def note_complete(self, index: int) -> None:
        """Count a picture as complete that was decoded elsewhere."""
        self._done.add(index)

    def missing(self) -> list[int]:
        """Return the pictures that are not complete."""
        return [index for index in range(len(self._table)) if index not in self._done]

    def _fallback(self, header: BlockHeader, reader: Reader) -> Iterator[tuple[int, Picture]]:
        if header.region:
            raise FormatError("it holds a region of a picture, but a whole picture was expected")
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
            raise FormatError("it uses the model for a picture in a mode the model does not support")
        rects = [self._region(info, header) for info in infos]
        regions = [(rect, info.mode == "RGBA") for info, rect in zip(infos, rects, strict=True)]
        arrays = decode_colours(self._model(), reader, regions, self._options.tile)
        for index, rect, array in zip(header.pictures, rects, arrays, strict=True):
            picture = self._place(index, header.region, rect, array)
            if picture is not None:
                yield index, picture

    def _region(self, info: PictureInfo, header: BlockHeader) -> Rect:
        if region_count(*info.size, self._options.block_pixels, self._options.tile) > self._blocks:
            raise FormatError("its picture has more regions than the file has blocks")
        regions = split_regions(*info.size, self._options.block_pixels, self._options.tile)
        if header.region >= len(regions) or (len(header.pictures) > 1 and len(regions) > 1):
            raise FormatError("it names a region that its picture does not have")
        return regions[header.region]

    def _place(self, index: int, region: int, rect: Rect, array: Pixels) -> Picture | None:
        """Store a region; return the picture if it is now complete."""
        info = self._table[index]
        width, height = info.size
        count = region_count(width, height, self._options.block_pixels, self._options.tile)
        if count == 1:
            return Picture(info, array.tobytes())
        canvas, regions = self._partial.setdefault(
            index, (np.zeros((height, width, info.layout.channels), np.uint8), set())
        )
        if region in regions:
            raise FormatError("it repeats a region of a picture")
        canvas[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width] = array
        regions.add(region)
        if len(regions) < count:
            return None
        del self._partial[index]
        return Picture(info, canvas.tobytes())
