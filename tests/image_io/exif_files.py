"""EXIF and directories of metadata put together by hand, and read by hand."""

import struct

from tests.image_io.tiffs import Row, directory, entries_at

LATIN = "Straße nach Nürnberg".encode("latin-1") + b"\0"


def short(order: str, *values: int) -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values)


def long(order: str, *values: int) -> bytes:
    return struct.pack(f"{order}{len(values)}I", *values)


def descriptive(order: str) -> list[Row]:
    """Tags of all kinds that say nothing of how pixels are stored."""
    geo = struct.pack(order + "3d", 0.5, 0.5, 0)
    return [
        (270, 2, len(LATIN), LATIN),
        (274, 3, 1, short(order, 6)),
        (305, 2, 4, b"abc\0"),
        (315, 2, 9, b"\xff\xfe\0\x01\x02bcd\0"),
        (316, 1, 5, b"host\0"),
        (33432, 2, 10, b"one\0two\0\0\0"),
        (33550, 12, 3, geo),
        (34735, 3, 4, short(order, 1, 1, 0, 0)),
        (40092, 1, 6, "abc".encode("utf-16-le")),
        (42112, 2, 8, b"<a>b</a>"),
        (65000, 7, 5, b"\x00\x01\x02\x03\x04"),
    ]


def exif_blob(order: str, rows: list[Row], children: bool = True) -> bytes:
    """Return EXIF with sub-directories, put together by hand."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    if not children:
        return mark + long(order, 8) + directory(rows, 8, order)
    inner = [
        (37386, 5, 1, long(order, 50, 1)),
        (37500, 7, 12, b"maker\0\x01\x02\x03\x04\x05\x06"),
        (37121, 7, 4, b"\x01\x02\x03\0"),
    ]
    interoperability: list[Row] = [(1, 2, 4, b"R98\0")]
    gps: list[Row] = [(0, 1, 4, b"\x02\x03\0\0"), (2, 5, 3, long(order, 48, 1, 30, 1, 5, 2))]

    def pointer(tag: int, at: int) -> Row:
        return tag, 4, 1, long(order, at)

    length = len(directory([*rows, pointer(34665, 0), pointer(34853, 0)], 8, order))
    exif_at = 8 + length
    exif_length = len(directory([*inner, pointer(40965, 0)], exif_at, order))
    inter_at = exif_at + exif_length
    gps_at = inter_at + len(directory(interoperability, inter_at, order))
    return (
        mark
        + long(order, 8)
        + directory([*rows, pointer(34665, exif_at), pointer(34853, gps_at)], 8, order)
        + directory([*inner, pointer(40965, inter_at)], exif_at, order)
        + directory(interoperability, inter_at, order)
        + directory(gps, gps_at, order)
    )


def all_entries(data: bytes, order: str, skip: tuple[int, ...] = ()) -> dict[tuple[int, ...], object]:
    """Return every entry of a TIFF structure by its path, as (type, count, value), read by hand."""
    found: dict[tuple[int, ...], object] = {}

    def walk(at: int, path: tuple[int, ...]) -> None:
        for tag, entry in entries_at(data, at, order).items():
            if tag in (34665, 34853, 40965):
                walk(struct.unpack(order + "I", entry[2])[0], (*path, tag))
            elif tag not in skip:
                found[*path, tag] = entry

    walk(struct.unpack_from(order + "I", data, 4)[0], ())
    return found
