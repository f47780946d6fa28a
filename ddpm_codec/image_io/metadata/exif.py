"""EXIF as a structure of directories, and back."""

import io
import struct
from typing import Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.ifd import IFD8, LONG, LONG8, Directory, Entry, Note, TiffReader

_HEADER_BYTES: Final = 8


def parse_exif(data: bytes, note: Note) -> Directory:
    """Read EXIF metadata, a TIFF structure without the prefix ``Exif``.

    Args:
        data: the structure.
        note: takes a line for each entry that is damaged and left out, and for a thumbnail.

    Raises:
        InputError: it is none.
    """
    reader = TiffReader(io.BytesIO(data))
    directory = reader.directory(reader.first, note)
    if directory.next:
        note("the thumbnail in EXIF is left out")
    return directory


def exif_bytes(directory: Directory, note: Note) -> bytes:
    """Return a directory as EXIF metadata, empty if nothing is in it.

    Entries keep type, count and bytes. Integers of 64 bits, which only BigTIFF has, become those of 32 bits.

    Args:
        directory: the first directory.
        note: takes a line for each entry that is left out because its values need 64 bits.
    """
    classic = _classic(directory, note)
    if not classic.entries and not classic.children:
        return b""
    mark = b"II*\0" if classic.order == "<" else b"MM\0*"
    return mark + struct.pack(classic.order + "I", _HEADER_BYTES) + classic.to_bytes(_HEADER_BYTES)


def _classic(directory: Directory, note: Note) -> Directory:
    result = Directory(directory.order)
    for entry in directory.entries:
        if entry.type < LONG8:
            result.entries.append(entry)
            continue
        try:
            if entry.type not in (LONG8, IFD8):
                raise InputError("signed")
            values = directory.integers(entry.tag)
            narrow = struct.pack(f"{directory.order}{len(values)}I", *values)
        except (InputError, struct.error):
            note(f"tag {entry.tag} has values of 64 bits and is left out")
        else:
            result.entries.append(Entry(entry.tag, LONG, entry.count, narrow))
    for tag, child in directory.children.items():
        found = _classic(child, note)
        if found.entries or found.children:
            result.children[tag] = found
    return result
