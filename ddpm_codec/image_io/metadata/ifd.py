"""Directories (IFDs) of TIFF files and of EXIF, with every value as the bytes that are stored.

Sources: TIFF 6.0, Adobe 1992, section 2; BigTIFF, Aware Systems 2004; Exif 2.32, section 4.6.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final, Literal

import numpy as np

from ddpm_codec.errors import InputError

Order = Literal["<", ">"]

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, IFD, LONG8, SLONG8, IFD8 = 1, 2, 3, 4, 5, 7, 13, 16, 17, 18
_UNIT_BYTES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 4,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of what is swapped as a whole between byte orders; a rational is two of them."""
_PAIRS: Final = frozenset({5, 10})
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
CHILDREN: Final = {EXIF: "EXIF", GPS: "GPS", INTEROPERABILITY: "interoperability"}
"""Tags that point to a directory of metadata, and what messages call it."""
_MAX_DEPTH: Final = 3

Note = Callable[[str], None]


def type_bytes(kind: int) -> int:
    """Return the bytes of one value of a type; 0 if the type is unknown."""
    return _UNIT_BYTES.get(kind, 0) * (2 if kind in _PAIRS else 1)


@dataclass(frozen=True)
class Entry:
    """One entry of a directory.

    Attributes:
        tag: its number.
        type: the type of its values, by TIFF's number.
        count: how many values it has.
        value: them, as they are stored.
    """

    tag: int
    type: int
    count: int
    value: bytes

    def swapped(self) -> "Entry":
        """Return the entry in the other byte order; bytes, text and values without a type stay."""
        unit = _UNIT_BYTES[self.type]
        value = np.frombuffer(self.value, f"<u{unit}").byteswap().tobytes() if unit > 1 else self.value
        return replace(self, value=value)


