"""Metadata of TIFF files are kept byte for byte: files and expectations are put together by hand."""

import io
import struct

import pytest

from ddpm_codec.image_io.metadata.exif import exif_bytes, parse_exif
from ddpm_codec.image_io.metadata.ifd import Directory, Entry
from ddpm_codec.image_io.readers import tiff as reader
from ddpm_codec.image_io.stored import ReadPicture
from tests.image_io.exif_files import all_entries, descriptive, exif_blob, long, short
from tests.image_io.metadata_files import ICC, IPTC, XMP
from tests.image_io.tiffs import Row, raw, samples, tiff

PIXELS = samples(9, 14).tobytes()


def read(data: bytes) -> ReadPicture:
    return reader.read(io.BytesIO(data), "x")


@pytest.mark.parametrize("order", ["<", ">"])
def test_descriptive_tags_are_kept_as_bytes(order: str) -> None:
    rows = descriptive(order)
    found = read(raw(PIXELS, (14, 9), order=order, more=rows))
    assert found.notes == ()
    exif = found.picture.metadata["exif"]
    assert all_entries(exif, order) == {(tag,): (kind, count, value) for tag, kind, count, value in rows}
    assert set(found.picture.metadata) == {"exif"}


@pytest.mark.parametrize("order", ["<", ">"])
def test_other_kinds_have_keys_of_their_own(order: str) -> None:
    iptc = IPTC.ljust(-(-len(IPTC) // 4) * 4, b"\0")
    rows = [
        (34675, 7, len(ICC), ICC),
        (700, 1, len(XMP), XMP),
        (33723, 4, len(iptc) // 4, iptc),  # typed LONG, as Photoshop does: the bytes are meant
        (282, 5, 1, long(order, 3000001, 10000)),
        (283, 5, 1, long(order, 600, 2)),
        (296, 3, 1, short(order, 3)),
    ]
    found = read(raw(PIXELS, (14, 9), order=order, more=rows))
    assert found.notes == ()
    expected = {"icc": ICC, "xmp": XMP, "iptc": iptc, "density": b"3000001/10000 300 cm"}
    assert found.picture.metadata == expected


@pytest.mark.parametrize(
    ("rows", "density", "notes"),
    [
        ([(282, 5, 1, long("<", 72, 1)), (283, 5, 1, long("<", 72, 1))], b"72 72 inch", 0),
        ([(282, 5, 1, long("<", 72, 1))], None, 1),
        ([(282, 5, 1, long("<", 0, 0)), (283, 5, 1, long("<", 0, 0))], None, 0),
        ([(282, 2, 3, b"72\0"), (283, 5, 1, long("<", 72, 1))], None, 1),
        ([(282, 5, 1, long("<", 1, 1)), (283, 5, 1, long("<", 1, 1)), (296, 3, 1, short("<", 1))], None, 0),
        ([(282, 5, 1, long("<", 2, 1)), (283, 5, 1, long("<", 1, 1)), (296, 3, 1, short("<", 1))], b"2 1 none", 0),
    ],
)
def test_density(rows: list[Row], density: bytes | None, notes: int) -> None:
    found = read(raw(PIXELS, (14, 9), more=rows))
    assert found.picture.metadata.get("density") == density
    assert len(found.notes) == notes


def test_a_broken_tag_costs_only_itself() -> None:
    good = (270, 2, 4, b"abc\0")
    data = bytearray(raw(PIXELS, (14, 9), more=[good, (315, 2, 9, b"somebody\0"), (65000, 99, 3, b"\0\0\0\0")]))
    at = bytes(data).index(struct.pack("<HHI", 315, 2, 9))
    struct.pack_into("<I", data, at + 8, 1 << 30)
    found = read(bytes(data))
    assert found.picture.pixels == PIXELS
    assert all_entries(found.picture.metadata["exif"], "<") == {(270,): good[1:]}
    assert found.notes == (
        "tag 315 does not lie inside the file and is left out",
        "tag 65000 has the unknown type 99 and is left out",
    )


@pytest.mark.parametrize("rows", [[(34665, 2, 4, b"abc\0")], [(34853, 4, 1, b"\0\0\0\x7f")], [(330, 13, 0, b"")]])
def test_a_broken_pointer_costs_only_what_it_points_to(rows: list[Row]) -> None:
    found = read(raw(PIXELS, (14, 9), more=[*rows, (270, 2, 4, b"abc\0")]))
    assert found.picture.pixels == PIXELS
    assert (270,) in all_entries(found.picture.metadata["exif"], "<")
    assert len(found.notes) == (0 if rows[0][0] == 330 else 1)


def test_values_of_64_bits_become_those_of_32_or_are_named() -> None:
    notes: list[str] = []
    rows = [Entry(65001, 16, 2, struct.pack("<2Q", 5, 6)), Entry(65002, 16, 1, struct.pack("<Q", 1 << 40))]
    blob = exif_bytes(Directory("<", rows), notes.append)
    assert all_entries(blob, "<") == {(65001,): (4, 2, long("<", 5, 6))}
    assert notes == ["tag 65002 has values of 64 bits and is left out"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_exif_structure_keeps_its_bytes(order: str) -> None:
    blob = exif_blob(order, descriptive(order))
    notes: list[str] = []
    again = exif_bytes(parse_exif(blob, notes.append), notes.append)
    assert all_entries(again, order) == all_entries(blob, order)
    assert exif_bytes(parse_exif(again, notes.append), notes.append) == again
    assert notes == []


def test_metadata_of_bigtiff() -> None:
    array = samples(9, 14)
    extra = [(65000, 2, 0, "words", True), (65001, 16, 1, 7, True)]
    data = tiff(array, big=True, photometric="minisblack", extratags=extra, description="abc")
    found = read(data)
    exif = all_entries(found.picture.metadata["exif"], "<")
    assert exif == {(270,): (2, 4, b"abc\0"), (65000,): (2, 6, b"words\0"), (65001,): (4, 1, long("<", 7))}
