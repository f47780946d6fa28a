"""SGI files: 8 or 16 bits a sample, with or without run lengths; one, three or four channels."""

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import allowed, file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Picture, PictureInfo, check_name

_HEADER_BYTES: Final = 512
_MODES: Final = {(1, 1): "L", (1, 3): "RGB", (1, 4): "RGBA", (2, 1): "I;16", (2, 3): "RGB;16", (2, 4): "RGBA;16"}


@dataclass(frozen=True)
class _Header:
    compressed: bool
    sample_bytes: int
    size: tuple[int, int]
    channels: int


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    head = _header(file)
    return Header("SGI", head.size, bits=8 * head.sample_bytes)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    head = _header(file)
    check_name(name)
    width, height = head.size
    kind = np.dtype("u1" if head.sample_bytes == 1 else ">u2")
    file.seek(_HEADER_BYTES)
    if head.compressed:
        samples = _unpacked(file, head, kind)
    else:
        samples = np.frombuffer(read_exactly(file, head.channels * height * width * kind.itemsize), kind)
    upright = samples.reshape(head.channels, height, width)[:, ::-1].transpose(1, 2, 0)
    metadata, notes = file_metadata(file, "SGI")
    info = PictureInfo(name, _MODES[head.sample_bytes, head.channels], head.size, metadata=metadata)
    return ReadPicture(Picture(info, upright.astype(kind.newbyteorder("<")).tobytes()), notes)


def _header(file: BinaryIO) -> _Header:
    file.seek(0)
    data = read_exactly(file, _HEADER_BYTES)
    _, storage, sample_bytes, dimensions, width, height, channels = struct.unpack_from(">HBBHHHH", data)
    (colour_map,) = struct.unpack_from(">I", data, 104)
    allowed(storage, (0, 1), f"is damaged (a storage {storage} that SGI does not define)")
    allowed(sample_bytes, (1, 2), f"is damaged (it has {sample_bytes} bytes a sample)")
    allowed(colour_map, (0,), "has a colour map, which is not read of SGI")
    height, channels = (1 if dimensions == 1 else height), (1 if dimensions < 3 else channels)
    allowed(dimensions, (1, 2, 3), f"is damaged (it has {dimensions} dimensions)")
    allowed(channels, (1, 3, 4), f"has {channels} channels; of SGI only 1, 3 and 4 are read")
    return _Header(storage == 1, sample_bytes, (width, height), channels)


def _unpacked(file: BinaryIO, head: _Header, kind: np.dtype[Any]) -> NDArray[Any]:
    """Return the samples of a file with run lengths, row by row as its table has them."""
    rows = head.size[1] * head.channels
    table = np.frombuffer(read_exactly(file, 8 * rows), ">u4").reshape(2, rows)
    samples = np.zeros((rows, head.size[0]), kind)
    longest = (2 * head.size[0] + 1) * kind.itemsize
    for row, (start, length) in enumerate(table.T.tolist()):
        file.seek(start)
        codes = read_exactly(file, min(length - length % kind.itemsize, longest))
        samples[row] = _row(np.frombuffer(codes, kind), head.size[0])
    return samples


def _row(codes: NDArray[Any], width: int) -> NDArray[Any]:
    row, at, filled = np.zeros(width, codes.dtype), 0, 0
    while filled < width:
        code = int(codes[at]) if at < len(codes) else 0
        count = code & 0x7F
        copied = count if code & 0x80 else 1
        part = codes[at + 1 : at + 1 + copied]
        if not count or len(part) < copied or filled + count > width:
            raise InputError("is damaged (a compressed row does not have the picture's width)")
        row[filled : filled + count] = part
        at, filled = at + 1 + copied, filled + count
    return row
