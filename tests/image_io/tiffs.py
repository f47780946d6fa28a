"""TIFF files for tests: written by tifffile and Pillow, or put together by hand where these refuse."""

import io
import struct
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers import tiff as reader
from ddpm_codec.picture import Picture

Samples = NDArray[Any]
Order = Literal["<", ">"]
Row = tuple[int, int, int, bytes]
"""Tag, type, count, value."""

COMPRESSIONS = [None, "lzw", "adobe_deflate", "deflate", "lzma", "zstd", "packbits"]
_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 11: 4, 12: 8, 16: 8}


def read(data: bytes) -> Picture:
    found = reader.read(io.BytesIO(data), "x")
    assert reader.header(io.BytesIO(data)).size == found.picture.size
    return found.picture


def refused(data: bytes, message: str) -> None:
    for function in (lambda file: reader.read(file, "x"), reader.header):
        with pytest.raises(InputError, match=message) as caught:
            function(io.BytesIO(data))
        assert "\n" not in str(caught.value)


def samples(*shape: int, dtype: str = "u1", below: int = 0) -> Samples:
    """Return random samples of all values, or those below a limit; floats of both signs."""
    rng = np.random.default_rng(7)
    if dtype[-2] == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, below or np.iinfo(dtype).max, shape, np.dtype(dtype).newbyteorder("="), endpoint=not below)


def smooth(height: int = 40, width: int = 56) -> Samples:
    """Return RGB that lossy codecs take well."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, rows + columns], axis=-1).astype(np.uint8)


def tiff(array: Samples, *, big: bool = False, order: Order = "<", **options: Any) -> bytes:  # noqa: ANN401 - what tifffile takes
    """Return a file of one page, by tifffile."""
    out = io.BytesIO()
    with tifffile.TiffWriter(out, bigtiff=big, byteorder=order) as file:
        file.write(array, metadata=None, software=False, **options)
    return out.getvalue()


def by_pillow(image: Image.Image, **options: Any) -> bytes:  # noqa: ANN401 - what Pillow takes
    out = io.BytesIO()
    image.save(out, "TIFF", **options)
    return out.getvalue()


def directory(rows: list[Row], at: int, order: str, following: int = 0) -> bytes:
    """Return a directory and its values as they stand at an offset."""
    head = struct.pack(order + "H", len(rows))
    data, data_at = b"", at + 2 + 12 * len(rows) + 4
    for tag, kind, count, value in sorted(rows):
        field = value.ljust(4, b"\0")
        if len(value) > 4:
            field = struct.pack(order + "I", data_at + len(data))
            data += value + b"\0" * (len(value) % 2)
        head += struct.pack(order + "HHI", tag, kind, count) + field
    return head + struct.pack(order + "I", following) + data


def raw(
    pixels: bytes,
    size: tuple[int, int],
    *,
    order: str = "<",
    bits: tuple[int, ...] = (8,),
    photometric: int = 1,
    more: list[Row] | None = None,
    drop: tuple[int, ...] = (),
) -> bytes:
    """Return an uncompressed file of one strip, put together by hand.

    Args:
        pixels: its bytes.
        size: (width, height).
        order: byte order.
        bits: bits per sample, one of each channel.
        photometric: what samples mean.
        more: further entries; those of tags that are there already take their place.
        drop: tags to leave out.
    """

    def short(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}H", *values)

    def long(value: int) -> bytes:
        return struct.pack(order + "I", value)

    rows: list[Row] = [
        (256, 4, 1, long(size[0])),
        (257, 4, 1, long(size[1])),
        (258, 3, len(bits), short(*bits)),
        (259, 3, 1, short(1)),
        (262, 3, 1, short(photometric)),
        (273, 4, 1, long(8)),
        (277, 3, 1, short(len(bits))),
        (278, 4, 1, long(size[1])),
        (279, 4, 1, long(len(pixels))),
    ]
    given = {row[0] for row in more or []}
    rows = [row for row in rows if row[0] not in given and row[0] not in drop] + (more or [])
    at = 8 + len(pixels) + len(pixels) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + long(at)
    return head + pixels + b"\0" * (len(pixels) % 2) + directory(rows, at, order)


def entries(data: bytes) -> dict[int, tuple[int, int, bytes]]:
    """Return (type, count, value) of every tag in the first directory of a classic file, read by hand."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    return entries_at(data, at, order)


def entries_at(data: bytes, at: int, order: str) -> dict[int, tuple[int, int, bytes]]:
    """Return (type, count, value) of every tag in a directory."""
    (count,) = struct.unpack_from(order + "H", data, at)
    found = {}
    for index in range(count):
        start = at + 2 + 12 * index
        tag, kind, values = struct.unpack_from(order + "HHI", data, start)
        length = _UNIT_BYTES[kind] * values
        (offset,) = struct.unpack_from(order + "I", data, start + 8) if length > 4 else (start + 8,)
        found[tag] = kind, values, data[offset : offset + length]
    return found
