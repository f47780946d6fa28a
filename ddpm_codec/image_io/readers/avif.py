"""AVIF files (AV1 image file format 1.1): 8, 10 and 12 bits, grey or colour, with or without alpha, grids included."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import imagecodecs
import numpy as np

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.image_io.readers.boxes import Box, boxes, children, only
from ddpm_codec.image_io.readers.simple import file_metadata, picture_of
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import MetadataKey, Picture, PictureInfo, check_name

_PICTURES: Final = (b"av01", b"grid", b"iovl", b"tmap")
_ALPHA: Final = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_WIDE_MODES: Final = {(): "I;16", (2,): "LA;16", (3,): "RGB;16", (4,): "RGBA;16"}
_SRGB_PRIMARIES: Final = (1, 2)
_SRGB_TRANSFERS: Final = (1, 2, 6, 13)
_SEVERAL: Final = "pictures (frames, gain maps for HDR, other views)"


@dataclass
class _Items:
    """The items of a file: what they are, how they refer to each other, their properties."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)
    properties: dict[int, list[Box]] = field(default_factory=dict)

    def of(self, item: int, kind: bytes) -> list[Box]:
        """Return the properties of a type that an item has."""
        return [box for box in self.properties.get(item, []) if box.kind == kind]

    def to(self, kind: bytes, item: int) -> tuple[int, ...]:
        """Return the items that an item refers to."""
        return tuple(
            target for name, source, targets in self.references if (name, source) == (kind, item) for target in targets
        )


def header(file: BinaryIO) -> Header:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    file.seek(0)
    data = file.read()
    found = list(boxes(data, 0, len(data)))
    bits = _bits(data, found)
    white = None if bits == 8 else (1 << bits) - 1
    with opened(data, "AVIF") as image:
        pictures = int(getattr(image, "n_frames", 1)) + _further(data, _items(data, found))
        return Header("AVIF", image.size, pictures, _SEVERAL, bits=bits, white=white)


def read(file: BinaryIO, name: str) -> ReadPicture:
    """See :class:`~ddpm_codec.image_io.readers.Reader`."""
    file.seek(0)
    data = file.read()
    found = list(boxes(data, 0, len(data)))
    check_name(name)
    bits = _bits(data, found)
    metadata, notes = file_metadata(data, "AVIF")
    metadata = {**_colours(data, found), **metadata}
    with opened(data, "AVIF") as image:
        if bits == 8:
            return ReadPicture(picture_of(image, name, metadata), notes)
        size, frames = image.size, int(getattr(image, "n_frames", 1))
    if frames > 1:
        raise InputError(f"is a sequence of {bits} bits per colour sample; of sequences only 8 are read")
    samples = imagecodecs.avif_decode(data)
    mode = _WIDE_MODES.get(samples.shape[2:])
    if samples.dtype != np.uint16 or samples.shape[:2] != size[::-1] or mode is None:
        raise InputError("is damaged (its samples are not what the header says)")
    info = PictureInfo(name, mode, size, None, None, metadata, (1 << bits) - 1)
    return ReadPicture(Picture(info, samples.astype("<u2").tobytes()), notes)


def _items(data: bytes, found: list[Box]) -> _Items:
    """Read the item information in the ``meta`` box; there is none in a file that is only a sequence."""
    items = _Items()
    meta = only(found, b"meta")
    if meta is None:
        return items
    inside = children(data, meta, 4)
    primary, information = only(inside, b"pitm"), only(inside, b"iinf")
    references, properties = only(inside, b"iref"), only(inside, b"iprp")
    if primary is None or information is None or properties is None:
        raise InputError("is damaged (it does not say which picture is its first)")
    items.primary = _number(data, primary.start + 4, 4 if data[primary.start] else 2)
    for box in children(data, information, 8 if data[information.start] else 6):
        wide = 4 if data[box.start] >= 3 else 2
        item = _number(data, box.start + 4, wide)
        items.kinds[item] = data[box.start + 6 + wide : box.start + 10 + wide]
        if data[box.start + 3] & 1:
            items.hidden.add(item)
    if references is not None:
        wide = 4 if data[references.start] else 2
        for box in children(data, references, 4):
            count = _number(data, box.start + wide, 2)
            targets = tuple(_number(data, box.start + wide + 2 + wide * index, wide) for index in range(count))
            items.references.append((box.kind, _number(data, box.start, wide), targets))
    items.properties = dict(_associations(data, children(data, properties)))
    return items


