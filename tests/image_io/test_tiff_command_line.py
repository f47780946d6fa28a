"""TIFF files through the command line: encode, decode, and the same samples and metadata, or one line."""

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.helpers import Run
from tests.image_io.exif_files import all_entries, descriptive, exif_blob, long
from tests.image_io.metadata_files import ICC, IPTC, XMP
from tests.image_io.tiffs import Order, Row, Samples, entries, raw, samples, smooth, tiff


def there_and_back(run: Run, folder: Path, data: bytes, *options: str, suffix: str = ".tif") -> tuple[Path, str]:
    """Encode a file and decode it again; return the result, and what was said on standard error."""
    (folder / "x.tif").write_bytes(data)
    code, _, said = run(
        "encode", folder / "x.tif", "-o", folder / "x.ddpm", "--model", "none", "--verify", "--overwrite", *options
    )
    assert code == 0, said
    code, _, more = run("decode", folder / "x.ddpm", "-o", folder / f"y{suffix}", "--overwrite")
    assert code == 0, more
    return folder / f"y{suffix}", said + more


KINDS: dict[str, tuple[Samples, dict[str, Any]]] = {
    "rgb16": (samples(17, 23, 3, dtype="u2"), {"photometric": "rgb", "compression": "lzw", "predictor": True}),
    "rgba16": (samples(17, 23, 4, dtype="u2"), {"photometric": "rgb", "extrasamples": [2]}),
    "rgba16 premultiplied": (samples(17, 23, 4, dtype="u2"), {"photometric": "rgb", "extrasamples": [1]}),
    "rgba premultiplied": (samples(17, 23, 4), {"photometric": "rgb", "extrasamples": [1]}),
    "grey16 and alpha": (
        samples(17, 23, 2, dtype="u2"),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [2]},
    ),
    "grey32": (samples(17, 23, dtype="u4"), {"photometric": "minisblack", "tile": (16, 16)}),
    "rgb float": (samples(17, 23, 3, dtype="f4"), {"photometric": "rgb", "compression": "zlib", "predictor": True}),
    "cmyk16": (samples(17, 23, 4, dtype="u2"), {"photometric": "separated"}),
    "grey12": (samples(17, 23, dtype="u2", below=4096), {"photometric": "minisblack", "bitspersample": 12}),
    "rgb10": (samples(17, 23, 3, dtype="u2", below=1024), {"photometric": "rgb", "bitspersample": 10}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_samples_come_back(kind: str, run: Run, tmp_path: Path) -> None:
    array, options = KINDS[kind]
    orders: list[Order] = ["<"] if "bitspersample" in options else ["<", ">"]  # tifffile packs bits right in one alone
    for order in orders:
        back, said = there_and_back(run, tmp_path, tiff(array, order=order, **options))
        assert "note" not in said
        with tifffile.TiffFile(back) as file, tifffile.TiffFile(tmp_path / "x.tif") as source:
            page, before = file.pages.first, source.pages.first
            assert np.array_equal(page.asarray(), array)
            assert page.asarray().dtype == array.dtype
            assert (page.photometric, page.bitspersample, page.extrasamples, page.sampleformat) == (
                before.photometric,
                before.bitspersample,
                before.extrasamples,
                before.sampleformat,
            )


def test_every_tag_comes_back(run: Run, tmp_path: Path) -> None:
    more: list[Row] = [
        *descriptive(">"),
        (34675, 7, len(ICC), ICC),
        (700, 1, len(XMP), XMP),
        (33723, 7, len(IPTC), IPTC),
        (282, 5, 1, long(">", 300, 1)),
        (283, 5, 1, long(">", 1, 3)),
        (296, 3, 1, b"\0\x03"),
    ]
    data = raw(samples(9, 14, 3).tobytes(), (14, 9), order=">", bits=(8, 8, 8), photometric=2, more=more)
    back, said = there_and_back(run, tmp_path, data)
    assert "note" not in said
    found = entries(back.read_bytes())
    assert {tag: found[tag] for tag, *_ in more} == {tag: (kind, count, value) for tag, kind, count, value in more}


def test_what_pillow_sees_in_exif_comes_back(run: Run, tmp_path: Path) -> None:
    source = Image.fromarray(smooth())
    exif = Image.Exif()
    exif[270], exif[274], exif[315] = "a picture", 6, "somebody"
    exif[34665] = {37386: 50, 36867: "2020:01:01 00:00:00"}
    out = io.BytesIO()
    source.save(out, "TIFF", exif=exif.tobytes(), dpi=(300, 300), icc_profile=ICC)
    back, said = there_and_back(run, tmp_path, out.getvalue())
    assert "note" not in said
    with Image.open(io.BytesIO(out.getvalue())) as before, Image.open(back) as after:
        assert after.getexif().get_ifd(34665) == before.getexif().get_ifd(34665)
        for tag in (270, 274, 282, 283, 296, 315):
            assert after.getexif()[tag] == before.getexif()[tag]
        assert after.info["icc_profile"] == ICC
        assert after.tobytes() == before.tobytes()


def test_a_cmyk_jpeg_with_exif_and_xmp_keeps_both(run: Run, tmp_path: Path) -> None:
    blob = exif_blob("<", descriptive("<"))
    Image.fromarray(samples(16, 16, 4), "CMYK").save(tmp_path / "a.jpg", exif=b"Exif\0\0" + blob, xmp=XMP, dpi=(72, 72))
    assert run("encode", tmp_path / "a.jpg", "-o", tmp_path / "a.ddpm", "--model", "none")[0] == 0
    code, _, said = run("decode", tmp_path / "a.ddpm", "-o", tmp_path / "a.tiff")
    assert (code, "note" in said) == (0, False)
    data = (tmp_path / "a.tiff").read_bytes()
    found, expected = all_entries(data, "<"), all_entries(blob, "<")
    assert {path: found[path] for path in expected} == expected
    assert entries(data)[700][2] == XMP


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (samples(9, 14, 4), {"photometric": "rgb", "extrasamples": [0]}, "extra channel"),
        (samples(9, 14, 5), {"photometric": "rgb", "extrasamples": [2, 0]}, "2 extra channels"),
        (samples(9, 14, 2), {"photometric": "minisblack", "planarconfig": "contig"}, "extra channel"),
        (samples(9, 14, 5), {"photometric": "separated", "extrasamples": [0]}, "extra channel"),
        (np.ones((9, 14), "f8"), {"photometric": "minisblack"}, "64 bits"),
    ],
)
def test_what_would_be_lost_is_refused_in_one_line(
    array: Samples, options: dict[str, Any], message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "x.tif").write_bytes(tiff(array, **options))
    code, out, said = run("encode", tmp_path / "x.tif", "-o", tmp_path / "x.ddpm", "--model", "none")
    assert (code, out, said.count("\n")) == (1, "", 1)
    assert message in said
    assert "lost" in said
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]


def test_a_mistyped_tag_costs_only_itself(run: Run, tmp_path: Path) -> None:
    more: list[Row] = [(282, 2, 4, b"abc\0"), (283, 2, 4, b"abc\0"), (270, 99, 1, b"\0"), (315, 2, 4, b"abc\0")]
    data = raw(samples(9, 14).tobytes(), (14, 9), more=more)
    for options in ((), ("--strip",)):
        back, said = there_and_back(run, tmp_path, data, *options)
        assert tifffile.imread(back).tobytes() == samples(9, 14).tobytes()
        assert (315 in entries(back.read_bytes())) == (not options)
        assert options or "tag 270" in said


def test_wide_samples_become_png_where_png_holds_them(run: Run, tmp_path: Path) -> None:
    array = samples(17, 23, 3, dtype="u2")
    back, _ = there_and_back(run, tmp_path, tiff(array, photometric="rgb", compression="zlib"), suffix=".png")
    data = tifffile.imread(tmp_path / "x.tif")
    assert np.array_equal(imagecodecs.png_decode(back.read_bytes()), data)
