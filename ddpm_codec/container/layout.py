"""Constants of the file format, and the contents of head and image table."""

from dataclasses import dataclass, field
from typing import Final

from ddpm_codec.errors import FormatError
from ddpm_codec.picture import PictureInfo

SIGNATURE: Final = b"\x89DDPM\r\n\x1a"
"""Not valid text, and changed by every common line-end conversion."""

VERSION: Final = 2

CODEC_FALLBACK: Final = 0
CODEC_BITS_BACK: Final = 1
CODEC_PROGRESSIVE: Final = 2
CODEC_SINGLE: Final = 3
CODECS: Final = frozenset({CODEC_FALLBACK, CODEC_BITS_BACK})
"""Codecs of archives; progressive files and single pictures have other structures."""

ROUTE_FALLBACK: Final = 0
ROUTE_MODEL: Final = 1
ROUTE_INDEXED: Final = 2
"""How the pixels of a picture are coded: by the fallback, by bits-back coding, or, only in a file of one picture, by indices
of codewords and then the pixel decoder's streams."""

ROUTES: Final = frozenset({ROUTE_FALLBACK, ROUTE_MODEL})
"""Routes of pictures in an archive."""

PREAMBLE_BYTES: Final = len(SIGNATURE) + 2
TAG_HEAD: Final = b"HEAD"
TAG_TABLE: Final = b"TABL"
TAG_BLOCK: Final = b"BLCK"
TAG_END: Final = b"END "
TAG_BYTES: Final = 4
CRC_BYTES: Final = 4
MAX_VARINT_BYTES: Final = 9

MAX_IMAGES: Final = 1 << 20
MAX_BLOCKS: Final = 1 << 20
MAX_NAMES_BYTES: Final = 1 << 26
MAX_SIDE: Final = (1 << 31) - 1
MAX_HEAD_BYTES: Final = 1 << 20
MAX_TABLE_BYTES: Final = 1 << 28
DEFAULT_MAX_PIXELS: Final = 1 << 30

MODEL_ID_BYTES: Final = 32
SHORT_ID_BYTES: Final = 4
"""Bytes of a model's identity in a short head: a file with one may be only a thousand bytes long."""

MAX_MODEL_NAME_BYTES: Final = 255

PROGRESSIVE_PARAMETERS: Final = ("crossing", "steps", "register_bits", "tile", "end")
"""Coding parameters in a progressive file, in this order."""

SINGLE_PARAMETERS: Final[dict[int, tuple[str, ...]]] = {
    ROUTE_FALLBACK: (),
    ROUTE_MODEL: ("crossing", "steps", "tile"),
    ROUTE_INDEXED: ("crossing", "steps", "register_bits"),
}
"""Coding parameters in a file of one picture, in this order, by route."""

SHORT_SECTION: Final = 1024
"""Sections of a progressive file with fewer bytes have a two-byte checksum."""

Values = dict[str, int | str]


def check_version(version: int) -> None:
    """Check the version byte of a file.

    Raises:
        FormatError: it is not VERSION.
    """
    if version < VERSION:
        raise FormatError(
            f"was made by a pre-release of ddpm-codec (format version {version}); this version reads version {VERSION}"
        )
    if version > VERSION:
        raise FormatError(f"has format version {version}, this program reads {VERSION}: made by a newer version")


def checked_values(found: object) -> Values:
    """Check and return values read from JSON.

    Raises:
        FormatError: they are not a flat object of integers and strings.
    """
    if not isinstance(found, dict) or any(
        isinstance(value, bool) or not isinstance(value, int | str) for value in found.values()
    ):
        raise FormatError("its head is damaged")
    return found


@dataclass(frozen=True)
class Head:
    """How a file was coded.

    Attributes:
        codec: ``CODEC_FALLBACK`` (no model; the other fields are empty), ``CODEC_BITS_BACK``, ``CODEC_PROGRESSIVE`` or
            ``CODEC_SINGLE``.
        model_name: name of the model, for messages; empty where there is no model, and in short heads if the model ships.
        model_id: SHA-256 of the model, 32 bytes; in a short head the first SHORT_ID_BYTES; empty without a model.
        fingerprint: environment of a file coded in floating point; empty if any environment can decode it.
        parameters: other values the codec needs, such as the tile size.
    """

    codec: int = CODEC_FALLBACK
    model_name: str = ""
    model_id: bytes = b""
    fingerprint: Values = field(default_factory=dict)
    parameters: Values = field(default_factory=dict)

    @property
    def needs_model(self) -> bool:
        """Whether the file was coded with a model."""
        return bool(self.model_id)


@dataclass(frozen=True)
class ImageEntry:
    """A row of the image table: the picture without pixels, and how its pixels are coded."""

    info: PictureInfo
    route: int = ROUTE_FALLBACK
