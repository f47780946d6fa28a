"""What a reader of metadata has found: the pieces by their key, and a line for each that had to be left out."""

import zlib
from dataclasses import dataclass, field
from typing import Final

from ddpm_codec.picture import METADATA_KEYS, MetadataKey

MAX_UNPACKED_BYTES: Final = 64 << 20
"""What the compressed metadata of a file unpack to beyond it is left out: a file of a few kB may claim any number."""

MAX_NOTES: Final = 20
"""Lines about one file."""

LABELS: Final[dict[MetadataKey, str]] = {
    "icc": "ICC",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "comment": "comment",
    "density": "density",
    "png": "PNG chunk",
}
"""What messages call each kind of metadata."""

_EXIF_PREFIX: Final = b"Exif\0\0"


@dataclass
class Found:
    """Metadata of one file.

    Attributes:
        metadata: the pieces, as :class:`~ddpm_codec.picture.PictureInfo` describes them.
        notes: a line for each piece that is left out, and why.
        comments: of a format that may have several; :meth:`joined` makes them one.
        unpacked_bytes: what compressed pieces have unpacked to.
    """

    metadata: dict[MetadataKey, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    comments: list[bytes] = field(default_factory=list)
    unpacked_bytes: int = 0

    def keep(self, key: MetadataKey, data: bytes) -> None:
        """Take a piece, unless it is empty; of several of one kind the first, with a note about the others."""
        data = data.removeprefix(_EXIF_PREFIX) if key == "exif" else data
        if not data or self.metadata.get(key) == data:
            return
        if key in self.metadata:
            self.note(f"a second piece of {LABELS[key]} metadata ({len(data)} bytes) is left out")
        else:
            self.metadata[key] = data

    def note(self, line: str) -> None:
        """Say what is left out, once; after ``MAX_NOTES`` lines, that there is more."""
        if len(self.notes) < MAX_NOTES and line not in self.notes:
            self.notes.append(line if len(self.notes) < MAX_NOTES - 1 else "further pieces of metadata are left out")

    def inflate(self, data: bytes) -> bytes:
        """Unpack a zlib stream.

        Raises:
            ValueError: it is damaged or incomplete, or all of the file's together unpack to too much.
        """
        unpacked = inflate(data, MAX_UNPACKED_BYTES - self.unpacked_bytes)
        self.unpacked_bytes += len(unpacked)
        return unpacked

    def leave_out(self, what: set[str], why: str) -> None:
        """Say in one line that pieces are left out, if there are any."""
        if what:
            self.note(f"{why}: {', '.join(sorted(what))}")

    def joined(self) -> None:
        """Make one comment of those found, a line feed between them."""
        self.keep("comment", b"\n".join(comment for comment in self.comments if comment))


def inflate(data: bytes, limit: int = MAX_UNPACKED_BYTES) -> bytes:
    """Unpack a zlib stream.

    Raises:
        ValueError: it is damaged, incomplete, or unpacks to more than ``limit`` bytes.
    """
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(data, limit + 1)
    except zlib.error:
        raise ValueError("its compressed data are damaged") from None
    if len(unpacked) > limit:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB, or all in the file together do")
    if not stream.eof:
        raise ValueError("its compressed data are incomplete")
    return unpacked


def in_order(metadata: dict[MetadataKey, bytes]) -> dict[MetadataKey, bytes]:
    """Return metadata in the order of ``METADATA_KEYS``, in which they come back from a file."""
    return {key: metadata[key] for key in METADATA_KEYS if key in metadata}
