"""TIFF files that are written: Pillow, tifffile and a reader by hand find in them what was to be written."""

import io
import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers import tiff as reader
from ddpm_codec.image_io.stored import ReadPicture
from ddpm_codec.image_io.writers.tiff import write_tiff
from ddpm_codec.picture import MODES, MetadataKey, Palette, Picture, PictureInfo
from tests.image_io.exif_files import all_entries, descriptive, exif_blob, long, short
from tests.image_io.metadata_files import EXIF, ICC, IPTC, XMP
from tests.image_io.tiffs import entries

STORED = (*range(254, 270), 273, 277, 278, 279, 284, 317, 320, 338, 339, 530)


def read(data: bytes) -> ReadPicture:
    return reader.read(io.BytesIO(data), "x")


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
    [
        *(
            ("L", 7),
            ("L", 127),
            ("LA", 1),
            ("RGB", 15),
            ("RGBA", 63),
            ("I;16", 1023),
            ("RGB;16", 4095),
            ("LA;16", 16383),
        ),
        *(("L;32", (1 << 20) - 1), ("RGB;32", (1 << 31) - 1), ("RGBA;16", 511)),
    ],
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
        (
            {
                "exif": exif_blob("<", [(282, 5, 1, long("<", 9, 1)), (283, 5, 1, long("<", 9, 1))]),
                "density": b"72 72 inch",
            },
            "EXIF has another",
        ),
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
