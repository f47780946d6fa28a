"""Reading touches nothing that belongs to the process, starts no other program, and takes files from anywhere."""

import io
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from ddpm_codec.errors import InputError
from ddpm_codec.image_io import check_header, picture_from_image, read_picture, read_stored
from tests.helpers import Run
from tests.readers.pngs import noise, one
from tests.readers.samples import RGB, Sample, image, of_pillow, saved

FILES = list(of_pillow())
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def test_postscript_is_no_picture_whatever_it_is_called(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    fake = tmp_path / "bin" / "gs"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {started}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "photo.png").write_bytes(POSTSCRIPT)
    code, _, error = run("encode", tmp_path / "photo.png", "-o", tmp_path / "x.ddpm", "--model", "none")
    assert (code, "photo.png: is not an image" in error) == (1, True)
    assert not started.exists()


def test_pillow_keeps_its_limit_and_its_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose limit is small, and that makes errors of warnings, still gets every format."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inside = list(warnings.filters)
        for sample in FILES:
            read_stored(sample.data, name=sample.name)
        assert list(warnings.filters) == inside
    assert list(warnings.filters) == before
    assert Image.MAX_IMAGE_PIXELS == 10


def test_other_threads_open_images_all_the_while(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(saved(RGB.resize((600, 600)), "PNG"))
    failures: list[Exception] = []
    done = threading.Event()

    def open_images() -> None:
        while not done.is_set():
            try:
                Image.open(tmp_path / "x.png").close()
            except Exception as error:  # whatever it is, it is a failure of the test
                failures.append(error)

    other = threading.Thread(target=open_images)
    other.start()
    try:
        for _ in range(20):
            with pytest.raises(InputError, match="pixels"):
                read_picture(tmp_path / "x.png", max_pixels=100)
            read_picture(tmp_path / "x.png")
    finally:
        done.set()
        other.join()
    assert failures == []


def test_what_is_missing_is_refused_even_where_pillow_is_told_to_fill_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for sample in FILES:
        if sample.format == "TGA":
            continue  # a footer that may be missing
        with pytest.raises(InputError):
            read_stored(sample.data[: len(sample.data) * 2 // 3], name=sample.name)


@pytest.mark.parametrize("sample", FILES[::7], ids=lambda sample: f"{sample.format} {sample.label}")
def test_paths_files_pipes_and_bytes_are_read_alike(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / sample.name
    path.write_bytes(sample.data)
    expected = read_stored(path)
    assert read_stored(sample.data, name=sample.name) == expected
    with path.open("rb") as file:
        file.seek(5)
        header, info = check_header(file, name=sample.name), expected.picture.info
        assert (header.size, header.bits > 8, header.white) == (info.size, info.layout.sample_bits > 8, info.white)
        assert file.tell() == 5
        assert read_stored(file, name=sample.name) == expected
    inward, outward = os.pipe()

    def write() -> None:
        with os.fdopen(outward, "wb") as pipe:
            pipe.write(sample.data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(inward, "rb") as pipe:
        assert read_stored(pipe, name=sample.name) == expected
    writer.join()


def test_the_contents_tell_the_format_and_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(saved(RGB, "PNG"))
    np.testing.assert_array_equal(read_picture(tmp_path / "x.jpg").samples(), np.asarray(RGB))


def test_headers_alone_name_what_would_be_lost(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    cases = [
        (saved(image("RGBA"), "JPEG2000", no_jp2=True), "does not say what they mean"),
        (b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0\3\0\0\0\2\0\0\0\1\0\x10\0" + bytes(40), "16 bits per pixel"),
        (saved(RGB, "JPEG") + saved(RGB, "JPEG"), "has 2 pictures"),
    ]
    for data, line in cases:
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"x.png: .*{line}"):
            check_header(path)


def test_opened_images_that_pillow_reads_otherwise_are_refused() -> None:
    short = one(8, 2)
    short = short[: short.index(b"IDAT") - 4] + short[short.index(b"IEND") - 4 :]
    cases = [
        (one(16, 2), "has more than 8 bits per colour sample"),
        (one(16, 4), "has more than 8 bits per colour sample"),
        (b"P5 2 1 100\nab", "white at 100; Pillow scales them"),
        (saved(RGB, "JPEG")[:-300] + b"\xff\xd9", "is damaged"),
        (b"P6 2 1 1023\n" + bytes(12), "has more than 8 bits per colour sample"),
    ]
    for data, line in cases:
        with Image.open(io.BytesIO(data)) as opened, pytest.raises(InputError, match=f"^x: .*{line}"):
            picture_from_image(opened, "x")


@pytest.mark.parametrize("sample", FILES, ids=lambda sample: f"{sample.format} {sample.label}")
def test_opened_images_that_pillow_reads_exactly_are_taken(sample: Sample) -> None:
    expected = read_stored(sample.data, name=sample.name).picture
    with Image.open(io.BytesIO(sample.data)) as opened:
        before = opened.fp.tell() if opened.fp else None
        assert picture_from_image(opened, sample.name).pixels == expected.pixels
        assert before is not None


def test_images_that_are_loaded_are_what_they_are() -> None:
    with Image.open(io.BytesIO(one(16, 2))) as opened:
        opened.load()
        found = picture_from_image(opened, "x")
    np.testing.assert_array_equal(found.samples(), noise(16, 2) >> 8)
    changed = Image.open(io.BytesIO(saved(image("RGBA"), "ICO", sizes=[(32, 32)])))
    changed.putpixel((0, 0), (1, 2, 3, 4))
    assert picture_from_image(changed, "x").samples()[0, 0].tolist() == [1, 2, 3, 4]
