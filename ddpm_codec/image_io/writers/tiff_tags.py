"""Metadata as the entries of a TIFF directory."""

import struct
from fractions import Fraction
from typing import Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.density import Density, parse_density, same_density
from ddpm_codec.image_io.metadata.exif import parse_exif
from ddpm_codec.image_io.metadata.found import LABELS
from ddpm_codec.image_io.metadata.ifd import (
    ASCII,
    BYTE,
    IFD,
    IFD8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Directory,
    Entry,
    Note,
    Order,
)
from ddpm_codec.image_io.metadata.tiff import (
    DESCRIPTION,
    ICC,
    IPTC,
    OF_YCBCR,
    OWN_KEYS,
    RESOLUTION,
    RESOLUTION_UNIT,
    STRUCTURAL,
    X_RESOLUTION,
    XMP,
    Y_RESOLUTION,
    density_of,
)
from ddpm_codec.picture import MetadataKey

_UNITS: Final = {"none": (1, Fraction(1)), "inch": (2, Fraction(1)), "cm": (3, Fraction(1)), "m": (3, Fraction(1, 100))}
"""By the unit of a density: its number in TIFF, and the factor."""


def tags_of(metadata: dict[MetadataKey, bytes], order: Order | None, note: Note, *, ycbcr: bool) -> Directory:
    """Return the entries that hold metadata.

    Args:
        metadata: as :class:`~ddpm_codec.picture.PictureInfo` describes them.
        order: the byte order of the file; None: that of the EXIF, so that its bytes stay.
        note: takes a line for each piece that TIFF does not hold.
        ycbcr: the picture is YCbCr, of which some tags tell how it is stored.
    """
    directory = _exif_tags(metadata, note, ycbcr=ycbcr)
    directory = directory.in_order(order or directory.order)
    for tag, kind in ((ICC, UNDEFINED), (XMP, BYTE), (IPTC, UNDEFINED)):
        data = metadata.get(OWN_KEYS[tag])
        if data:
            directory.entries.append(Entry(tag, kind, len(data), data))
    if "comment" in metadata:
        _add_comment(directory, metadata["comment"], note)
    if "density" in metadata:
        _add_density(directory, metadata["density"], note)
    if "png" in metadata:
        note("tiff does not hold PNG chunks; they are left out")
    return directory


def _exif_tags(metadata: dict[MetadataKey, bytes], note: Note, *, ycbcr: bool) -> Directory:
    """Return the entries of EXIF, as they are stored there, that a TIFF file can have."""
    if not metadata.get("exif"):
        return Directory("<")
    try:
        exif = parse_exif(metadata["exif"], note)
    except InputError:
        note("the EXIF metadata of this picture are damaged and left out")
        return Directory("<")
    structural = STRUCTURAL | (OF_YCBCR if ycbcr else frozenset())
    result = Directory(exif.order, children=exif.children)
    layout = [entry.tag for entry in exif.entries if entry.tag in structural]
    if layout:
        note(f"tags of EXIF that would say how pixels are stored are left out: {', '.join(map(str, layout))}")
    for entry in exif.entries:
        key = OWN_KEYS.get(entry.tag)
        if entry.tag in structural:
            continue
        if entry.type in (IFD, IFD8):
            note(f"tag {entry.tag} of EXIF points to a directory and is left out")
        elif key is None or key not in metadata:
            result.entries.append(entry)
        elif metadata[key] != entry.value:
            note(f"tag {entry.tag} of EXIF is left out, since the picture has other {LABELS[key]} metadata as well")
    return result


def _add_comment(directory: Directory, comment: bytes, note: Note) -> None:
    """Add a comment as ImageDescription, if there is none."""
    value = comment + b"\0"
    found = directory.find(DESCRIPTION)
    if found is None:
        directory.entries.append(Entry(DESCRIPTION, ASCII, len(value), value))
    elif found.value.rstrip(b"\0") != comment.rstrip(b"\0"):
        note("the comment is left out, since EXIF has a description")


def _add_density(directory: Directory, data: bytes, note: Note) -> None:
    """Add a density, if EXIF has none."""
    told: list[str] = []
    if any(directory.find(tag) is not None for tag in (X_RESOLUTION, Y_RESOLUTION)):
        if not same_density(density_of(directory, told.append), data):
            note("the density is left out, since EXIF has another")
        return
    try:
        pair = _rationals(parse_density(data), directory.order)
    except (ValueError, struct.error):
        note("the density is left out: TIFF does not hold its numbers")
        return
    directory.entries = [entry for entry in directory.entries if entry.tag not in RESOLUTION]
    directory.entries += pair


def _rationals(density: Density, order: Order) -> list[Entry]:
    unit, factor = _UNITS[density.unit]
    values = [
        struct.pack(order + "II", value.numerator, value.denominator)
        for value in (density.across * factor, density.down * factor)
    ]
    return [
        Entry(X_RESOLUTION, RATIONAL, 1, values[0]),
        Entry(Y_RESOLUTION, RATIONAL, 1, values[1]),
        Entry(RESOLUTION_UNIT, SHORT, 1, struct.pack(order + "H", unit)),
    ]