@dataclass
class Directory:
    """A directory.

    Attributes:
        order: byte order of its values.
        entries: in the order of the file, without those that point to ``children``.
        children: directories of metadata, by the tag that points to them.
        next: offset of the directory that follows; 0: none.
    """

    order: Order
    entries: list[Entry] = field(default_factory=list)
    children: "dict[int, Directory]" = field(default_factory=dict)
    next: int = 0

    def find(self, tag: int) -> Entry | None:
        """Return the first entry of a tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the values of a tag of unsigned integers, ``default`` if it is not there.

        Raises:
            InputError: the values have another type.
        """
        entry = self.find(tag)
        if entry is None:
            return default
        if entry.type not in _INTEGERS:
            raise InputError(f"is damaged (tag {tag} has type {entry.type}, not integers)")
        return struct.unpack(f"{self.order}{entry.count}{_INTEGERS[entry.type]}", entry.value)

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of a tag of unsigned integers.

        Raises:
            InputError: the values have another type, or there are none.
        """
        values = self.integers(tag, (default,))
        if not values:
            raise InputError(f"is damaged (tag {tag} is empty)")
        return values[0]

    def in_order(self, order: Order) -> "Directory":
        """Return the directory in a byte order."""
        children = {tag: child.in_order(order) for tag, child in self.children.items()}
        entries = self.entries if order == self.order else [entry.swapped() for entry in self.entries]
        return Directory(order, list(entries), children)

    def to_bytes(self, offset: int, *, big: bool = False, following: int = 0) -> bytes:
        """Return the directory, its values and its children as they stand in a file, even in length.

        Args:
            offset: where in the file they stand; even.
            big: the file is a BigTIFF.
            following: what to write as offset of the next directory.

        Raises:
            InputError: an offset needs more than 32 bits, and the file is no BigTIFF.
        """
        counts, slot = ("Q", 8) if big else ("H", 4)
        rows: list[Entry | int] = sorted(
            [*self.entries, *(tag for tag, child in self.children.items() if child.entries or child.children)],
            key=lambda row: row.tag if isinstance(row, Entry) else row,
        )
        head = struct.pack(self.order + counts, len(rows))
        data = bytearray()
        data_at = offset + len(head) + len(rows) * (4 + 2 * slot) + slot
        for row in rows:
            if isinstance(row, Entry):
                entry = row
                value = row.value.ljust(slot, b"\0")
                if len(row.value) > slot:
                    value = self._offset(data_at + len(data), big=big)
                    data += row.value + b"\0" * (len(row.value) % 2)
            else:
                value = self._offset(data_at + len(data), big=big)
                entry = Entry(row, IFD8 if big else LONG, 1, b"")
                data += self.children[row].to_bytes(data_at + len(data), big=big)
            head += struct.pack(self.order + "HH" + ("Q" if big else "I"), entry.tag, entry.type, entry.count) + value
        return head + self._offset(following, big=big) + bytes(data)

    def _offset(self, offset: int, *, big: bool) -> bytes:
        if not big and offset >= 1 << 32:
            raise InputError("is too large for a TIFF file with offsets of 32 bits")
        return struct.pack(self.order + ("Q" if big else "I"), offset)


class TiffReader:
    """Reads directories from a TIFF file or an EXIF structure.

    Attributes:
        order: its byte order.
        big: whether it is a BigTIFF, with offsets of 64 bits.
        size: its length in bytes.
        first: offset of its first directory.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read the header.

        Args:
            file: a seekable file.

        Raises:
            InputError: it has no header of TIFF.
        """
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(16)
        self.order: Order = "<" if head[:2] == b"II" else ">"
        version = head[2:4] if self.order == ">" else head[3:1:-1]
        if head[:2] not in (b"II", b"MM") or version not in (b"\0*", b"\0+"):
            raise InputError("is damaged (it has no TIFF header)")
        self.big = version == b"\0+"
        if len(head) < (16 if self.big else 8) or (self.big and head[4:8] != struct.pack(self.order + "HH", 8, 0)):
            raise InputError("is damaged (its TIFF header is incomplete)")
        self.first: int = struct.unpack_from(self.order + ("Q" if self.big else "I"), head, 8 if self.big else 4)[0]
        # Values that overlap could multiply a small file; those of a sound one do not.
        self._budget = 2 * self.size + (1 << 16)

    def bytes_at(self, offset: int, length: int) -> bytes | None:
        """Return bytes of the file; None if they are not all inside."""
        if offset + length > self.size:
            return None
        self._file.seek(offset)
        data = self._file.read(length)
        return data if len(data) == length else None

    def directory(self, offset: int, note: Note, depth: int = 0) -> Directory:
        """Read a directory with its children.

        Args:
            offset: where it stands.
            note: takes a line for each entry that is damaged and left out.
            depth: how many directories lead to it.

        Raises:
            InputError: it does not lie inside the file.
        """
        counts, slot = ("Q", 8) if self.big else ("H", 4)
        width = 4 + 2 * slot
        head = self.bytes_at(offset, struct.calcsize(counts))
        count = struct.unpack(self.order + counts, head)[0] if head else 0
        rows = self.bytes_at(offset + len(head), count * width) if head and count * width <= self.size else None
        if not head or rows is None:
            raise InputError("is damaged (a directory does not lie inside the file)")
        after = self.bytes_at(offset + len(head) + len(rows), slot)
        if after is None:
            raise InputError("is damaged (a directory does not lie inside the file)")
        result = Directory(self.order, next=struct.unpack(self.order + ("Q" if self.big else "I"), after)[0])
        for at in range(0, len(rows), width):
            self._add(result, rows[at : at + width], slot, note, depth)
        return result

    def _add(self, directory: Directory, row: bytes, slot: int, note: Note, depth: int) -> None:
        """Take over one entry, or leave it out with a note."""
        tag, kind, count = struct.unpack_from(self.order + "HH" + ("Q" if self.big else "I"), row)
        length = type_bytes(kind) * count
        value: bytes | None = row[-slot:][:length]
        if length > slot:
            at = struct.unpack(self.order + ("Q" if self.big else "I"), row[-slot:])[0]
            self._budget -= length
            value = self.bytes_at(at, length) if self._budget >= 0 else None
        if not type_bytes(kind) or value is None:
            why = f"has the unknown type {kind}" if not type_bytes(kind) else "does not lie inside the file"
            note(f"tag {tag} {why} and is left out")
            return
        entry = Entry(tag, kind, count, value)
        if tag in CHILDREN and depth < _MAX_DEPTH:
            self._add_child(directory, entry, note, depth)
        elif directory.find(tag) is not None:
            note(f"tag {tag} stands twice; the second is left out")
        else:
            directory.entries.append(entry)

    def _add_child(self, directory: Directory, entry: Entry, note: Note, depth: int) -> None:
        name = CHILDREN[entry.tag]
        try:
            (offset,) = Directory(self.order, [entry]).integers(entry.tag)
            if entry.tag in directory.children:
                raise InputError("stands twice")
            directory.children[entry.tag] = self.directory(offset, note, depth + 1)
        except (InputError, ValueError):
            note(f"the {name} directory is damaged and left out")
