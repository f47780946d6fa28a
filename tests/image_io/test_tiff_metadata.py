"""Metadata of TIFF files come back byte for byte: read from files put together by hand, written and read by hand again."""

import io
import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.exif import exif_bytes, parse_exif
from ddpm_codec.image_io.metadata.ifd import Directory, Entry
from ddpm_codec.image_io.readers import tiff as reader
from ddpm_codec.image_io.stored import ReadPicture
from ddpm_codec.image_io.writers.tiff import write_tiff
from ddpm_codec.picture import MODES, MetadataKey, Palette, Picture, PictureInfo
from tests.image_io.metadata_files import EXIF, ICC, IPTC, XMP
from tests.image_io.tiffs import Row, directory, entries, entries_at, raw, samples, tiff

LATIN = "Straße nach Nürnberg".encode("latin-1") + b"\0"


def read(data: bytes) -> ReadPicture:
    return reader.read(io.BytesIO(data), "x")


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
    inner = [(37386, 5, 1, long(order, 50, 1)), (37500, 7, 12, b"maker\0\x01\x02\x03\x04\x05\x06"), (37121, 7, 4, b"\x01\x02\x03\0")]
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


PIXELS = samples(9, 14).tobytes()
STORED = tuple(range(254, 270)) + (273, 277, 278, 279, 284, 317, 320, 338, 339, 530)


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


def picture(mode: str, size: tuple[int, int] = (14, 9), white: int | None = None) -> Picture:
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, MODES[mode].byte_count(size), np.uint8)
    if white is not None:
        pixels = (pixels.view(MODES[mode].stored) & white).view(np.uint8)
    if mode == "1":
        pixels = np.frombuffer(Image.frombytes("1", size, pixels.tobytes()).tobytes(), np.uint8)
    palette = Palette(3, bytes(range(256)) * 3) if MODES[mode].has_palette else None
    return Picture(PictureInfo("x", mode, size, palette, white=white), pixels.tobytes())


WRITTEN = [mode for mode in MODES if mode not in ("RGBX", "HSV", "I;16L")]


@pytest.mark.parametrize("mode", WRITTEN)
@pytest.mark.parametrize("order", ["<", ">"])
def test_all_metadata_come_back_in_every_mode(mode: str, order: str) -> None:
    blob = exif_blob(order, descriptive(order))
    metadata: dict[MetadataKey, bytes] = {"icc": ICC, "exif": blob, "xmp": XMP, "iptc": IPTC, "density": b"300 1/7 cm"}
    original = picture(mode)
    data, notes = write_tiff(original, metadata)
    assert notes == []
    got = read(data)
    assert got.notes == ()
    assert (got.picture.mode, got.picture.pixels) == (mode, original.pixels)
    assert {key: got.picture.metadata[key] for key in metadata if key != "exif"} == {
        key: metadata[key] for key in metadata if key != "exif"
    }
    fixed = {"I;16": "<", "I;16B": ">"}.get(mode, order)
    assert data[:2] == (b"II" if fixed == "<" else b"MM")
    found = all_entries(data, fixed, skip=(*STORED, 34675, 700, 33723, 282, 283, 296))
    if fixed == order:
        assert found == all_entries(blob, order)
    else:
        assert found == all_entries(exif_blob(fixed, descriptive(fixed)), fixed)
    # A second way through the codec changes nothing.
    assert read(write_tiff(original, got.picture.metadata)[0]).picture.metadata == got.picture.metadata


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "F", "RGB;16", "LA;F"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_stays(mode: str, orientation: int) -> None:
    blob = exif_blob("<", [(274, 3, 1, short("<", orientation))], children=False)
    original = picture(mode)
    data, notes = write_tiff(original, {"exif": blob, "xmp": XMP})
    assert notes == []
    assert struct.unpack_from(("<" if data[:2] == b"II" else ">") + "H", entries(data)[274][2])[0] == orientation
    assert read(data).picture.pixels == original.pixels


@pytest.mark.parametrize(
    ("mode", "white"),
    [("L", 7), ("L", 127), ("LA", 1), ("RGB", 15), ("RGBA", 63), ("I;16", 1023), ("RGB;16", 4095), ("LA;16", 16383)]
    + [("L;32", (1 << 20) - 1), ("RGB;32", (1 << 31) - 1), ("RGBA;16", 511)],
)
def test_other_widths_are_written_with_their_bits(mode: str, white: int) -> None:
    original = picture(mode, white=white)
    data, notes = write_tiff(original, {"exif": exif_blob(">", descriptive(">"))})
    assert notes == []
    assert struct.unpack("<H", entries(data)[258][2][:2])[0] == white.bit_length()
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), original.samples())
    got = read(data).picture
    assert (got.mode, got.info.white, got.pixels) == (mode, white, original.pixels)


@pytest.mark.parametrize(("mode", "white"), [("I;16", 1000), ("L", 15), ("L", 1), ("I;16", 255), ("CMYK;16", 4095)])
def test_white_that_is_no_number_of_bits_is_refused(mode: str, white: int) -> None:
    original = replace(picture(mode), info=replace(picture(mode).info, white=white))
    with pytest.raises(InputError, match="cannot hold"):
        write_tiff(original, {})


