"""Writes TIFF files: pixels by tifffile, then one directory that holds their tags and all metadata as they are stored.

What is written is read again, pixels and every entry, before it counts as written. A picture that Pillow could hold must
open in Pillow as well.
"""

import io
import struct
from dataclasses import replace
from typing import Final

from PIL import ImageOps

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import colours, palette_of, pixels_of, to_image
from ddpm_codec.image_io.metadata.ifd import CHILDREN, LONG, SHORT, Directory, Entry, Order, TiffReader
from ddpm_codec.image_io.metadata.tiff import ORIENTATION, PHOTOMETRIC, STRUCTURAL
from ddpm_codec.image_io.pillow import opened
from ddpm_codec.image_io.readers import tiff as reader
from ddpm_codec.image_io.writers.tiff_pixels import (
    TIFF_MODES,
    Packing,
    bits_of,
    colour_map,
    needs_big,
    packings_of,
    write_pixels,
)
from ddpm_codec.image_io.writers.tiff_tags import tags_of
from ddpm_codec.picture import MetadataKey, Picture, PictureInfo

_ORDERS: Final[dict[str, Order]] = {"I;16": "<", "I;16B": ">"}
"""Byte orders that tell modes apart."""
_COLOUR_MAP: Final = 320
_PALETTE: Final = 3
_FIRST_AT: Final = {False: 4, True: 8}
_OPENED_BY_PILLOW: Final = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"}
)


def holds_tiff(info: PictureInfo) -> bool:
    """Whether TIFF holds pictures of a mode, white value and palette."""
    opaque = info.transparency is None and (info.palette is None or info.palette.channels == 3)
    return info.mode in TIFF_MODES and bits_of(info) is not None and opaque


def write_tiff(picture: Picture, metadata: dict[MetadataKey, bytes]) -> tuple[bytes, list[str]]:
    """Return a picture as a TIFF file, and a line for each piece of metadata that it does not hold.

    Args:
        picture: the picture; its own metadata do not count.
        metadata: the metadata to write.

    Raises:
        InputError: TIFF does not hold the picture.
    """
    if not holds_tiff(picture.info):
        raise InputError(f"tiff cannot hold mode {picture.mode} exactly")
    notes: list[str] = []
    # tifffile packs samples of other widths right in this order alone.
    order = "<" if picture.info.white is not None else _ORDERS.get(picture.mode)
    tags = tags_of(metadata, order, notes.append, ycbcr=picture.mode == "YCbCr")
    base, packing = _smallest(picture, tags)
    if picture.mode in _OPENED_BY_PILLOW:
        tags = _accepted(picture, packing, tags, notes)
    file = _with_directory(base, picture, tags)
    _check(file, picture, tags)
    return file, notes


def _smallest(picture: Picture, tags: Directory) -> tuple[bytearray, Packing]:
    """Return the smallest file of the pixels that reads exactly, and how it is packed.

    Raises:
        InputError: there is none.
    """
    big = needs_big(picture, len(tags.to_bytes(0)))
    files = [(write_pixels(picture, packing, tags.order, big=big), packing) for packing in packings_of(picture)]
    files.sort(key=lambda pair: len(pair[0]))
    bare = Directory(tags.order)
    for file, packing in files:
        if _opens(_with_directory(file, picture, bare), picture, bare):
            return file, packing
    packing = Packing(compressed=False)
    file = write_pixels(picture, packing, tags.order, big=big)
    if not _opens(_with_directory(file, picture, bare), picture, bare):
        raise InputError(f"tiff cannot hold mode {picture.mode} exactly")
    return file, packing


