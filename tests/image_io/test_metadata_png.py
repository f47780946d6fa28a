"""Metadata of PNG files: found as they are stored, and written back as they were."""

import io
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from ddpm_codec.image_io import read_picture, write_picture
from ddpm_codec.image_io.metadata import MAX_UNPACKED_BYTES, keys_of_chunks, read_metadata, without_metadata
from ddpm_codec.picture import METADATA_KEYS, MetadataKey, Picture, picture_from_array
from tests.image_io.metadata_files import EXIF, ICC, IPTC, XMP, chunk, chunks_of, png, rgb

BEFORE_PALETTE = (
    chunk(b"gAMA", struct.pack(">I", 45455)),
    chunk(b"cHRM", struct.pack(">8I", *range(31270, 31278))),
    chunk(b"sRGB", b"\1"),
    chunk(b"cICP", b"\x0c\x0d\0\1"),
    chunk(b"mDCV", bytes(range(24))),
    chunk(b"cLLI", bytes(8)),
    chunk(b"sBIT", b"\5\6\5"),
)
BEFORE_PIXELS = (
    chunk(b"pHYs", struct.pack(">IIB", 2835, 5906, 1)),
    chunk(b"sPLT", b"few\0\x08" + bytes(6)),
    chunk(b"tIME", b"\x07\xe8\x02\x1d\x0c\0\x3b"),
    chunk(b"tEXt", b"Title\0caf\xe9"),
    chunk(b"zTXt", b"Author\0\0" + zlib.compress(b"somebody" * 9)),
    chunk(b"iTXt", b"Title\0\1\0fr\0Titre\0" + zlib.compress("à côté".encode())),
    chunk(b"prVt", b"of some program"),
    chunk(b"teSt", b""),
)
BEHIND_PIXELS = (chunk(b"tEXt", b"date:create\x002024-02-29"), chunk(b"prAt", b"behind"))


def stored(*chunks: bytes) -> bytes:
    """Return chunks as ``png`` metadata: without their checksums."""
    return b"".join(part[:-4] for part in chunks)


def written(file: bytes, tmp_path: Path) -> tuple[bytes, list[str]]:
    """Read a PNG file and write it again; return the new file and the notes."""
    (tmp_path / "in.png").write_bytes(file)
    notes = write_picture(read_picture(tmp_path / "in.png"), tmp_path / "out.png", overwrite=True)
    return (tmp_path / "out.png").read_bytes(), notes


