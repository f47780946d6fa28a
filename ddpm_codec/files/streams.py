"""Standard input and output in place of files."""

import io
from dataclasses import dataclass
from typing import BinaryIO, Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.signatures import HEAD_BYTES, sniff

STANDARD_INPUT: Final = "standard input"
STANDARD_OUTPUT: Final = "standard output"
MAX_STREAM_BYTES: Final = 1 << 32
"""Most that is read from a stream into memory."""

_PIECE_BYTES: Final = 1 << 20
_EXTENSIONS: Final = {"JPEG": ".jpg", "TIFF": ".tiff", "JPEG2000": ".jp2"}


@dataclass(frozen=True)
class StreamPicture:
    """An image file that came through a stream.

    Attributes:
        data: the file.
        label: what errors call it.
    """

    data: bytes
    label: str = STANDARD_INPUT

    @property
    def name(self) -> str:
        """A name for the picture, with the extension of its format where the content shows that."""
        kind = sniff(self.data[:HEAD_BYTES])
        return "picture" + ("" if kind is None else _EXTENSIONS.get(kind, f".{kind.lower()}"))


def read_stream(stream: BinaryIO, label: str = STANDARD_INPUT, max_bytes: int = MAX_STREAM_BYTES) -> bytes:
    """Read a stream to its end.

    Raises:
        InputError: the stream is empty, holds more than ``max_bytes``, or cannot be read.
    """
    out = io.BytesIO()
    try:
        while piece := stream.read(_PIECE_BYTES):
            out.write(piece)
            if out.tell() > max_bytes:
                raise InputError(f"{label}: has more than {max_bytes:,} bytes; store it in a file and name that")
    except MemoryError:
        raise InputError(f"{label}: does not fit into memory; store it in a file and name that") from None
    except OSError as error:
        raise InputError(f"{label}: cannot be read ({error.strerror or error})") from error
    if not out.tell():
        raise InputError(f"{label}: is empty")
    return out.getvalue()
