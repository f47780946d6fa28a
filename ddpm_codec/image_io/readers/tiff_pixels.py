"""The pixels of a page of a TIFF file, strip by strip or tile by tile.

tifffile and imagecodecs decode. tifffile is given a directory of its own that holds nothing but tags that were checked: on
any other it reports oddities through ``logging``, which belongs to the program, and fills in what is missing.

Some decoders make up what their data lack. Such data are decoded again with bytes appended: these change nothing where the
data were whole. Of fax data, a second decoder must make the same.
"""

import io
import struct
from typing import Any, BinaryIO, Final

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.ifd import LONG8, Directory, Entry
from ddpm_codec.image_io.readers.tiff_jpeg import decode_jpeg
from ddpm_codec.image_io.readers.tiff_layout import (
    CCITT_RLE,
    CCITT_T4,
    CCITT_T6,
    JPEG,
    JPEG2000,
    LZW,
    RGB,
    WEBPS,
    YCBCR,
    Layout,
)

_DECODED: Final = frozenset({256, 257, 258, 259, 266, 277, 278, 284, 292, 293, 317, 322, 323, 338, 339})
"""Tags that decoding depends on, beside the meaning of samples and the places of strips and tiles."""
_PHOTOMETRIC, _TABLES = 262, 347
_FAX: Final = frozenset({CCITT_RLE, CCITT_T4, CCITT_T6})
_PROBES: Final = (bytes.fromhex("a53c96e1785ac31e") * 8, bytes.fromhex("5ac3691e87a53ce1") * 8)
# Codes of short runs, lines that begin with an end-of-line code, and pieces of codes that end what was cut anywhere.
_FAX_PROBES: Final = (
    *_PROBES,
    b"\xff" * 64,
    b"\x77\xb6" * 32,
    b"\0\x01\xff\x77\x0f\xb6" * 16,
    b"\0\x10\xff\x77\x0f\xb6" * 16,
    *(bytes((lead, 0xDB, 0x6F, 0xB7)) * 16 for lead in (0x2F, 0x5B, 0x8E, 0xB3, 0xCD, 0xF1)),
)
_HEADER_BYTES: Final = 16
_JPEG2000_SIZE: Final = b"\xff\x4f\xff\x51"


def decode_pixels(file: BinaryIO, page: Directory, layout: Layout) -> NDArray[Any]:
    """Return the samples of a page as they are stored.

    Args:
        file: the file.
        page: the directory.
        layout: what :func:`~ddpm_codec.image_io.readers.tiff_layout.layout_of` says of it.

    Returns:
        [height, width, channels] in the machine's byte order; JPEG-compressed YCbCr as RGB.

    Raises:
        InputError: the data are damaged or incomplete.
    """
    width, height = layout.size
    with tifffile.TiffFile(io.BytesIO(_without_pixels(page, layout, layout.offsets))) as tiff:
        decoder = tiff.pages.first
        if decoder.dtype is None:
            raise InputError(f"has samples of {layout.bits} bits, which are not read")
        planes, channels = (layout.samples, 1) if layout.planes else (1, layout.samples)
        samples = np.empty((planes, height, width, channels), decoder.dtype)
        for index in range(len(layout.offsets)):
            part, (plane, row, column) = _segment(decoder, _data(file, layout, index), index, page, layout)
            place = samples[plane, row : row + part.shape[0], column : column + part.shape[1]]
            place[...] = part[: place.shape[0], : place.shape[1]]
    if layout.compression in _FAX:
        _check_fax(file, page, layout, samples[0, ..., 0])
    return np.moveaxis(samples[..., 0], 0, -1) if layout.planes else samples[0]


def _data(file: BinaryIO, layout: Layout, index: int) -> bytes:
    file.seek(layout.offsets[index])
    data = file.read(layout.counts[index])
    if len(data) < layout.counts[index]:
        raise InputError("is damaged (the file ends before the end of its pixels)")
    return data


