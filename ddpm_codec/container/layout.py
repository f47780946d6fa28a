"""Numbers of the file format, and what its head and table say."""

from dataclasses import dataclass, field
from typing import Final

from ddpm_codec.errors import FormatError
from ddpm_codec.picture import PictureInfo

SIGNATURE: Final = b"\x89DDPM\r\n\x1a"
"""Not text, and damaged by every common conversion of line ends."""

VERSION: Final = 1

CODEC_FALLBACK: Final = 0
CODEC_BITS_BACK: Final = 1
CODEC_PROGRESSIVE: Final = 2
CODECS: Final = frozenset({CODEC_FALLBACK, CODEC_BITS_BACK})
"""Those of files of many pictures; a progressive file is built otherwise."""

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
"""Of the identity of a model, in progressive files, which may have no more than a thousand bytes."""

MAX_MODEL_NAME_BYTES: Final = 255

PROGRESSIVE_PARAMETERS: Final = ("steps", "register_bits", "tail_level")
TAIL_PARAMETERS: Final = ("tile", "block_pixels")
"""What a progressive file says of its coding, in this order; the latter only where its tail level is not 0."""

SHORT_SECTION: Final = 1024
"""Sections of a progressive file with fewer bytes have a checksum of two bytes."""

Values = dict[str, int | str]


def checked_values(found: object) -> Values:
    """Return what was read from JSON.

    Raises:
        FormatError: it is no flat object of integers and strings.
    """
    if not isinstance(found, dict) or any(
        isinstance(value, bool) or not isinstance(value, int | str) for value in found.values()
    ):
        raise FormatError("its head is damaged")
    return found


@dataclass(frozen=True)
class Head:
    """What the whole file was coded with.

    Attributes:
        codec: ``CODEC_FALLBACK`` (no model; the other fields are empty), ``CODEC_BITS_BACK`` or ``CODEC_PROGRESSIVE``.
        model_name: the model's name, for messages; empty in progressive files where the model ships.
        model_id: SHA-256 of the model, 32 bytes; of a progressive file the first SHORT_ID_BYTES.
        fingerprint: the environment of a file coded in floating point; empty where any environment decodes.
        parameters: what the codec needs besides, such as the side of a tile.
    """

    codec: int = CODEC_FALLBACK
    model_name: str = ""
    model_id: bytes = b""
    fingerprint: Values = field(default_factory=dict)
    parameters: Values = field(default_factory=dict)


@dataclass(frozen=True)
class ImageEntry:
    """A row of the table of images: the picture without its pixels, and which codec has those."""

    info: PictureInfo
    route: int = ROUTE_FALLBACK
