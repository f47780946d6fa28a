"""Constants of the file format, and the contents of head and image table."""

from dataclasses import dataclass, field
from typing import Final

from ddpm_codec.errors import FormatError
from ddpm_codec.picture import PictureInfo

SIGNATURE: Final = b"\x89DDPM\r\n\x1a"
"""Not valid text, and changed by every common line-end conversion."""

VERSION: Final = 1

CODEC_FALLBACK: Final = 0
CODEC_BITS_BACK: Final = 1
CODEC_PROGRESSIVE: Final = 2
CODECS: Final = frozenset({CODEC_FALLBACK, CODEC_BITS_BACK})
"""Codecs of archives; a progressive file has a different structure."""

ROUTE_FALLBACK: Final = 0
ROUTE_MODEL: Final = 1
ROUTES: Final = frozenset({ROUTE_FALLBACK, ROUTE_MODEL})

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
"""Bytes of a model's identity in a progressive file, which may be only a thousand bytes long."""

MAX_MODEL_NAME_BYTES: Final = 255

PROGRESSIVE_PARAMETERS: Final = ("crossing", "steps", "register_bits", "tile", "end")
"""Coding parameters in a progressive file, in this order."""

SHORT_SECTION: Final = 1024
"""Sections of a progressive file with fewer bytes have a two-byte checksum."""

Values = dict[str, int | str]


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
        codec: ``CODEC_FALLBACK`` (no model; the other fields are empty), ``CODEC_BITS_BACK`` or ``CODEC_PROGRESSIVE``.
        model_name: name of the model, for messages; empty in progressive files if the model ships.
        model_id: SHA-256 of the model, 32 bytes; in a progressive file the first SHORT_ID_BYTES.
        fingerprint: environment of a file coded in floating point; empty if any environment can decode it.
        parameters: other values the codec needs, such as the tile size.
    """

    codec: int = CODEC_FALLBACK
    model_name: str = ""
    model_id: bytes = b""
    fingerprint: Values = field(default_factory=dict)
    parameters: Values = field(default_factory=dict)


@dataclass(frozen=True)
class ImageEntry:
    """A row of the image table: the picture without pixels, and how its pixels are coded."""

    info: PictureInfo
    route: int = ROUTE_FALLBACK
