"""Photoshop files: the composite picture, 8 bits a channel."""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers.simple import allowed, file_metadata, read_exactly
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Palette, Picture, PictureInfo, check_name

_MODES: Final = {1: "L", 2: "P", 3: "RGB", 4: "CMYK", 9: "LAB"}
_OTHER_MODES: Final = {0: "bitmap", 7: "multichannel", 8: "duotone"}
_CHANNELS: Final = {"L": 1, "P": 1, "RGB": 3, "CMYK": 4, "LAB": 3}
_WITH_ALPHA: Final = {"L": "LA", "RGB": "RGBA"}
_PALETTE_BYTES: Final = 768
_TRANSPARENT_INDEX: Final = 1047
_VERSION_INFO: Final = 1057
_RAW, _PACK_BITS = 0, 1


@dataclass(frozen=True)
class _Header:
    """What stands before the composite.

    Attributes:
        mode: the picture's mode.
        layers: how many layers there are beside the composite.
        start: offset of the composite.
    """

    mode: str
    size: tuple[int, int]
    channels: int
    palette: bytes
    transparent: int | None
    layers: int
    start: int


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    found = _header(file)
    return Header("PSD", found.size, 1 + found.layers, "pictures (the composite and its layers)")


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    found = _header(file)
    check_name(name)
    samples = _composite(file, found)
    if found.mode == "CMYK":
        samples = 255 - samples
    if found.mode == "LAB":
        # Pillow's modes have a and b as signed numbers, Photoshop adds 128.
        samples = samples ^ np.array([0, 128, 128], np.uint8)
    palette = Palette(3, found.palette) if found.mode == "P" else None
    metadata, notes = file_metadata(file, "PSD")
    info = PictureInfo(name, found.mode, found.size, palette, found.transparent, metadata)
    return ReadPicture(Picture(info, samples.tobytes()), notes)


def _header(file: BinaryIO) -> _Header:
    file.seek(0)
    _, version, channels, height, width, depth, kind = struct.unpack(">4sH6xHIIHH", read_exactly(file, 26))
    allowed(version, (1,), "is a PSB, a large document of Photoshop, which is not read")
    allowed(depth, (8,), f"has {depth} bits per sample; of PSD only 8 are read")
    allowed(kind, _MODES, f"is a {_OTHER_MODES.get(kind, 'PSD of unknown')} picture, which is not read of PSD")
    palette = _section(file)
    if kind == 2 and len(palette) != _PALETTE_BYTES:
        raise InputError("is damaged (it has no palette)")
    transparent = _resources(_section(file))
    layers, merged_alpha = _layers(file)
    mode = _MODES[kind]
    if channels == _CHANNELS[mode] + 1 and merged_alpha and mode in _WITH_ALPHA:
        mode = _WITH_ALPHA[mode]
    elif channels != _CHANNELS[mode]:
        raise InputError(f"has {channels} channels; {abs(channels - _CHANNELS[mode])} beside {mode} would be lost")
    interleaved = np.frombuffer(palette[:_PALETTE_BYTES], np.uint8).reshape(3, -1).T.tobytes() if kind == 2 else b""
    transparent = transparent if kind == 2 else None
    return _Header(mode, (width, height), channels, interleaved, transparent, layers, file.tell())


def _section(file: BinaryIO) -> bytes:
    (length,) = struct.unpack(">I", read_exactly(file, 4))
    at = file.tell()
    if at + length > file.seek(0, 2):
        raise InputError("is damaged (the file ends too early)")
    file.seek(at)
    return read_exactly(file, length)


def _resources(data: bytes) -> int | None:
    """Look through the image resources; return the index of the transparent colour.

    Raises:
        InputError: they are damaged, or say that the composite is only a placeholder.
    """
    at, transparent = 0, None
    while at + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        at += 6 + (data[at + 6] + 2) // 2 * 2
        if at + 4 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 4 + length]
        if number == _VERSION_INFO and len(body) > 4 and not body[4]:
            raise InputError("was saved without a composite; its layers would be lost")
        if number == _TRANSPARENT_INDEX and len(body) >= 2:
            (transparent,) = struct.unpack_from(">H", body)
        at += 4 + length + length % 2
    return transparent if transparent is not None and transparent < 256 else None


def _layers(file: BinaryIO) -> tuple[int, bool]:
    """Return how many layers there are, and whether the composite's last channel is its transparency."""
    data = _section(file)
    if len(data) < 6 or not struct.unpack_from(">I", data)[0]:
        return 0, False
    (count,) = struct.unpack_from(">h", data, 4)
    return abs(count), count < 0


def _composite(file: BinaryIO, found: _Header) -> NDArray[np.uint8]:
    """Return the samples of the composite, [height, width, channels]."""
    width, height = found.size
    file.seek(found.start)
    (compression,) = struct.unpack(">H", read_exactly(file, 2))
    rows = found.channels * height
    if compression == _RAW:
        data = read_exactly(file, rows * width)
    elif compression == _PACK_BITS:
        lengths = struct.unpack(f">{rows}H", read_exactly(file, 2 * rows))
        unpacked = []
        for length in lengths:
            row = imagecodecs.packbits_decode(read_exactly(file, length))
            if len(row) != width:
                raise InputError("is damaged (a compressed row has another length than the picture is wide)")
            unpacked.append(row)
        data = b"".join(unpacked)
    else:
        raise InputError(f"has a composite of compression {compression}, which is not read")
    return np.frombuffer(data, np.uint8).reshape(found.channels, height, width).transpose(1, 2, 0)