def _with_directory(base: bytearray, picture: Picture, tags: Directory) -> bytes:
    """Return a file of pixels with its directory written anew, behind the pixels: its own tags and others."""
    source = TiffReader(io.BytesIO(base))
    written = source.directory(source.first, lambda _: None)
    entries = [entry for entry in written.entries if entry.tag in STRUCTURAL]
    if picture.mode == "PA":
        entries = [entry for entry in entries if entry.tag != PHOTOMETRIC]
        values = colour_map(picture).astype(tags.order + "u2").tobytes()
        entries.append(Entry(PHOTOMETRIC, SHORT, 1, struct.pack(tags.order + "H", _PALETTE)))
        entries.append(Entry(_COLOUR_MAP, SHORT, len(values) // 2, values))
    directory = Directory(tags.order, entries + tags.entries, tags.children)
    file = base + b"\0" * (len(base) % 2)
    struct.pack_into(tags.order + ("Q" if source.big else "I"), file, _FIRST_AT[source.big], len(file))
    return bytes(file + directory.to_bytes(len(file), big=source.big))


def _check(file: bytes, picture: Picture, tags: Directory) -> None:
    """Read a file again, pixels and entries.

    Raises:
        InputError: they are not what was to be written.
    """
    found = TiffReader(io.BytesIO(file))
    directory = found.directory(found.first, lambda _: None)
    kept = Directory(directory.order, [e for e in directory.entries if e.tag not in STRUCTURAL], directory.children)
    if not _shows(file, picture) or kept.to_bytes(0, big=True) != tags.to_bytes(0, big=True):
        raise InputError("tiff cannot hold this picture exactly")


def _shows(file: bytes, picture: Picture) -> bool:
    """Whether our own reader finds the picture in a file."""
    try:
        got = reader.read(io.BytesIO(file), picture.name).picture
    except InputError:
        return False
    return (
        (got.mode, got.size, got.info.white) == (picture.mode, picture.size, picture.info.white)
        and got.pixels == picture.pixels
        and colours(got.palette, None) == colours(picture.palette, None)
    )


def _opens(file: bytes, picture: Picture, tags: Directory) -> bool:
    """Whether the picture is in a file, for our own reader and, where it can, for Pillow."""
    if not _shows(file, picture):
        return False
    return (
        picture.mode not in _OPENED_BY_PILLOW or picture.info.white is not None or _opens_in_pillow(file, picture, tags)
    )


def _opens_in_pillow(file: bytes, picture: Picture, tags: Directory) -> bool:
    """Whether Pillow reads a file as the picture, turned as its orientation says."""
    try:
        with opened(file, "TIFF") as image:
            image.load()
            expected = to_image(Picture(replace(picture.info, metadata={}), picture.pixels))
            orientation = tags.find(ORIENTATION)
            if orientation is not None and orientation.type in (SHORT, LONG):
                expected.getexif()[ORIENTATION] = tags.integer(ORIENTATION, 1)
                ImageOps.exif_transpose(expected, in_place=True)
            same = (image.mode, image.size, pixels_of(image)) == (expected.mode, expected.size, pixels_of(expected))
            return same and (
                picture.palette is None or colours(palette_of(image), None) == colours(picture.palette, None)
            )
    except Exception:  # Pillow raises almost anything on tags that it cannot make sense of
        return False


def _accepted(picture: Picture, packing: Packing, tags: Directory, notes: list[str]) -> Directory:
    """Return the tags without those that keep Pillow from opening a file, tried one by one on a picture of one pixel."""
    if picture.info.white is not None:
        return tags
    info = replace(picture.info, size=(1, 1), metadata={})
    first = picture.pixels[: info.layout.byte_count((1, 1))]
    # A byte of mode 1 has further pixels behind the first, where a picture of one pixel has zeros.
    pixel = Picture(info, bytes([first[0] & 0x80]) if picture.mode == "1" else first)
    base = write_pixels(pixel, packing, tags.order, big=False)

    def opens(tried: Directory) -> bool:
        return _opens(_with_directory(base, pixel, tried), pixel, tried)

    if opens(tags):
        return tags
    kept = Directory(tags.order)
    for entry in tags.entries:
        if opens(Directory(tags.order, [entry])):
            kept.entries.append(entry)
        else:
            notes.append(f"tag {entry.tag} is left out: files that have it do not open in every reader")
    for tag, child in tags.children.items():
        if opens(Directory(tags.order, children={tag: child})):
            kept.children[tag] = child
        else:
            notes.append(f"the {CHILDREN[tag]} directory is left out: files that have it do not open in every reader")
    if not opens(kept):
        notes.append("all tags of metadata are left out: files that have them do not open in every reader")
        return Directory(tags.order)
    return kept
