"""A file of one picture: the smallest of what the fallback and the model make of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ddpm_codec.codecs.lossless.choice import CodingTotals, suits_model
from ddpm_codec.codecs.lossless.layout import COLOUR_MODES, can_be_progressive
from ddpm_codec.codecs.tiling import CodingOptions, Rect
from ddpm_codec.container import (
    CODEC_SINGLE,
    ROUTE_FALLBACK,
    ROUTE_INDEXED,
    ROUTE_MODEL,
    Head,
    ShortHead,
    write_single,
)
from ddpm_codec.container.layout import SHORT_ID_BYTES, Values
from ddpm_codec.container.short_head import write_short_head
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.varint import Reader

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession

INDEXED_PIXELS = 1 << 16
"""Up to this many pixels the model is tried on whatever picture of colours, even on a graphic, and indices are tried.
Larger pictures have seeds enough for bits-back coding, which takes less."""

INDEX_REGISTER = 15
"""Most register bits of indices: on 27 CIFAR-10 training images a sixteenth takes a quarter more time and saves 0.06 %."""


@dataclass(frozen=True)
class SinglePicture:
    """A coded picture.

    Attributes:
        short: head of its file.
        body: its pixels.
        totals: size of what the model coded.
    """

    short: ShortHead
    body: bytes
    totals: CodingTotals

    @property
    def bytes_needed(self) -> int:
        """Bytes of head and body, the name of the picture not counted."""
        return len(write_short_head(self.short, self.short.info.name)) + len(self.body)

    def to_bytes(self, file_name: str) -> bytes:
        """Return a file of the given name.

        Raises:
            InputError: the picture's name, size or metadata cannot be stored.
        """
        return write_single(self.short, self.body, file_name=file_name)


def fits_single(picture: PictureInfo, session: "CodingSession | None", options: CodingOptions) -> bool:
    """Return whether a picture may be a file of its own whatever codes it: in a larger one the model codes blocks."""
    return session is None or picture.pixel_count <= options.block_pixels


def encode_single(picture: Picture, session: "CodingSession | None", options: CodingOptions) -> SinglePicture:
    """Encode a picture in every way that suits it and return the smallest result."""
    from ddpm_codec.codecs.fallback import encode_fallback

    fallback = encode_fallback(picture)
    found = [single_of_fallback(picture.info, fallback)]
    if session is not None and _worth_trying(picture, fallback, session, options):
        found += _by_model(picture, session, options)
    return min(found, key=lambda one: one.bytes_needed)


def single_of_fallback(info: PictureInfo, fallback: bytes) -> SinglePicture:
    """Return the file of a picture that the fallback has coded; it may have any size."""
    return SinglePicture(
        ShortHead(Head(CODEC_SINGLE), info, route=ROUTE_FALLBACK), fallback, CodingTotals(fallback_images=1)
    )


def _worth_trying(picture: Picture, fallback: bytes, session: "CodingSession", options: CodingOptions) -> bool:
    """Return whether to try the model on a picture: small ones are left out only where it cannot make them smaller.

    With larger ones it would take too long to try what is as good as hopeless, see
    :func:`~ddpm_codec.codecs.lossless.choice.suits_model`.
    """
    if picture.info.pixel_count > INDEXED_PIXELS:
        return suits_model(picture, fallback, options)
    if picture.mode not in COLOUR_MODES:
        return False
    # A message has a byte at least; the seed of a stack, many.
    body = bytes(session.for_indices().steps)
    least = SinglePicture(_short_head(picture, session, ROUTE_INDEXED, {"register_bits": 0}), body, CodingTotals())
    return least.bytes_needed < single_of_fallback(picture.info, fallback).bytes_needed


def _by_model(picture: Picture, session: "CodingSession", options: CodingOptions) -> list[SinglePicture]:
    """Return what the model makes of a colour picture: by bits-back coding if it is large enough, by indices if small."""
    from ddpm_codec.codecs.lossless.colour_block import encode_alpha, encode_colours

    array, found = picture.array(), []
    body = encode_colours(session.lattice(), [array], options.tile)
    if body is not None:
        head = _short_head(picture, session, ROUTE_MODEL, {"tile": options.tile})
        found.append(SinglePicture(head, body.data, CodingTotals(body.stats.net_bits, body.stats.dims)))
    if _suits_indices(session, picture.info):
        from ddpm_codec.codecs.progressive.indexed import encode_indexed
        from ddpm_codec.codecs.progressive.parameters import register_for

        indices = session.for_indices()
        register_bits = min(INDEX_REGISTER, register_for(picture.info.pixel_count))
        colours = encode_indexed(indices, np.ascontiguousarray(array[:, :, :3]), register_bits)
        head = _short_head(picture, indices, ROUTE_INDEXED, {"register_bits": register_bits})
        totals = CodingTotals(8 * len(colours), 3 * picture.info.pixel_count)
        found.append(SinglePicture(head, encode_alpha(array) + colours, totals))
    return found


def _suits_indices(session: "CodingSession", info: PictureInfo) -> bool:
    """Return whether to try indices: down to a crossing they are few, but down to nearly clean pixels they take minutes."""
    return bool(session.model.crossings) and info.pixel_count <= INDEXED_PIXELS and can_be_progressive(info)


def decode_indexed_body(session: "CodingSession", head: Head, info: PictureInfo, reader: Reader) -> Picture:
    """Decode the body of a picture that is coded by indices.

    Raises:
        FormatError: it is damaged.
    """
    from ddpm_codec.codecs.lossless.colour_block import decode_alpha
    from ddpm_codec.codecs.progressive.indexed import decode_indexed

    width, height = info.size
    alpha = decode_alpha(reader, Rect(0, 0, height, width)) if info.mode == "RGBA" else None
    pixels = decode_indexed(session, reader.rest(), info.size, int(head.parameters["register_bits"]))
    return Picture(info, (pixels if alpha is None else np.dstack([pixels, alpha])).tobytes())


def _short_head(picture: Picture, session: "CodingSession", route: int, parameters: Values) -> ShortHead:
    """Return the head of a picture that a model coded. A shipped one is found by its identity, so only others are named."""
    name = "" if session.ships else session.model.name
    identity = bytes.fromhex(session.model_id)[:SHORT_ID_BYTES]
    values: Values = {"crossing": session.crossing, "steps": session.steps, **parameters}
    return ShortHead(Head(CODEC_SINGLE, name, identity, session.fingerprint(), values), picture.info, route=route)
