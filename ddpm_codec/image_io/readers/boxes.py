"""Boxes of ISO base media files and of JPEG 2000 (ISO/IEC 14496-12, 4.2; 15444-1, I.4)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ddpm_codec.errors import InputError


class Box(NamedTuple):
    """A box: its type, and where its contents start and end in the file."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two offsets.

    Raises:
        InputError: one of them is cut short.
    """
    at = start
    while at < end:
        if at + 8 > end:
            raise InputError("is damaged (a box is cut short)")
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif length == 0:
            length = end - at
        if length < head or at + length > end:
            raise InputError(f"is damaged (its {kind.decode('latin-1')!r} box is cut short)")
        yield Box(kind, at + head, at + length)
        at += length


def children(data: bytes, parent: Box, skipped: int = 0) -> list[Box]:
    """Return the boxes in a box, behind ``skipped`` bytes of fields."""
    return list(boxes(data, parent.start + skipped, parent.end))


def only(found: list[Box], kind: bytes) -> Box | None:
    """Return the first box of a type."""
    return next((box for box in found if box.kind == kind), None)
