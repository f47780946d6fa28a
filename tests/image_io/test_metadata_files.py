"""Metadata from image files to .ddpm and back, through the command line."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm_codec
from ddpm_codec.image_io.metadata import read_metadata
from tests.helpers import Run
from tests.image_io.metadata_files import (
    EXIF,
    ICC,
    IPTC,
    XMP,
    app1_exif,
    app1_xmp,
    app2_icc,
    app13,
    chunk,
    chunks_of,
    extended_xmp,
    jpeg,
    packet,
    png,
    resource,
    rgb,
    segment,
)
from tests.image_io.test_metadata_jpeg import EXTENSION, LONG_EXIF, LONG_ICC, main_packet
from tests.image_io.test_metadata_png import BEFORE_PALETTE, BEFORE_PIXELS, BEHIND_PIXELS, ancillary


def there_and_back(run: Run, source: Path, target: Path, *options: str) -> str:
    """Encode and decode a picture; return standard error of both."""
    code, _, first = run("encode", source, "-o", target.with_suffix(".ddpm"), "--model", "none", "--verify", *options)
    assert code == 0, first
    code, _, second = run("decode", target.with_suffix(".ddpm"), "-o", target)
    assert code == 0, second
    return f"{first}{second}"


def everything() -> bytes:
    """Return a JPEG file with metadata of all kinds."""
    return jpeg(
        *app1_exif(LONG_EXIF),
        app1_xmp(XMP),
        *app2_icc(LONG_ICC),
        app13(resource(1028, IPTC)),
        segment(0xFE, "zwölf".encode()),
        jfif=struct.pack(">BHH", 1, 300, 150),
    )


def test_jpeg_to_png(run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "b.png"
    source.write_bytes(everything())
    assert "note" not in there_and_back(run, source, target)
    file = target.read_bytes()
    metadata, _ = read_metadata(file, "PNG")
    assert (metadata["exif"], metadata["xmp"], metadata["icc"]) == (LONG_EXIF, XMP, LONG_ICC)
    with Image.open(target) as image, Image.open(source) as original:
        assert image.tobytes() == original.tobytes()
        assert image.info["Comment"] == "zwölf"
        assert IPTC.hex() in "".join(image.info["Raw profile type iptc"].split())
    assert (b"pHYs", struct.pack(">IIB", 11811, 5906, 1)) in chunks_of(file)
    # And once more, from PNG.
    again = tmp_path / "c.png"
    assert "note" not in there_and_back(run, target, again)
    assert sorted(chunks_of(again.read_bytes())) == sorted(chunks_of(file))


def test_extended_xmp_reaches_a_webp_file(run: Run, tmp_path: Path) -> None:
    name, pieces = extended_xmp(EXTENSION)
    (tmp_path / "a.jpg").write_bytes(jpeg(app1_xmp(main_packet(name, element=False)), *pieces))
    assert "note" not in there_and_back(run, tmp_path / "a.jpg", tmp_path / "b.webp")
    metadata, _ = read_metadata((tmp_path / "b.webp").read_bytes(), "WEBP")
    assert b"urn:other" in metadata["xmp"]
    assert b"HasExtendedXMP" not in metadata["xmp"]


def test_png_to_png(run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(png(rgb(), before_pixels=BEFORE_PALETTE + BEFORE_PIXELS, behind_pixels=BEHIND_PIXELS))
    assert "note" not in there_and_back(run, source, target)
    assert ancillary(target.read_bytes()) == ancillary(source.read_bytes())


@pytest.mark.parametrize("strip", [False, True])
def test_broken_or_huge_metadata_never_cost_the_pixels(strip: bool, run: Run, tmp_path: Path) -> None:
    text = np.random.default_rng(1).integers(97, 123, 2 << 20, np.uint8).tobytes()
    files = {
        "text.png": png(rgb(), before_pixels=(chunk(b"zTXt", b"x\0\0" + zlib.compress(text, 1)),)),
        "profile.png": png(rgb(), before_pixels=(chunk(b"iCCP", b"x\0\0" + zlib.compress(text, 1)),)),
        "xmp.png": png(rgb(), before_pixels=(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(text, 1)),)),
        "checksum.png": png(rgb(), before_pixels=(chunk(b"tEXt", b"x\0y")[:-1] + b"?",)),
        "short.png": png(rgb(), before_pixels=(chunk(b"pHYs", b"?"), chunk(b"cHRM", b""), chunk(b"gAMA", b""))),
        "broken.jpg": jpeg(
            segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
            app13(b"8BIM\4\4\0\0\xff\xff\xff\xff"),
            *app2_icc(LONG_ICC)[:2],
        ),
    }
    folder = tmp_path / "in"
    folder.mkdir()
    for name, file in files.items():
        (folder / name).write_bytes(file)
    options = ("--strip",) if strip else ()
    assert run("encode", folder, "-o", tmp_path / "x.ddpm", "--model", "none", "--verify", *options)[0] == 0
    assert run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "out")[0] == 0
    for name in files:
        file = (tmp_path / "out" / name).with_suffix(".png").read_bytes()
        if not name.endswith("jpg"):
            metadata, _ = read_metadata(file, "PNG")
            key = {"profile.png": "icc", "xmp.png": "xmp", "text.png": "png"}.get(name)
            assert list(metadata) == ([] if strip or key is None else [key])
            with Image.open(io.BytesIO(png(rgb()))) as expected:
                assert ddpm_codec.open_archive(tmp_path / "x.ddpm").picture(name).pixels == expected.tobytes()


def test_what_a_format_does_not_hold_is_named_on_standard_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(everything())
    err = there_and_back(run, tmp_path / "a.jpg", tmp_path / "b.webp")
    lines = [line.partition("note: ")[2] for line in err.splitlines() if "note: " in line]
    target = tmp_path / "b.webp"
    names = ("IPTC", "comment", "density")
    assert lines == [f"{target}: webp does not hold {name} metadata; it is left out" for name in names]
    (tmp_path / "a.png").write_bytes(png(rgb(), before_pixels=(BEFORE_PALETTE[0],)))
    err = there_and_back(run, tmp_path / "a.png", tmp_path / "c.bmp")
    assert "c.bmp: bmp does not hold PNG chunks (gAMA); they are left out" in err


def test_what_a_file_has_and_no_key_holds_is_named_at_encoding(run: Run, tmp_path: Path) -> None:
    files = {
        "a.jpg": (jpeg(segment(0xEB, b"JP\0\1")), "JPEG segments that are not kept: APP11 JP"),
        "b.png": (
            png(rgb(), before_pixels=(chunk(b"pHYs", b"?"),)),
            "a PNG chunk pHYs is left out: it has 1 bytes instead of 9",
        ),
    }
    for name, (file, note) in files.items():
        (tmp_path / name).write_bytes(file)
        target = tmp_path / "x.ddpm"
        code, out, err = run("encode", tmp_path / name, "-o", target, "--model", "none", "--overwrite", "--json")
        assert code == 0
        assert f"ddpm-codec: note: {name}: {note}" in err.replace(f"{tmp_path}/", "")
        assert [line.replace(f"{tmp_path}/", "") for line in json.loads(out)["notes"]] == [f"{name}: {note}"]


def test_info_lists_the_keys_and_strip_leaves_all_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(everything())
    (tmp_path / "a.png").write_bytes(png(rgb(), before_pixels=BEFORE_PIXELS))
    keys = {"a.jpg": "icc, exif, xmp, iptc, comment, density", "a.png": "png"}
    for options, expected in (((), keys), (("--strip",), dict.fromkeys(keys))):
        run("encode", tmp_path / "a.jpg", tmp_path / "a.png", "-o", tmp_path / "x.ddpm", "--overwrite", *options)
        code, out, _ = run("info", tmp_path / "x.ddpm", "--json")
        assert code == 0
        assert {row["name"]: row["metadata"] for row in json.loads(out)["pictures"]} == expected


def test_wide_colour_and_odd_whites_are_written(run: Run, tmp_path: Path) -> None:
    wide = np.random.default_rng(7).integers(0, 65536, (4, 5, 3), np.uint16)
    (tmp_path / "x.ddpm").write_bytes(ddpm_codec.encode(wide, model="none"))
    assert run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "out")[0] == 0
    (name,) = [path.name for path in (tmp_path / "out").iterdir()]
    assert name.endswith(".png")
    assert chunks_of((tmp_path / "out" / name).read_bytes())[0][1][8:10] == b"\x10\x02"


def test_pillow_images_carry_comment_and_density(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(everything())
    with Image.open(tmp_path / "a.jpg") as image:
        data = ddpm_codec.encode(image, model="none")
    info = ddpm_codec.open_archive(data).infos[0]
    assert info.metadata["density"] == b"300 150 inch"
    assert info.metadata["comment"] == "zwölf".encode()
    info_of_pillow = ddpm_codec.to_pil(data).info
    assert (info_of_pillow["dpi"], info_of_pillow["comment"], info_of_pillow["xmp"]) == (
        (300, 150),
        "zwölf".encode(),
        XMP,
    )
    # A density that Pillow makes up is not taken.
    with Image.open(io.BytesIO(jpeg(*app1_exif(EXIF), *app2_icc(ICC), app1_xmp(packet(""))))) as image:
        data = ddpm_codec.encode(image, model="none")
    assert set(ddpm_codec.open_archive(data).infos[0].metadata) == {"exif", "icc", "xmp"}