def ancillary(file: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks with one ``IDAT`` and one ``PLTE`` for all that shows the picture."""
    return [(kind, b"" if kind in (b"IHDR", b"IDAT", b"PLTE") else data) for kind, data in chunks_of(file)]


def test_every_chunk_comes_back_in_its_place(tmp_path: Path) -> None:
    file = png(rgb(), before_pixels=BEFORE_PALETTE + BEFORE_PIXELS, behind_pixels=BEHIND_PIXELS)
    metadata, notes = read_metadata(file, "PNG")
    empty = struct.pack(">I", 0) + b"IDAT"
    assert metadata == {"png": stored(*BEFORE_PALETTE, *BEFORE_PIXELS) + empty + stored(*BEHIND_PIXELS)}
    assert notes == []
    again, notes = written(file, tmp_path)
    assert notes == []
    assert ancillary(again) == ancillary(file)
    assert read_metadata(again, "PNG") == (metadata, [])
    with Image.open(io.BytesIO(again)) as image:
        image.load()
        assert (image.info["gamma"], image.info["Title"], image.tobytes()) == (0.45455, "à côté", rgb().tobytes())


@pytest.mark.parametrize("swapped", [False, True])
def test_chunks_stay_on_their_side_of_the_palette(swapped: bool, tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(9, dtype=np.uint8).reshape(3, 3) % 5)
    image.putpalette(bytes(range(15)))
    first = (*BEFORE_PALETTE, *((chunk(b"prVt", b"before"),) if swapped else ()))
    second = (chunk(b"bKGD", b"\3"), chunk(b"hIST", bytes(10)), *BEFORE_PIXELS)
    file = png(image, before_palette=first, before_pixels=second, behind_pixels=BEHIND_PIXELS)
    again, notes = written(file, tmp_path)
    assert notes == []
    assert ancillary(again) == ancillary(file)


def test_a_suggested_palette_and_its_histogram_come_back(tmp_path: Path) -> None:
    image = rgb()
    image.info["transparency"] = (1, 2, 3)
    suggestion = (chunk(b"PLTE", bytes(range(9))), chunk(b"hIST", bytes(6)))
    file = png(image)
    head, *rest = chunks_of(file)
    parts = [chunk(*head), BEFORE_PALETTE[0], *suggestion, *(chunk(*part) for part in rest)]
    file = file[:8] + b"".join(parts)
    again, notes = written(file, tmp_path)
    assert notes == []
    assert chunks_of(again)[1:4] == [
        (b"gAMA", BEFORE_PALETTE[0][8:12]),
        (b"PLTE", bytes(range(9))),
        (b"hIST", bytes(6)),
    ]
    with Image.open(io.BytesIO(again)) as opened:
        assert opened.info["transparency"] == (1, 2, 3)


def test_a_background_is_scaled_as_the_samples_are(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"bKGD", b"\0\3"), (b"IDAT", zlib.compress(b"\0\x3f")), (b"IEND", b""))
    file = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    again, _ = written(file, tmp_path)
    assert (b"bKGD", b"\0\x33") in chunks_of(again)


def test_profile_exif_and_xmp_have_keys_of_their_own(tmp_path: Path) -> None:
    chunks = (
        chunk(b"iCCP", b"a name\0\0" + zlib.compress(ICC)),
        chunk(b"eXIf", EXIF),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        chunk(b"sRGB", b"\0"),
    )
    file = png(rgb(), before_pixels=chunks)
    metadata, notes = read_metadata(file, "PNG")
    assert metadata == {"icc": ICC, "exif": EXIF, "xmp": XMP, "png": stored(chunks[-1])}
    assert notes == []
    again, notes = written(file, tmp_path)
    assert notes == []
    assert read_metadata(again, "PNG") == (metadata, [])
    with Image.open(io.BytesIO(again)) as image:
        image.load()
        assert (image.info["icc_profile"], image.info["exif"]) == (ICC, b"Exif\0\0" + EXIF)
        assert image.info["xmp"] == XMP


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (chunk(b"tEXt", b"Title\0x")[:-1] + b"\0", "tEXt is left out: its checksum is wrong"),
        (chunk(b"iCCP", b"x\0\0" + zlib.compress(ICC)[:-5]), "iCCP is left out: its compressed data are incomplete"),
        (chunk(b"iCCP", b"x\0\0no zlib"), "iCCP is left out: its compressed data are damaged"),
        (chunk(b"iCCP", b"x"), "iCCP is left out: it is malformed"),
        (chunk(b"zTXt", b"x\0\7" + zlib.compress(b"")), "zTXt is left out: it is malformed"),
        (chunk(b"iTXt", b"x\0\1\0\0\0no zlib"), "iTXt is left out: its compressed data are damaged"),
        (chunk(b"iTXt", b"x\0\0"), "iTXt is left out: it is malformed"),
        (chunk(b"pHYs", b"\0"), "pHYs is left out: it has 1 bytes instead of 9"),
        (chunk(b"sRGB", b""), "sRGB is left out: it has 0 bytes instead of 1"),
        (chunk(b"bKGD", b"\1"), "bKGD is left out: it has 1 bytes instead of 6"),
        (chunk(b"sBIT", b"\1"), "sBIT is left out: it has 1 bytes instead of 3"),
        (chunk(b"iDOT", bytes(28)), "iDOT is left out: it tells where the compressed pixels stood"),
    ],
)
def test_damaged_chunks_cost_themselves_alone(bad: bytes, why: str, tmp_path: Path) -> None:
    file = png(rgb(), before_pixels=(BEFORE_PALETTE[0], bad, BEFORE_PIXELS[3]))
    assert read_metadata(file, "PNG") == ({"png": stored(BEFORE_PALETTE[0], BEFORE_PIXELS[3])}, [f"a PNG chunk {why}"])
    (tmp_path / "x.png").write_bytes(file)
    assert read_picture(tmp_path / "x.png").pixels == rgb().tobytes()


def test_what_unpacks_to_too_much_is_left_out() -> None:
    bomb = zlib.compress(bytes(MAX_UNPACKED_BYTES + 1), 9)
    chunks = (chunk(b"iCCP", b"x\0\0" + bomb), chunk(b"zTXt", b"x\0\0" + bomb))
    metadata, notes = read_metadata(png(rgb((1, 1)), before_pixels=chunks), "PNG")
    assert metadata == {}
    assert notes == [
        f"a PNG chunk {kind} is left out: it unpacks to more than 64 MiB, or all in the file together do"
        for kind in ("iCCP", "zTXt")
    ]


def test_megabytes_of_text_profile_and_xmp_come_back(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(97, 123, 3 << 20, np.uint8).tobytes()
    texts = (chunk(b"zTXt", b"x\0\0" + zlib.compress(noise, 1)), chunk(b"iCCP", b"x\0\0" + zlib.compress(noise, 1)))
    file = png(rgb(), before_pixels=(*texts, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + noise)))
    again, notes = written(file, tmp_path)
    assert notes == []
    metadata, _ = read_metadata(again, "PNG")
    assert (metadata["icc"], metadata["xmp"], metadata["png"]) == (noise, noise, stored(texts[0]))


def test_second_pieces_are_named() -> None:
    chunks = (chunk(b"eXIf", EXIF), chunk(b"eXIf", EXIF), chunk(b"eXIf", EXIF + b"other"))
    metadata, notes = read_metadata(png(rgb(), before_pixels=chunks), "PNG")
    assert metadata == {"exif": EXIF}
    assert notes == [f"a second piece of EXIF metadata ({len(EXIF) + 5} bytes) is left out"]


def test_frames_and_pixels_are_no_metadata() -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (4, 4), (number, 0, 0)) for number in range(3)]
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    assert read_metadata(out.getvalue(), "PNG") == ({}, [])
    bare = without_metadata(png(frames[0], before_pixels=BEFORE_PIXELS, behind_pixels=BEHIND_PIXELS))
    assert bare == png(frames[0])
    assert without_metadata(out.getvalue()) == out.getvalue()


@pytest.mark.parametrize("length", [0, 8, 20, 33, 40, 70, 100])
def test_files_that_are_cut_short_raise_nothing(length: int) -> None:
    file = png(rgb(), before_pixels=BEFORE_PIXELS)
    read_metadata(file[:length], "PNG")
    # A reader of pixels still sees that the file ends too early.
    assert b"IEND" not in without_metadata(file[:length])


ALL: dict[MetadataKey, bytes] = {
    "icc": ICC,
    "exif": EXIF,
    "xmp": XMP,
    "iptc": IPTC,
    "comment": "zwölf".encode(),
    "density": b"72 300 inch",
}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "LA;16", "RGB;16", "RGBA;16"])
def test_metadata_of_other_formats_are_chunks(mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    if mode in ("1", "P"):
        image = Image.new(mode, (5, 4), 1)
        out = io.BytesIO()
        image.save(out, "PNG")
        (tmp_path / "a.png").write_bytes(out.getvalue())
        picture = read_picture(tmp_path / "a.png")
    else:
        channels = {"L": 0, "I": 0, "LA": 2, "RGB": 3, "RGBA": 4}[mode.split(";")[0]]
        shape = (4, 5, channels) if channels else (4, 5)
        kind = np.uint16 if "16" in mode else np.uint8
        picture = picture_from_array(rng.integers(0, np.iinfo(kind).max, shape, kind), "x")
    assert picture.mode == mode
    picture = Picture(replace(picture.info, metadata=dict(ALL)), picture.pixels)
    assert write_picture(picture, tmp_path / "b.png") == []
    file = (tmp_path / "b.png").read_bytes()
    if "16" in mode:
        assert np.array_equal(imagecodecs.png_decode(file), picture.samples())
    metadata, _ = read_metadata(file, "PNG")
    assert {key: metadata[key] for key in ("icc", "exif", "xmp")} == {key: ALL[key] for key in ("icc", "exif", "xmp")}
    kinds = [kind for kind, _ in chunks_of(file)]
    assert kinds.index(b"iCCP") < kinds.index(b"PLTE" if b"PLTE" in kinds else b"IDAT")
    assert (b"pHYs", struct.pack(">IIB", 2835, 11811, 1)) in chunks_of(file)
    assert (b"iTXt", b"Comment\0\0\0\0\0" + "zwölf".encode()) in chunks_of(file)
    with Image.open(io.BytesIO(file)) as opened:
        opened.load()
        assert opened.info["Comment"] == "zwölf"
        profile = opened.info["Raw profile type iptc"].split()
    raw = bytes.fromhex("".join(profile[2:]))
    assert profile[:2] == ["iptc", str(len(raw))]
    assert raw[12 : 12 + len(IPTC)] == IPTC


def test_a_transparent_colour_of_16_bits(tmp_path: Path) -> None:
    picture = picture_from_array(np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 2000, "x")
    picture = Picture(replace(picture.info, transparency=(1, 2, 65535)), picture.pixels)
    assert write_picture(picture, tmp_path / "x.png") == []
    assert (b"tRNS", b"\0\1\0\2\xff\xff") in chunks_of((tmp_path / "x.png").read_bytes())


@pytest.mark.parametrize(
    ("comment", "expected", "notes"),
    [
        (b"plain", (b"tEXt", b"Comment\0plain"), 0),
        (b"caf\xe9", (b"tEXt", b"Comment\0caf\xe9"), 0),
        ("café".encode(), (b"iTXt", b"Comment\0\0\0\0\0caf\xc3\xa9"), 0),
        (b"of C\0", (b"tEXt", b"Comment\0of C"), 1),
    ],
)
def test_comments(comment: bytes, expected: tuple[bytes, bytes], notes: int, tmp_path: Path) -> None:
    picture = picture_from_array(np.zeros((2, 2), np.uint8), "x")
    picture = Picture(replace(picture.info, metadata={"comment": comment}), picture.pixels)
    assert len(write_picture(picture, tmp_path / "x.png")) == notes
    assert expected in chunks_of((tmp_path / "x.png").read_bytes())


@pytest.mark.parametrize(
    ("density", "expected", "notes"),
    [
        (b"300 300 inch", (11811, 11811, 1), 0),
        (b"3000001/10000 300 inch", (11811, 11811, 1), 0),
        (b"28 56 cm", (2800, 5600, 1), 0),
        (b"7 9 m", (7, 9, 1), 0),
        (b"3/2 1 none", (3, 2, 0), 0),
        (b"1 1 inch", (39, 39, 1), 1),
    ],
)
def test_densities(density: bytes, expected: tuple[int, int, int], notes: int, tmp_path: Path) -> None:
    picture = picture_from_array(np.zeros((2, 2), np.uint8), "x")
    picture = Picture(replace(picture.info, metadata={"density": density}), picture.pixels)
    lines = write_picture(picture, tmp_path / "x.png")
    assert len(lines) == notes
    assert all("density 1 1 inch is written as 39 39 m" in line for line in lines)
    assert (b"pHYs", struct.pack(">IIB", *expected)) in chunks_of((tmp_path / "x.png").read_bytes())


def test_large_iptc_is_text_that_others_open(tmp_path: Path) -> None:
    picture = picture_from_array(np.zeros((2, 2), np.uint8), "x")
    picture = Picture(replace(picture.info, metadata={"iptc": b"\x1c\2\x78" * 300_000}), picture.pixels)
    assert write_picture(picture, tmp_path / "x.png") == []
    with Image.open(tmp_path / "x.png") as image:
        image.load()
        assert len(image.info["Raw profile type iptc"]) > 1_800_000


def test_chunks_become_keys_in_other_formats(tmp_path: Path) -> None:
    picture = picture_from_array(np.zeros((2, 2, 3), np.uint8), "x")
    full = Picture(
        replace(picture.info, metadata={"iptc": IPTC, "comment": b"hello", "density": b"100 100 cm"}), b"\0" * 12
    )
    write_picture(full, tmp_path / "x.png")
    again = read_picture(tmp_path / "x.png")
    assert set(again.metadata) == {"png"}
    lines = write_picture(again, tmp_path / "x.bmp")
    assert [line.partition(": ")[2] for line in lines] == [
        "bmp does not hold IPTC metadata; it is left out",
        "bmp does not hold comment metadata; it is left out",
    ]
    assert read_metadata((tmp_path / "x.bmp").read_bytes(), "BMP") == ({"density": b"10000 10000 m"}, [])
    gamma = Picture(
        replace(picture.info, metadata={"png": stored(BEFORE_PALETTE[0], BEFORE_PIXELS[2])}), picture.pixels
    )
    (line,) = write_picture(gamma, tmp_path / "y.webp")
    assert line.endswith("webp does not hold PNG chunks (gAMA, tIME); they are left out")


def test_every_key_is_read_or_named_by_every_format(tmp_path: Path) -> None:
    metadata: dict[MetadataKey, bytes] = {**ALL, "png": stored(BEFORE_PALETTE[0])}
    assert set(metadata) == set(METADATA_KEYS)
    picture = picture_from_array(np.zeros((2, 2, 3), np.uint8), "x")
    picture = Picture(replace(picture.info, metadata=metadata), picture.pixels)
    for extension, held in (("png", 7), ("webp", 3), ("bmp", 1), ("ppm", 1), ("npy", 0)):
        assert len(write_picture(picture, tmp_path / f"x.{extension}")) == 7 - held


def test_hostile_metadata_take_no_time_and_few_notes() -> None:
    """None of these may take more than a second or two: backtracking, repeated bombs, countless damaged chunks."""
    bombs = [chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(60 << 20), 9))] * 40
    broken = [chunk(b"tE" + bytes([97 + n // 26 % 26, 65 + n % 26]), b"?")[:-4] + bytes(4) for n in range(600)] * 20
    spaces = chunk(b"tEXt", b"Raw profile type iptc\0iptc 1" + b" " * (1 << 20) + b"x")
    start = time.process_time()
    metadata, notes = read_metadata(png(rgb(), before_pixels=(*bombs, *broken, spaces)), "PNG")
    assert metadata == {"png": stored(bombs[0], spaces)}
    assert len(notes) == 20
    assert keys_of_chunks({"png": stored(spaces)})[0] == {}
    assert read_metadata(b"P6" + b" " * 100_000 + b"x", "PPM") == ({}, [])
    assert time.process_time() - start < 8
