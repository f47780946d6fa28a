"""PBM, PGM, PPM and PFM files, binary and plain (netpbm.sourceforge.net/doc/pnm.html, pauldebevec.com/Research/HDR/PFM).

Samples are taken as they are, whatever the largest value is that the header allows: readers that scale them to 255 change
them.
"""

import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Picture, PictureInfo, check_name

_MAX_HEADER_BYTES: Final = 1 << 16
_MAX_COUNTED: Final = 1000
_BITMAPS: Final = (b"P1", b"P4")
_PLAIN: Final = (b"P1", b"P2", b"P3")
_CHANNELS: Final = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_MODES: Final = {(1, 1): "L", (3, 1): "RGB", (1, 2): "I;16", (3, 2): "RGB;16", (1, 4): "F", (3, 4): "RGB;F"}
_MODE_WHITE: Final = {1: 255, 2: 65535}
_LONG_NUMBER: Final = re.compile(rb"[0-9]{11}")


@dataclass(frozen=True)
class _Header:
    """What stands before the samples.

    Attributes:
        kind: the two bytes that name the format.
        white: the largest value of a sample; 1 for bitmaps.
        little: whether float samples are little-endian.
        start: offset of the samples.
    """

    kind: bytes
    width: int
    height: int
    white: int
    little: bool
    start: int

    @property
    def sample_bytes(self) -> int:
        if self.kind in (b"Pf", b"PF"):
            return 4
        return 1 if self.white < 256 else 2

    @property
    def other_white(self) -> int | None:
        """The white of the picture, where it is not the largest value of its mode."""
        if self.kind in _BITMAPS or self.sample_bytes == 4 or self.white == _MODE_WHITE[self.sample_bytes]:
            return None
        return self.white

    @property
    def samples(self) -> int:
        return self.width * self.height * _CHANNELS[self.kind]

    @property
    def byte_count(self) -> int:
        """Bytes of the samples in a binary file."""
        if self.kind == b"P4":
            return (self.width + 7) // 8 * self.height
        return self.samples * self.sample_bytes


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    first = _header(file, 0)
    pictures, bits = 1 + _further(file, first)[0], 8 * first.sample_bytes
    return Header("PPM", (first.width, first.height), pictures, "pictures", bits=bits, white=first.other_white)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    head = _header(file, 0)
    check_name(name)
    further, surplus = _further(file, head)
    file.seek(head.start)
    if head.kind in _PLAIN:
        samples, surplus = _plain(file.read(), head)
    else:
        samples = _binary(read_exactly(file, head.byte_count), head)
    metadata, notes = file_metadata(file, "PPM")
    if surplus and not further:
        notes = (*notes, f"{surplus} bytes behind the samples are left out")
    size = head.width, head.height
    if head.kind in _BITMAPS:
        # A one is black in the file, and white in mode 1.
        return ReadPicture(Picture(PictureInfo(name, "1", size, metadata=metadata), _packed(samples == 0)), notes)
    if samples.dtype.kind == "u" and samples.size and int(samples.max()) > head.white:
        raise InputError(f"is damaged (it has samples above {head.white}, the largest value that its header allows)")
    mode = _MODES[_CHANNELS[head.kind], head.sample_bytes]
    info = PictureInfo(name, mode, size, metadata=metadata, white=head.other_white)
    return ReadPicture(Picture(info, samples.astype(samples.dtype.newbyteorder("<")).tobytes()), notes)


