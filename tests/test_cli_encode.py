"""``ddpm-codec encode``: what it takes, what it prints, what it refuses, and that it leaves nothing behind."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from ddpm_codec.files import decode_file, describe_file
from tests.helpers import PHOTO, SMALL, TINY, Run, pixels


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, interlace: int = 0) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace)
    for tag, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    return out


@pytest.mark.parametrize("model", ["photo", "none"])
def test_json_is_one_object_with_the_common_keys(model: str, run: Run, tmp_path: Path) -> None:
    code, out, err = run("encode", PHOTO, TINY, "-o", tmp_path / "x.ddpm", "--model", model, "--verify", "--json")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    report = json.loads(out)
    size = (tmp_path / "x.ddpm").stat().st_size
    pixel_count = 128 * 128 + 33 * 17
    assert (report["images"], report["pixels"], report["dims"]) == (2, pixel_count, 3 * pixel_count)
    assert report["file_bytes"] == size
    assert report["file_bpd"] == pytest.approx(8 * size / (3 * pixel_count))
    assert report["seconds"] > 0
    assert report["device"] == "cpu" or torch.cuda.is_available()
    if model == "none":
        assert (report["model"], report["net_bpd"], report["fallback_images"]) == (None, None, 2)
    else:
        assert (report["model"], report["fallback_images"]) == (model, 0)
        assert 0 < report["net_bpd"] < 8


def test_what_people_read_says_which_rate_it_is(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("encode", PHOTO, "-o", tmp_path / "x.ddpm")
    assert code == 0
    assert "file bits/dim (including headers)" in out
    assert "net bits/dim (model-coded pixels only)" in out


def test_what_the_fallback_coded_is_said(run: Run, tmp_path: Path) -> None:
    Image.open(TINY).convert("L").save(tmp_path / "grey.png")
    for inputs, shown in (([PHOTO], False), ([PHOTO, tmp_path / "grey.png"], True)):
        code, out, _ = run("encode", *inputs, "-o", tmp_path / "x.ddpm", "--overwrite")
        lines = [line.split() for line in out.splitlines()]
        assert code == 0
        assert (["images", "coded", "by", "the", "fallback", "1"] in lines) is shown
        assert ("fallback" in out) is shown


def test_folders_keep_their_names_below(run: Run, tmp_path: Path) -> None:
    names = ["a.png", "sub/a.png", "sub/deep/b.png"]
    for index, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(TINY).rotate(180 * index).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert run("encode", tmp_path / "in", SMALL, "-o", tmp_path / "x.ddpm")[0] == 0
    assert run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "out")[0] == 0
    back = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert back == sorted([*names, SMALL.name])
    assert all(pixels(tmp_path / "in" / name) == pixels(tmp_path / "out" / name) for name in names)


def test_pictures_that_pillow_does_not_write(run: Run, tmp_path: Path) -> None:
    """Interlaced, 16-bit grey, and a JPEG, whose decoded pixels come back."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "interlaced.png").write_bytes(png((2, 2), 8, 2, b"\0abc\0def\0ghijkl", interlace=1))
    grey = np.array([[0, 1, 256, 65535]], ">u2")
    (source / "deep.png").write_bytes(png((4, 1), 16, 0, b"\0" + grey.tobytes()))
    Image.open(SMALL).save(source / "photo.jpg", quality=80)
    assert run("encode", source, "-o", tmp_path / "x.ddpm")[0] == 0
    assert run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "out")[0] == 0
    assert pixels(tmp_path / "out" / "interlaced.png") == ("RGB", (2, 2), b"abcdefghijkl")
    with Image.open(tmp_path / "out" / "deep.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).tolist() == grey.tolist()
    assert pixels(tmp_path / "out" / "photo.png") == pixels(source / "photo.jpg")


@pytest.mark.parametrize("size", [(1, 20000), (20000, 1), (1, 1), (8, 3000)])
def test_huge_aspect_ratios(size: tuple[int, int], run: Run, tmp_path: Path) -> None:
    Image.open(PHOTO).resize(size, Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "x.ddpm")[0] == 0
    assert run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "b.png")[0] == 0
    assert pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")


