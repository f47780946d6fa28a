"""Metadata of all other formats: the bytes that were put in are found, and what has no place is named."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from ddpm_codec.image_io import read_picture, write_picture
from ddpm_codec.image_io.metadata import read_metadata
from ddpm_codec.image_io.metadata.density import parse_density
from ddpm_codec.picture import MetadataKey, Picture, PictureInfo
from tests.image_io.metadata_files import EXIF, ICC, IPTC, XMP, packet, resource, rgb, segment

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or rgb()).save(out, kind, **options)
    return out.getvalue()


def riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def test_webp() -> None:
    file = saved("WEBP", lossless=True, icc_profile=ICC + b"?", exif=b"Exif\0\0" + EXIF, xmp=XMP)
    assert read_metadata(file, "WEBP") == ({"icc": ICC + b"?", "exif": EXIF, "xmp": XMP}, [])
    body = file[8:] + riff(b"abcd", b"x")
    metadata, notes = read_metadata(b"RIFF" + struct.pack("<I", len(body)) + body, "WEBP")
    assert len(metadata) == 3
    assert notes == ["WebP chunks that are not kept: abcd"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("keys", [("exif",), ("icc", "xmp"), ("icc", "exif", "xmp")])
def test_webp_is_written_byte_for_byte(mode: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    everything: dict[MetadataKey, bytes] = {"icc": ICC, "exif": EXIF, "xmp": XMP}
    metadata = {key: value for key, value in everything.items() if key in keys}
    pixels = np.random.default_rng(2).integers(0, 256, 12 * len(mode), np.uint8).tobytes()
    picture = Picture(PictureInfo("x", mode, (3, 4), metadata=metadata), pixels)
    assert write_picture(picture, tmp_path / "x.webp") == []
    file = (tmp_path / "x.webp").read_bytes()
    assert read_metadata(file, "WEBP") == (metadata, [])
    # Pillow finds them through libwebp's demultiplexer.
    with Image.open(tmp_path / "x.webp") as image:
        assert (image.mode, image.tobytes()) == (mode, pixels)
        found = {"icc": image.info.get("icc_profile"), "exif": image.info.get("exif"), "xmp": image.info.get("xmp")}
    assert {key: value for key, value in found.items() if value} == metadata


def gif(*extensions: bytes, aspect: int = 0) -> bytes:
    file = saved("GIF", Image.new("L", (3, 2), 7))
    table = 13 + (3 << (file[10] & 7) + 1)
    return b"GIF89a" + file[6:12] + bytes([aspect]) + file[13:table] + b"".join(extensions) + file[table:]


def blocks(data: bytes) -> bytes:
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def test_gif() -> None:
    comment = b"long " * 99
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    file = gif(
        b"!\xfe" + blocks(comment),
        b"!\xfe" + blocks(b"second"),
        b"!\xff\x0bXMP DataXMP" + XMP + trailer,
        b"!\xff\x0bICCRGBG1012" + blocks(ICC),
        b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
        b"!\xff\x0bSOMETHING10" + blocks(b"?"),
        aspect=113,
    )
    metadata, notes = read_metadata(file, "GIF")
    assert metadata == {"density": b"64 128 none", "comment": comment + b"\nsecond", "xmp": XMP, "icc": ICC}
    assert notes == ["GIF extensions that are not kept: SOMETHING10"]


@pytest.mark.parametrize("kind", ["BMP", "DIB"])
def test_bmp(kind: str) -> None:
    file = bytearray(saved(kind))
    start = 14 if kind == "BMP" else 0
    struct.pack_into("<ii", file, start + 24, 2835, 5906)
    assert read_metadata(bytes(file), kind) == ({"density": b"2835 5906 m"}, [])
    struct.pack_into("<ii", file, start + 24, 0, 0)
    assert read_metadata(bytes(file), kind) == ({}, [])


def test_bmp_with_a_profile() -> None:
    header = struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(16)
    header += b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 128, len(ICC), 0)
    file = b"BM" + struct.pack("<IHHI", 14 + 128 + len(ICC), 0, 0, 138) + header + b"abc\0" + ICC
    assert read_metadata(file, "BMP") == ({"icc": ICC}, [])
    assert read_metadata(file[:-1], "BMP") == ({}, ["the ICC profile is left out: it is cut short"])


@pytest.mark.parametrize(("density", "expected"), [(b"72 72 inch", b"2835 2835 m"), (b"4 3 none", None), (b"", None)])
def test_bmp_is_written_with_its_density_and_no_other(density: bytes, expected: bytes | None, tmp_path: Path) -> None:
    metadata: dict[MetadataKey, bytes] = {"density": density} if density else {}
    picture = Picture(PictureInfo("x", "L", (3, 4), metadata=metadata), bytes(12))
    assert len(write_picture(picture, tmp_path / "x.bmp")) == bool(density and expected is None)
    assert read_picture(tmp_path / "x.bmp").metadata.get("density") == expected


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def test_jpeg_2000() -> None:
    file = saved("JPEG2000")
    at = file.index(b"ihdr") - 4
    inner = box(b"res ", box(b"resd", struct.pack(">HHHHbb", 1, 1, 1, 1, 0, 0)))
    inner += box(b"res ", box(b"resc", struct.pack(">HHHHbb", 300, 254, 150, 254, 4, 4)))
    header = box(b"jp2h", file[at : at + 22] + box(b"colr", b"\2\0\0" + ICC) + inner)
    uuids = ("be7acfcb97a942e89c71999491e3afac", "33c7a4d2b81d4723a0baf1a3e097ad38", "00" * 16)
    more = b"".join(
        box(b"uuid", bytes.fromhex(name) + data) for name, data in zip(uuids, (XMP, IPTC, b""), strict=True)
    )
    more += box(b"uuid", b"JpgTiffExif->JP2" + EXIF)
    stream = file[file.index(b"\xff\x4f\xff\x51") :]
    siz_end = 4 + struct.unpack_from(">H", stream, 4)[0]
    comments = segment(0x64, b"\0\1a comment") + segment(0x64, b"\0\0\xff")
    stream = stream[:siz_end] + comments + stream[siz_end:]
    whole = file[: file.index(b"jp2h") - 4] + header + more + box(b"jp2c", stream)
    metadata, notes = read_metadata(whole, "JPEG2000")
    comment = metadata.pop("comment")
    assert comment.startswith(b"a comment\n")
    assert metadata == {
        "icc": ICC,
        "exif": EXIF,
        "xmp": XMP,
        "iptc": IPTC,
        "density": b"1500000/254 3000000/254 m".replace(b"1500000/254 3000000/254", b"750000/127 1500000/127"),
    }
    assert notes == ["a binary comment of JPEG 2000 (1 bytes) is left out", "JPEG 2000 boxes that are not kept: uuid"]
    assert read_metadata(stream, "JPEG2000")[0] == {"comment": comment}


def test_psd() -> None:
    resources = [
        resource(1005, struct.pack(">IHHIHH", 300 << 16, 1, 1, 72 << 16 | 1 << 15, 1, 1)),
        resource(1028, IPTC),
        resource(1039, ICC),
        resource(1058, EXIF),
        resource(1060, XMP),
        resource(1006, b"layer", b"a name"),
    ]
    joined = b"".join(resources)
    file = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 1, 1, 1, 8, 1) + struct.pack(">II", 0, len(joined)) + joined
    metadata, notes = read_metadata(file + bytes(11), "PSD")
    assert metadata == {"density": b"300 145/2 inch", "iptc": IPTC, "icc": ICC, "exif": EXIF, "xmp": XMP}
    assert notes == ["image resources of Photoshop that are not kept: 1006"]


def test_simple_headers() -> None:
    pcx = saved("PCX")
    pcx = pcx[:12] + struct.pack("<HH", 72, 96) + pcx[16:]
    assert read_metadata(pcx, "PCX") == ({"density": b"72 96 inch"}, [])
    assert read_metadata(saved("TGA", id_section=b"an id"), "TGA") == ({"comment": b"an id"}, [])
    assert read_metadata(saved("TGA"), "TGA") == ({}, [])
    sgi = bytearray(saved("SGI"))
    sgi[24:104] = b"a name".ljust(80, b"\0")
    assert read_metadata(bytes(sgi), "SGI") == ({"comment": b"a name"}, [])
    ppm = b"P6 # one\n3 # two\n\n#three\n2\n255\n# pixels" + bytes(18)
    assert read_metadata(ppm, "PPM") == ({"comment": b"one\ntwo\nthree"}, [])
    qoi = b"qoif" + struct.pack(">IIBB", 1, 1, 3, 1)
    assert read_metadata(qoi, "QOI") == ({}, ["that all channels are linear is left out"])


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif() -> None:
    tags = Image.Exif()
    tags[271] = "a maker"
    exif = tags.tobytes().removeprefix(b"Exif\0\0")
    file = saved("AVIF", exif=exif, xmp=XMP, icc_profile=PROFILE, quality=100)
    assert exif in file
    assert read_metadata(file, "AVIF") == ({"icc": PROFILE, "exif": exif, "xmp": XMP}, [])
    tags[274] = 6
    metadata, _ = read_metadata(saved("AVIF", exif=tags, quality=100), "AVIF")
    again = Image.Exif()
    again.load(metadata["exif"])
    assert dict(again) == {271: "a maker", 274: 6}


@pytest.mark.parametrize(
    "kind", ["AVIF", "BMP", "DIB", "GIF", "JPEG2000", "PCX", "PPM", "PSD", "QOI", "SGI", "TGA", "WEBP"]
)
def test_noise_raises_nothing(kind: str) -> None:
    rng = np.random.default_rng(4)
    for length in (0, 1, 4, 13, 30, 200, 3000):
        metadata, notes = read_metadata(rng.integers(0, 256, length, np.uint8).tobytes(), kind)
        assert all(metadata.values())
        assert all("\n" not in note for note in notes)


def test_formats_that_are_not_listed() -> None:
    assert read_metadata(b"II*\0", "TIFF") == ({}, [])
    assert read_metadata(b"", "XYZ") == ({}, [])


@pytest.mark.parametrize("text", [b"", b"72", b"72 72", b"72 72 inches", b"-1 1 inch", b"1/0 1 inch", b"1.5 1 inch"])
def test_texts_that_are_no_density(text: bytes) -> None:
    with pytest.raises(ValueError, match="is no density"):
        parse_density(text)


@pytest.mark.parametrize(
    ("mode", "white", "head"),
    [
        ("1", None, b"P4\n5 4\n"),
        ("L", None, b"P5\n5 4\n255\n"),
        ("L", 100, b"P5\n5 4\n100\n"),
        ("RGB", 15, b"P6\n5 4\n15\n"),
        ("I;16", 1023, b"P5\n5 4\n1023\n"),
        ("RGB;16", None, b"P6\n5 4\n65535\n"),
        ("RGB;16", 4095, b"P6\n5 4\n4095\n"),
    ],
)
def test_pnm_of_any_white(mode: str, white: int | None, head: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    shape = (4, 5, 3) if "RGB" in mode else (4, 5)
    wide = "16" in mode
    largest = white or (65535 if wide else 255)
    samples = rng.integers(0, largest + 1, shape, np.uint16 if wide else np.uint8)
    pixels = samples.astype("<u2").tobytes() if wide else samples.tobytes()
    if mode == "1":
        pixels = np.packbits(rng.integers(0, 2, (4, 5), np.uint8), axis=1).tobytes()
    picture = Picture(PictureInfo("x", mode, (5, 4), white=white), pixels)
    assert write_picture(picture, tmp_path / "x.ppm") == []
    file = (tmp_path / "x.ppm").read_bytes()
    assert file.startswith(head)
    if mode == "1":
        assert read_picture(tmp_path / "x.ppm").pixels == pixels
    else:
        assert np.array_equal(np.frombuffer(file[len(head) :], ">u2" if wide else "u1").reshape(shape), samples)


def test_comments_of_pnm(tmp_path: Path) -> None:
    for comment, notes in ((b"one\ntwo", 0), (b" blank\n\nline", 1)):
        picture = Picture(PictureInfo("x", "L", (1, 1), metadata={"comment": comment}), b"\5")
        assert len(write_picture(picture, tmp_path / "x.pgm", overwrite=True)) == notes
        got = read_picture(tmp_path / "x.pgm")
        assert (got.pixels, got.metadata["comment"]) == (b"\5", comment if not notes else b"blank\nline")


def test_merged_packets_are_not_needed_for_a_whole_one() -> None:
    assert read_metadata(saved("WEBP", xmp=packet("")), "WEBP")[0] == {"xmp": packet("")}