def test_pillow_and_tifffile_read_what_is_written() -> None:
    blob = exif_blob("<", [(270, 2, 4, b"abc\0"), (315, 2, 4, b"def\0")])
    seen_before = Image.Exif()
    seen_before.load(b"Exif\0\0" + blob)
    for mode in WRITTEN:
        original = picture(mode)
        data, _ = write_tiff(original, {"exif": blob, "icc": ICC, "xmp": XMP, "density": b"72 36 inch"})
        array = tifffile.imread(io.BytesIO(data))
        assert array.tobytes() == original.samples().tobytes(), mode
        if mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"):
            with Image.open(io.BytesIO(data)) as image:
                assert (image.mode, image.tobytes()) == (mode, original.pixels)
                exif = image.getexif()
                assert (exif[270], exif[315]) == ("abc", "def")
                inner, inner_before = exif.get_ifd(34665), seen_before.get_ifd(34665)
                assert {**inner, 40965: None} == {**inner_before, 40965: None}  # an offset
                assert exif.get_ifd(40965) == seen_before.get_ifd(40965)
                assert exif.get_ifd(34853) == seen_before.get_ifd(34853)
                assert image.info["icc_profile"] == ICC
                assert image.info["dpi"] == (72, 36)
                assert image.tag_v2[700] == XMP  # type: ignore[attr-defined]


def test_compression_with_exif_and_without() -> None:
    flat = Picture(PictureInfo("x", "RGB", (200, 200)), bytes(120000))
    for metadata in ({}, {"exif": EXIF}):
        data, _ = write_tiff(flat, metadata)  # type: ignore[arg-type]
        assert entries(data)[259][2][:2] == b"\x08\0"
        assert len(data) < 3000
    ramp = np.add.outer(np.arange(200), np.arange(200)).astype("<u2") * 57
    data, _ = write_tiff(Picture(PictureInfo("x", "I;16", (200, 200)), ramp.tobytes()), {})
    assert entries(data)[317][2][:2] == b"\x02\0"


def test_what_tiff_cannot_hold_is_named() -> None:
    cases: list[tuple[dict[MetadataKey, bytes], str]] = [
        ({"exif": b"garbage"}, "EXIF metadata of this picture are damaged"),
        ({"exif": exif_blob("<", [(256, 4, 1, long("<", 5)), (270, 2, 4, b"abc\0")])}, "left out: 256"),
        ({"exif": exif_blob("<", [(700, 1, 4, b"<x/>")]), "xmp": XMP}, "other XMP metadata"),
        ({"exif": exif_blob("<", [(270, 2, 4, b"abc\0")]), "comment": b"words"}, "EXIF has a description"),
        ({"exif": exif_blob("<", [(282, 5, 1, long("<", 9, 1)), (283, 5, 1, long("<", 9, 1))]), "density": b"72 72 inch"}, "EXIF has another"),
        ({"density": b"1/5000000000 1 inch"}, "does not hold its numbers"),
        ({"exif": exif_blob("<", [(65000, 13, 1, long("<", 8))])}, "points to a directory"),
    ]
    for metadata, note in cases:
        data, notes = write_tiff(picture("RGB"), metadata)
        assert len(notes) == 1
        assert note in notes[0]
        assert read(data).picture.pixels == picture("RGB").pixels


def test_a_tag_that_pillow_chokes_on_costs_only_itself() -> None:
    rows = [(270, 2, 4, b"abc\0"), (339 + 2, 2, 4, b"xyz\0"), (274, 12, 1, struct.pack("<d", float("nan")))]
    data, notes = write_tiff(picture("RGB"), {"exif": exif_blob("<", rows, children=False)})
    assert read(data).picture.pixels == picture("RGB").pixels
    kept = all_entries(data, "<", skip=(*STORED, 282, 283, 296))
    assert kept.keys() | {(int(note.split()[1]),) for note in notes} == {(270,), (341,), (274,)}
    with Image.open(io.BytesIO(data)) as image:
        assert image.tobytes() == picture("RGB").pixels


def test_a_comment_becomes_the_description() -> None:
    data, notes = write_tiff(picture("L"), {"comment": "Grüße".encode()})
    assert notes == []
    assert entries(data)[270] == (2, 8, "Grüße".encode() + b"\0")


@pytest.mark.parametrize("text", [b"72 72 inch", b"3000001/10000 1 cm", b"2 1 none", b"3779 3780 m"])
def test_densities_come_back_exactly(text: bytes) -> None:
    data, notes = write_tiff(picture("L"), {"density": text})
    assert notes == []
    across, down, unit = text.decode().split()
    got = read(data).picture.metadata["density"].decode().split()
    factor = 100 if unit == "m" else 1
    assert [Fraction(value) * factor for value in got[:2]] == [Fraction(across), Fraction(down)]
    assert got[2] == ("cm" if unit == "m" else unit)


def test_the_thumbnail_of_exif_is_named() -> None:
    blob = bytearray(exif_blob("<", [(270, 2, 4, b"abc\0")], children=False))
    struct.pack_into("<I", blob, 8 + 2 + 12, 8)
    data, notes = write_tiff(picture("L"), {"exif": bytes(blob)})
    assert notes == ["the thumbnail in EXIF is left out"]
    assert reader.header(io.BytesIO(data)).pictures == 1


def test_metadata_of_bigtiff() -> None:
    array = samples(9, 14)
    extra = [(65000, 2, 0, "words", True), (65001, 16, 1, 7, True)]
    data = tiff(array, big=True, photometric="minisblack", extratags=extra, description="abc")
    found = read(data)
    exif = all_entries(found.picture.metadata["exif"], "<")
    assert exif == {(270,): (2, 4, b"abc\0"), (65000,): (2, 6, b"words\0"), (65001,): (4, 1, long("<", 7))}