def test_strip_drops_the_metadata(run: Run, tmp_path: Path) -> None:
    tags = {271: "a camera", 700: b"<x:xmpmeta/>"}
    Image.open(TINY).save(tmp_path / "a.tiff", icc_profile=b"profile" * 9, tiffinfo=tags)
    for options, expected in (((), "icc, exif, xmp"), (("--strip",), None)):
        assert run("encode", tmp_path / "a.tiff", "-o", tmp_path / "x.ddpm", "--overwrite", *options)[0] == 0
        assert describe_file(tmp_path / "x.ddpm").to_json()["pictures"][0]["metadata"] == expected
    decode_file(tmp_path / "x.ddpm", tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert not {"icc_profile", "exif", "xmp"} & set(image.info)


def test_first_frame(run: Run, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    code, _, err = run("encode", tmp_path / "a.tiff", "-o", tmp_path / "x.ddpm")
    assert (code, err.count("\n")) == (1, 1)
    assert "a.tiff: has 2 frames (--first-frame takes the first)" in err
    assert run("encode", tmp_path / "a.tiff", "-o", tmp_path / "x.ddpm", "--first-frame")[0] == 0
    decode_file(tmp_path / "x.ddpm", tmp_path / "b.png")
    assert pixels(tmp_path / "b.png")[2] == b"\xff\0\0" * 81


def bad_inputs(folder: Path) -> dict[str, bytes]:
    double = io.BytesIO()
    tifffile.imwrite(double, np.zeros((4, 5)), photometric="minisblack")
    files = {
        "text.png": b"no picture",
        "empty.png": b"",
        "cut.png": PHOTO.read_bytes()[:3000],
        "double.tif": double.getvalue(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "bare").mkdir()
    return files


REFUSED = {
    "missing.png": "No such file",
    "bare": "the folder has no pictures",
    "text.png": "",
    "empty.png": "",
    "cut.png": "",
    "double.tif": "",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_input_that_is_refused_is_one_line_and_leaves_nothing(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = bad_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, out, err = run("encode", "-o", "x.ddpm", SMALL, name, "--json")
    assert (code, err.count("\n"), out.count("\n")) == (1, 1, 1)
    found = json.loads(out)
    assert found["left_out"] == []
    ((path, reason),) = [entry.values() for entry in found["refused"]]
    assert path == name
    assert reason.startswith(REFUSED[name])
    assert found["error"] == f"{name}: {reason}"
    assert err == f"ddpm-codec: error: {name}: {reason}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*files, "bare"])


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ([TINY, TINY], "lighthouse_33x17.png: is given twice"),
        ([TINY, "--model", "nonesuch"], "no such model"),
        ([TINY, "--model", "text.png"], "text.png"),
        ([TINY, "--steps", "100000"], "100000"),
        ([TINY, "--tile", "12"], "tile must be a multiple of 8"),
        ([TINY, "--tile", "8", "--block-pixels", str(1 << 30)], "a block would have 16777216 tiles, more than 262144"),
        ([TINY, "-o", "none/x.ddpm"], "the folder none does not exist"),
        ([TINY, "-o", "bare"], "bare: is a folder"),
        ([TINY, "-o", "text.png"], "text.png: .png is an image extension"),
        ([TINY, "-o", "text.png", "--overwrite"], "text.png: .png is an image extension"),
        ([TINY, "-o", "new.jpg"], "new.jpg: .jpg is an image extension"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    words: list[str | Path], cause: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = bad_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, out, err = run("encode", "-o", "x.ddpm", SMALL, *words, "--json")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("ddpm-codec: error: ")
    assert cause in err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*files, "bare"])
    assert all((tmp_path / name).read_bytes() == data for name, data in files.items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_a_device_that_is_not_there(run: Run, tmp_path: Path) -> None:
    code, _, err = run("encode", TINY, "-o", tmp_path / "x.ddpm", "--device", "cuda")
    assert (code, err) == (1, "ddpm-codec: error: device cuda: torch sees no CUDA device here\n")
