"""Encodes pictures into blocks of the lossless codec.

Colour pictures (RGB, and the RGB of RGBA) are coded by the model, several to a block; a picture larger than a block is cut
into regions, one block each. Every block is compared with the fallback and the smaller one is kept. A picture that the
model codes poorly is moved to the fallback.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import encode_fallback
from ddpm_codec.codecs.lossless.choice import (
    OVERHEAD_BYTES,
    PICTURE_BYTES,
    CodingTotals,
    PendingBlock,
    served_by_model,
    shared_out,
    suits_model,
)
from ddpm_codec.codecs.lossless.colour_block import ColourBody, encode_colours
from ddpm_codec.codecs.lossless.layout import FALLBACK, MODEL, BlockHeader
from ddpm_codec.codecs.tiling import CodingOptions, split_regions
from ddpm_codec.coding.bits_back import LatticeModel
from ddpm_codec.picture import Picture
from ddpm_codec.varint import write_varint

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class EncodedBlock:
    """A finished block.

    Attributes:
        header: its header.
        body: its bytes behind the header.
        picture_bytes: the share of each picture of the header in all its bytes; they add up.
    """

    header: BlockHeader
    body: bytes
    picture_bytes: tuple[int, ...]

    @property
    def data(self) -> bytes:
        """Its bytes, header included."""
        return self.header.pack() + self.body


class LosslessEncoder:
    """Encodes a sequence of pictures into blocks.

    Args:
        model: opens the lattice model when a picture first needs it; None to use the fallback only.
        options: block and tile sizes.

    Attributes:
        totals: total size of the finished blocks.
    """

    def __init__(self, model: Callable[[], LatticeModel] | None, options: CodingOptions) -> None:
        self._model, self._options = model, options
        self._finished: list[EncodedBlock] = []
        self._colour, self._other = PendingBlock(), PendingBlock()
        self._count = 0
        self.totals = CodingTotals()

    def add(self, picture: Picture) -> list[EncodedBlock]:
        """Add the next picture of the image table and return the blocks it completes."""
        index, self._count = self._count, self._count + 1
        fallback = encode_fallback(picture)
        if self._model is None or not suits_model(picture, fallback, self._options):
            self._other.add(index, picture, fallback, self._options.tile)
            if self._other.pixels >= self._options.block_pixels:
                self._flush_other()
        elif picture.info.pixel_count > self._options.block_pixels:
            self._add_large(index, picture, fallback)
        else:
            self._colour.add(index, picture, fallback, self._options.tile)
            if self._colour.full(self._options):
                self._flush_colour()
        return self._take_finished()

    def finish(self) -> list[EncodedBlock]:
        """Encode the queued pictures and return their blocks."""
        self._flush_colour()
        self._flush_other()
        return self._take_finished()

    def _take_finished(self) -> list[EncodedBlock]:
        finished, self._finished = self._finished, []
        return finished

    def _emit(self, header: BlockHeader, body: bytes, costs: Sequence[float]) -> None:
        """Finish a block, whose bytes its pictures share in proportion to their ``costs``."""
        size = len(header.pack()) + len(body)
        self._finished.append(EncodedBlock(header, body, shared_out(size, costs)))

    def _merge_other(self, pending: PendingBlock) -> None:
        """Queue pictures that the model does not make smaller with those in modes it does not support."""
        for entry in pending.pictures:
            self._other.add(*entry, self._options.tile)
        self._other.pictures.sort(key=lambda entry: entry[0])
        if self._other.pixels >= self._options.block_pixels:
            self._flush_other()

    def _flush_other(self) -> None:
        if self._other.pictures:
            self._emit_fallback(self._other)
            self._other = PendingBlock()

    def _flush_colour(self) -> None:
        """Encode those queued colour pictures by the model that it makes smaller."""
        pending, self._colour = self._colour, PendingBlock()
        if not pending.pictures:
            return
        pending, body = self._served(pending, self._model_body([picture.array() for _, picture, _ in pending.pictures]))
        if body is None or pending.model_bytes(body.data) > pending.fallback_bytes:
            self._merge_other(pending)
            return
        self._count_net(body)
        header = BlockHeader(MODEL, 0, pending.indices)
        self._emit(header, body.data, body.region_bytes)

    def _served(self, pending: PendingBlock, body: ColourBody | None) -> tuple[PendingBlock, ColourBody | None]:
        """Return the queue and its body, without the pictures that are better left to the fallback if that saves bytes."""
        chosen = None
        if body is not None and len(pending.pictures) > 1:
            chosen = served_by_model(body.region_bytes, [len(data) for _, _, data in pending.pictures])
        if body is None or chosen is None:
            return pending, body
        kept, others = pending.split(chosen, self._options.tile)
        again = self._model_body([picture.array() for _, picture, _ in kept.pictures])
        best = min(pending.model_bytes(body.data), pending.fallback_bytes)
        if again is None or kept.model_bytes(again.data) + others.fallback_bytes >= best:
            return pending, body
        self._merge_other(others)
        return kept, again

    def _add_large(self, index: int, picture: Picture, fallback: bytes) -> None:
        """Encode a picture as several regions, one block each, unless the fallback is smaller for the whole."""
        width, height = picture.size
        array = picture.array()
        blocks: list[tuple[BlockHeader, ColourBody]] = []
        for number, rect in enumerate(split_regions(width, height, self._options.block_pixels, self._options.tile)):
            region = array[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
            body = self._model_body([region])
            if body is None:
                blocks.clear()
                break
            blocks.append((BlockHeader(MODEL, number, (index,)), body))
        size = sum(len(header.pack()) + len(body.data) + PICTURE_BYTES for header, body in blocks)
        if not blocks or size + OVERHEAD_BYTES > len(fallback):
            pending = PendingBlock()
            pending.add(index, picture, fallback, self._options.tile)
            self._merge_other(pending)
            return
        for header, body in blocks:
            self._emit(header, body.data, [1.0])
            self._count_net(body)

    def _model_body(self, arrays: list[Pixels]) -> ColourBody | None:
        return encode_colours(self._model(), arrays, self._options.tile) if self._model is not None else None

    def _emit_fallback(self, pending: PendingBlock) -> None:
        header = BlockHeader(FALLBACK, 0, tuple(index for index, _, _ in pending.pictures))
        out = bytearray()
        for _, _, data in pending.pictures[:-1]:
            write_varint(out, len(data))
        for _, _, data in pending.pictures:
            out += data
        self.totals.fallback_images += len(pending.pictures)
        self._emit(header, bytes(out), [len(data) for _, _, data in pending.pictures])

    def _count_net(self, body: ColourBody) -> None:
        self.totals.net_bits += body.stats.net_bits
        self.totals.net_dims += body.stats.dims
