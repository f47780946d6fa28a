"""A file of one picture: the smallest of what the fallback and the model make of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_codec.codecs.lossless.choice import CodingTotals, suits_model
from ddpm_codec.codecs.tiling import CodingOptions
from ddpm_codec.container import CODEC_SINGLE, ROUTE_FALLBACK, ROUTE_MODEL, Head, ShortHead, write_single
from ddpm_codec.container.layout import SHORT_ID_BYTES, Values
from ddpm_codec.container.short_head import write_short_head
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import Picture, PictureInfo

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession


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
    """Return whether a picture may be a file of its own: larger ones need blocks, against damage and for memory."""
    return session is None or picture.pixel_count <= options.block_pixels


def encode_single(picture: Picture, session: "CodingSession | None", options: CodingOptions) -> SinglePicture:
    """Encode a picture in every way that suits it and return the smallest result."""
    from ddpm_codec.codecs.fallback import encode_fallback

    fallback = encode_fallback(picture)
    found = [
        SinglePicture(
            ShortHead(Head(CODEC_SINGLE), picture.info, route=ROUTE_FALLBACK),
            fallback,
            CodingTotals(fallback_images=1),
        )
    ]
    if session is not None and suits_model(picture, fallback, options):
        found += _by_model(picture, session, options)
    return min(found, key=lambda one: one.bytes_needed)


def _by_model(picture: Picture, session: "CodingSession", options: CodingOptions) -> list[SinglePicture]:
    from ddpm_codec.codecs.lossless.colour_block import encode_colours

    found = []
    body = encode_colours(session.lattice(), [picture.array()], options.tile)
    if body is not None:
        parameters: Values = {"steps": session.steps, "crossing": 0, "tile": options.tile}
        totals = CodingTotals(body.stats.net_bits, body.stats.dims)
        found.append(SinglePicture(_short_head(picture, session, ROUTE_MODEL, parameters), body.data, totals))
    return found


def _short_head(picture: Picture, session: "CodingSession", route: int, parameters: Values) -> ShortHead:
    """Return the head of a picture that a model coded. A shipped one is found by its identity, so only others are named."""
    name = "" if session.ships else session.model.name
    identity = bytes.fromhex(session.model_id)[:SHORT_ID_BYTES]
    return ShortHead(Head(CODEC_SINGLE, name, identity, session.fingerprint(), parameters), picture.info, route=route)


def single_options(head: Head, info: PictureInfo) -> CodingOptions:
    """Return the sizes with which a picture is one region of one block.

    Raises:
        FormatError: the head names a crossing that its model does not have.
    """
    if head.parameters.get("crossing", 0):
        raise FormatError("its coding parameters are damaged")
    return CodingOptions(info.pixel_count, int(head.parameters.get("tile", 8)))
