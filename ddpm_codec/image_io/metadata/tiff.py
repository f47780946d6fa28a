"""Metadata of a TIFF file: the tags of its directory that do not say how pixels are stored.

Everything that describes the picture is kept as EXIF, private tags included: the tags that hold other kinds of metadata and
the density have keys of their own. A MakerNote is kept as bytes: offsets in it count from places that only its maker knows,
and may point elsewhere once it stands in another file.
"""

import struct
from fractions import Fraction
from typing import Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.density import density
from ddpm_codec.image_io.metadata.exif import exif_bytes
from ddpm_codec.image_io.metadata.found import in_order
from ddpm_codec.image_io.metadata.ifd import IFD, IFD8, RATIONAL, Directory, Note
from ddpm_codec.picture import MetadataKey

ICC, XMP, IPTC = 34675, 700, 33723
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
DESCRIPTION: Final = 270
ORIENTATION: Final = 274

OWN_KEYS: Final[dict[int, MetadataKey]] = {ICC: "icc", XMP: "xmp", IPTC: "iptc"}
RESOLUTION: Final = frozenset({X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT})
RANGE: Final = frozenset({280, 281, 340, 341})
"""Smallest and largest sample value: true only as long as samples are neither inverted nor scaled."""
STRUCTURAL: Final = frozenset(
    {
        *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 288, 289, 292, 293),
        *(317, 320, 322, 323, 324, 325, 326, 327, 328, 330, 332, 334, 336, 338, 339, 347),
        *(512, 513, 514, 515, 517, 518, 519, 520, 521, 530, 559),
        *(32997, 32998, 50674),
    }
)
"""Tags that say how and where pixels are stored, from NewSubfileType to LercParameters."""
OF_YCBCR: Final = frozenset({529, 531, 532})
"""Tags that do so in a file of YCbCr. Elsewhere they tell of an earlier file, as in EXIF of JPEG, and are kept."""
PHOTOMETRIC: Final = 262
YCBCR: Final = 6

_UNITS: Final = {1: "none", 2: "inch", 3: "cm"}
_INCH: Final = 2


def metadata_of_directory(
    directory: Directory, note: Note, *, changed_samples: bool = False
) -> dict[MetadataKey, bytes]:
    """Return the metadata of a picture in a TIFF file.

    Args:
        directory: the picture's.
        note: takes a line for each piece that is left out.
        changed_samples: samples are not kept as they are stored but inverted or scaled.
    """
    found: dict[MetadataKey, bytes] = {}
    described = Directory(directory.order, children=directory.children)
    structural = STRUCTURAL | (OF_YCBCR if _is_ycbcr(directory) else frozenset())
    for entry in directory.entries:
        if entry.tag in OWN_KEYS:
            if entry.value:
                found[OWN_KEYS[entry.tag]] = entry.value
        elif entry.tag in structural or entry.tag in RESOLUTION:
            continue
        elif entry.type in (IFD, IFD8):
            note(f"tag {entry.tag} points to a directory and is left out")
        elif changed_samples and entry.tag in RANGE:
            note(f"tag {entry.tag}, a limit of the samples as they are stored, is left out")
        else:
            described.entries.append(entry)
    exif = exif_bytes(described, note)
    if exif:
        found["exif"] = exif
    text = density_of(directory, note)
    if text:
        found["density"] = text
    return in_order(found)


def density_of(directory: Directory, note: Note) -> bytes:
    """Return the density that a directory tells; empty if it tells none.

    Args:
        directory: a directory.
        note: takes a line if the density is damaged.
    """
    if directory.find(X_RESOLUTION) is None and directory.find(Y_RESOLUTION) is None:
        return b""
    try:
        across, down = _rational(directory, X_RESOLUTION), _rational(directory, Y_RESOLUTION)
        unit = _UNITS.get(directory.integer(RESOLUTION_UNIT, _INCH))
    except InputError:
        unit = None
    if unit is None:
        note("the density is damaged and left out")
        return b""
    return density(across, down, unit)


def _is_ycbcr(directory: Directory) -> bool:
    photometric = directory.find(PHOTOMETRIC)
    return photometric is not None and directory.integer(PHOTOMETRIC, 0) == YCBCR


def _rational(directory: Directory, tag: int) -> Fraction:
    """Return the value of a tag; 0 where its denominator is 0.

    Raises:
        InputError: it is not there, or not a rational or an integer.
    """
    entry = directory.find(tag)
    if entry is None or entry.count != 1:
        raise InputError(f"tag {tag} does not have one value")
    if entry.type != RATIONAL:
        return Fraction(directory.integer(tag, 0))
    numerator, denominator = struct.unpack(directory.order + "II", entry.value)
    return Fraction(numerator, denominator) if denominator else Fraction(0)