def _header(file: BinaryIO, at: int) -> _Header:
    file.seek(at)
    data = file.read(_MAX_HEADER_BYTES)
    tokens: list[bytes] = []
    kind, offset = data[:2], 2
    wanted = 2 if kind in _BITMAPS else 3
    if kind not in _CHANNELS:
        raise InputError("is damaged (its header names no format of the PNM family)")
    while len(tokens) < wanted:
        token, offset = _token(data, offset)
        tokens.append(token)
    width, height = _number(tokens[0]), _number(tokens[1])
    white, little = 1, False
    if kind in (b"Pf", b"PF"):
        if tokens[2] not in (b"1.0", b"-1.0", b"1", b"-1", b"1.000000", b"-1.000000"):
            raise InputError(f"has samples in units of {_shown(tokens[2])}, which would be lost")
        little = tokens[2].startswith(b"-")
    elif kind not in _BITMAPS:
        white = _number(tokens[2])
        if not 1 <= white <= 65535:
            raise InputError(f"is damaged (its samples are white at {white}; 1 to 65535 are allowed)")
    return _Header(kind, width, height, white, little, at + offset)


def _token(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the next word of a header, and the offset behind the one white space that follows it."""
    word = bytearray()
    while at < len(data):
        byte = data[at : at + 1]
        at += 1
        if byte == b"#":
            end = re.compile(rb"[\r\n]").search(data, at)
            at = end.end() if end else len(data)
        if byte == b"#" or byte.isspace():
            if word:
                return bytes(word), at
        else:
            word += byte
    raise InputError("is damaged (the file ends in its header)")


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > 10:
        raise InputError(f"is damaged (its header says {_shown(word)} where a number has to be)")
    return int(word)


def _shown(word: bytes) -> str:
    return repr(word[:20].decode("latin-1"))


def _further(file: BinaryIO, first: _Header) -> tuple[int, int]:
    """Return how many pictures follow the first in a binary file, a thousand at most, and the bytes behind the first."""
    if first.kind in _PLAIN:
        return 0, 0
    end = file.seek(0, 2)
    count, at = 0, first.start + first.byte_count
    surplus = max(0, end - at)
    while at < end and count < _MAX_COUNTED:
        file.seek(at)
        space = file.read(16)
        at += len(space) - len(space.lstrip())
        try:
            following = _header(file, at)
        except InputError:
            break
        count, at = count + 1, following.start + following.byte_count
        if following.kind in _PLAIN or following.byte_count == 0:
            break
    return count, surplus


def _binary(data: bytes, head: _Header) -> NDArray[Any]:
    """Return the samples of a binary file, row by row from the top."""
    if head.kind == b"P4":
        rows = np.frombuffer(data, np.uint8).reshape(head.height, -1)
        return np.unpackbits(rows, axis=1, count=head.width)
    if head.sample_bytes == 4:
        rows = np.frombuffer(data, "<f4" if head.little else ">f4").reshape(head.height, -1)
        return rows[::-1]
    return np.frombuffer(data, np.uint8 if head.sample_bytes == 1 else ">u2")


def _plain(data: bytes, head: _Header) -> tuple[NDArray[Any], int]:
    """Return the samples of a plain file, and how many words follow them."""
    text = re.sub(rb"#[^\r\n]*", b"", data)
    if text.translate(None, b"0123456789 \t\n\v\f\r") or _LONG_NUMBER.search(text):
        raise InputError("is damaged (its samples are not numbers)")
    if head.kind == b"P1":
        values = np.frombuffer(text.translate(None, b" \t\n\v\f\r"), np.uint8).astype(np.int64) - ord("0")
    else:
        values = np.fromstring(text, np.int64, sep=" ") if text.strip() else np.zeros(0, np.int64)
    if len(values) < head.samples:
        raise InputError(f"is damaged (it has {len(values)} of {head.samples} samples)")
    taken, surplus = values[: head.samples], len(values) - head.samples
    if int(taken.max(initial=0)) > head.white:
        raise InputError(f"is damaged (it has samples above {head.white}, the largest value that its header allows)")
    return taken.astype(np.uint8 if head.sample_bytes == 1 else np.uint16).reshape(head.height, -1), surplus


def _packed(white: NDArray[np.bool_]) -> bytes:
    """Return the pixels of mode 1."""
    return np.packbits(white, axis=1).tobytes()