def _without_pixels(page: Directory, layout: Layout, offsets: tuple[int, ...]) -> bytes:
    """Return a BigTIFF file without pixels, whose only directory holds the tags that decoding depends on."""
    # Of YCbCr that is not JPEG, only what is not subsampled gets here, and its samples are stored like those of RGB.
    meaning = RGB if layout.photometric == YCBCR else layout.photometric
    tiled = page.find(322) is not None
    tags = {tag: page.integers(tag) for tag in _DECODED}
    tags |= {_PHOTOMETRIC: (meaning,), 324 if tiled else 273: offsets, 325 if tiled else 279: layout.counts}
    entries = [
        Entry(tag, LONG8, len(values), struct.pack(f"{page.order}{len(values)}Q", *values))
        for tag, values in tags.items()
        if values
    ]
    mark = (b"II" if page.order == "<" else b"MM") + struct.pack(page.order + "HHHQ", 43, 8, 0, _HEADER_BYTES)
    return mark + Directory(page.order, entries).to_bytes(_HEADER_BYTES, big=True)


def _segment(
    decoder: Any,  # noqa: ANN401 - a page of tifffile
    data: bytes,
    index: int,
    page: Directory,
    layout: Layout,
) -> tuple[NDArray[Any], tuple[int, int, int]]:
    """Decode a strip or tile.

    Returns:
        Its samples [height, width, channels], and where they belong: (plane, row, column).

    Raises:
        InputError: its data are damaged or incomplete.
    """
    try:
        _, place, shape = decoder.decode(None, index)
    except Exception as error:  # tifffile finds out here what it cannot decode
        raise InputError(f"is not read ({' '.join(str(error).split())[:200]})") from error
    at = place[0], place[2], place[3]
    if layout.compression == JPEG:
        found = page.find(_TABLES)
        tables = found.value if found is not None else b""
        ycbcr = layout.photometric == YCBCR
        part: NDArray[Any] = decode_jpeg(data, tables, shape[3], (shape[2], shape[1]), ycbcr=ycbcr)
        if part.shape[0] < min(shape[1], layout.size[1] - at[1]) or part.shape[1] < min(
            shape[2], layout.size[0] - at[2]
        ):
            raise InputError("is damaged (its JPEG data are smaller than its strips or tiles)")
        return part, at
    _check_size(data, shape, layout)
    part = _decoded(decoder, data, index)
    for probe in _FAX_PROBES if layout.compression in _FAX else _PROBES if layout.compression == LZW else ():
        # As bytes, since NaN is not equal to itself.
        if _decoded(decoder, data + probe, index).tobytes() != part.tobytes():
            raise InputError("is damaged (the data of a strip or tile end too early)")
    return part, at


def _decoded(decoder: Any, data: bytes, index: int) -> NDArray[Any]:  # noqa: ANN401 - a page of tifffile
    try:
        part: NDArray[Any] = decoder.decode(data, index)[0]
    except Exception as error:  # codecs and tifffile have errors of their own, of many kinds
        raise InputError(f"is damaged ({' '.join(str(error).split())[:200]})") from error
    return part[0]


def _check_size(data: bytes, shape: tuple[int, ...], layout: Layout) -> None:
    """Refuse compressed pictures of another size than their strip or tile, before their decoder makes room for them.

    Raises:
        InputError: the size differs, or cannot be told.
    """
    if layout.compression == JPEG2000:
        at = data.find(_JPEG2000_SIZE)
        words = struct.unpack_from(">8I", data, at + 8) if 0 <= at <= len(data) - 40 else (0,) * 8
        size = words[0] - words[2], words[1] - words[3]
    elif layout.compression in WEBPS:
        size = _webp_size(data)
    else:
        return
    if not (0 < size[0] <= shape[2] and 0 < size[1] <= shape[1]):
        raise InputError("is damaged (a compressed picture in it has another size than its strips or tiles)")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) by the header of a WebP file; zeros if it has none."""
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return 0, 0


def _check_fax(file: BinaryIO, page: Directory, layout: Layout, samples: NDArray[Any]) -> None:
    """Refuse fax data of which libtiff makes other pixels: what decoders do about damage differs.

    Raises:
        InputError: it does.
    """
    at = len(_without_pixels(page, layout, layout.offsets))
    offsets = tuple(at + sum(layout.counts[:index]) for index in range(len(layout.counts)))
    data = b"".join(_data(file, layout, index) for index in range(len(layout.counts)))
    try:
        second = imagecodecs.tiff_decode(_without_pixels(page, layout, offsets) + data)
    except Exception as error:
        raise InputError(f"is damaged ({' '.join(str(error).split())[:200]})") from error
    if not np.array_equal(second != 0, samples != 0):
        raise InputError("is damaged (two decoders make different pixels of its fax data)")
