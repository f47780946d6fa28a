"""Pictures behind the first in a JPEG file: gain maps, stereo views, previews.

Most files tell by the Multi-Picture Format (CIPA DC-007) where they are; others just put them behind the end of the first.
"""

import re
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

_ENTRIES_TAG: Final = 0xB002
_ENTRY_BYTES: Final = 16
_MAX_ENTRIES: Final = 1000
_PREVIEWS: Final = frozenset({0x010001, 0x010002, 0x010003, 0x010004, 0x010005})
"""Types of large thumbnails: smaller copies of the first picture, as cameras store them for their screens."""

_START: Final = re.compile(rb"\0*(?=\xff\xd8\xff)")


class Behind(NamedTuple):
    """What follows the first picture: further pictures, previews of it, and bytes that are neither."""

    pictures: int
    previews: int
    other_bytes: int


def pictures_behind(data: bytes, end: int, index: bytes, index_at: int, end_of: Callable[[int], int | None]) -> Behind:
    """Count what follows the first picture of a file.

    Args:
        data: the whole file.
        end: offset behind the first picture.
        index: the contents of its APP2 segment with the index of pictures, behind its name; empty if there is none.
        index_at: offset of ``index`` in the file, which the offsets in it count from.
        end_of: returns the offset behind a picture that starts at an offset, None if it does not end.
    """
    kinds = {index_at + offset: kind for kind, offset in _entries(index)}
    starts = sorted(at for at in kinds if at >= end and data.startswith(b"\xff\xd8\xff", at))
    pictures = previews = covered = 0
    at = end
    while True:
        match = _START.match(data, at)
        following = match.end() if match else next((start for start in starts if start >= at), None)
        if following is None:
            return Behind(pictures, previews, len(data) - end - covered)
        if kinds.get(following) in _PREVIEWS:
            previews += 1
        else:
            pictures += 1
        stop = end_of(following) or len(data)
        covered += stop - following
        at = stop


def _entries(index: bytes) -> list[tuple[int, int]]:
    """Return type and offset of each picture but the first, as the index has them; nothing if it is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(index[:4])
    if order is None:
        return []
    try:
        (directory,) = struct.unpack_from(f"{order}I", index, 4)
        (count,) = struct.unpack_from(f"{order}H", index, directory)
        for number in range(count):
            tag, _, length, at = struct.unpack_from(f"{order}HHII", index, directory + 2 + 12 * number)
            if tag == _ENTRIES_TAG:
                total = min(length // _ENTRY_BYTES, _MAX_ENTRIES)
                found = [struct.unpack_from(f"{order}III", index, at + _ENTRY_BYTES * entry) for entry in range(total)]
                return [(kind & 0xFFFFFF, offset) for kind, _, offset in found if offset]
    except struct.error:
        pass
    return []