def _associations(data: bytes, inside: list[Box]) -> Iterator[tuple[int, list[Box]]]:
    """Yield each item and its properties (ISO/IEC 23008-12, 9.3)."""
    container, associations = only(inside, b"ipco"), only(inside, b"ipma")
    if container is None or associations is None:
        raise InputError("is damaged (its pictures have no properties)")
    properties = children(data, container)
    version, wide_index = data[associations.start], bool(data[associations.start + 3] & 1)
    at = associations.start + 8
    for _ in range(_number(data, associations.start + 4, 4)):
        length = 4 if version else 2
        item, count = _number(data, at, length), _number(data, at + length, 1)
        at += length + 1
        indices = []
        for _ in range(count):
            indices.append(_number(data, at, 2) & 0x7FFF if wide_index else _number(data, at, 1) & 0x7F)
            at += 2 if wide_index else 1
        yield item, [properties[index - 1] for index in indices if 1 <= index <= len(properties)]


def _number(data: bytes, at: int, length: int) -> int:
    if at + length > len(data):
        raise InputError("is damaged (a box is cut short)")
    return int.from_bytes(data[at : at + length], "big")


def _bits(data: bytes, found: list[Box]) -> int:
    """Return the bits of a sample.

    Raises:
        InputError: the first picture is cropped, layered or has colours multiplied by alpha, which would be lost.
    """
    items, configurations = _items(data, found), []
    first = items.primary
    if first:
        coded = (first, *items.to(b"dimg", first))
        configurations = [data[box.start : box.end] for item in coded for box in items.of(item, b"av1C")]
        if items.kinds.get(first) not in (b"av01", b"grid"):
            raise InputError("has a first picture that is not coded as AV1")
        if items.of(first, b"clap"):
            raise InputError("has a crop (clean aperture), which would be lost")
        if items.of(first, b"lsel") or items.of(first, b"a1op"):
            raise InputError("has a picture of several layers, which is not read")
        if any(kind == b"prem" for kind, _, _ in items.references):
            raise InputError("has colours multiplied by alpha, which is not read of AVIF")
    for box in found:
        if box.kind == b"moov":
            at = data.find(b"av1C", box.start, box.end)
            while at >= 0:
                configurations.append(data[at + 4 : at + 8])
                at = data.find(b"av1C", at + 4, box.end)
    flags = [body[2] for body in configurations if len(body) >= 3]
    if not flags:
        raise InputError("is damaged (it does not say how many bits its samples have)")
    return max(12 if flag & 0x20 else 10 if flag & 0x40 else 8 for flag in flags)


def _further(data: bytes, items: _Items) -> int:
    """Count the pictures beside the first: gain maps, depth maps, other views; no alpha, tiles or thumbnails."""
    alpha = {
        item
        for item in items.properties
        for box in items.of(item, b"auxC")
        if data[box.start + 4 : box.end].split(b"\0")[0] in _ALPHA
    }
    auxiliary = {source for kind, source, _ in items.references if kind == b"auxl"}
    thumbnails = {source for kind, source, _ in items.references if kind == b"thmb"}
    parts = {target for kind, _, targets in items.references if kind == b"dimg" for target in targets}
    count = 0
    for item, kind in items.kinds.items():
        if item == items.primary or kind not in _PICTURES or item in alpha | thumbnails | parts:
            continue
        if item not in items.hidden or item in auxiliary or kind == b"tmap":
            count += 1
    return count


def _colours(data: bytes, found: list[Box]) -> dict[MetadataKey, bytes]:
    """Return the colour space as a ``cICP`` chunk of PNG, if it is not the one that is meant where nothing is said."""
    items = _items(data, found)
    for box in items.of(items.primary, b"colr"):
        if data[box.start : box.start + 4] == b"nclx" and box.end - box.start >= 10:
            primaries, transfer = struct.unpack_from(">HH", data, box.start + 4)
            if primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS:
                # Full-range RGB, which the samples are after decoding.
                return {"png": struct.pack(">I4s4B", 4, b"cICP", primaries & 255, transfer & 255, 0, 1)}
    return {}
