"""Pictures in and out of image files: everything exact, everything else refused in one line."""

import errno
import io
import os
import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from ddpm_codec.errors import InputError, OutputError, OutputExistsError
from ddpm_codec.image_io import default_extension, list_inputs, read_picture, to_image, write_picture
from ddpm_codec.image_io.exact import colours
from ddpm_codec.picture import MODES, Palette, Picture, PictureInfo, Transparency

SIZES = [(1, 1), (1, 7), (9, 1), (33, 17)]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<?xpacket begin=''?><x:xmpmeta xmlns:x='adobe:ns:meta/'/><?xpacket end='w'?>"


def exif() -> bytes:
    tags = Image.Exif()
    tags[274], tags[271] = 6, "Maker"
    tags[34665] = {37386: 50, 36864: b"0230"}
    return tags.tobytes().removeprefix(b"Exif\0\0")


def picture(mode: str, size: tuple[int, int] = (12, 9), **more: object) -> Picture:
    pixels = np.random.default_rng(5).integers(0, 256, MODES[mode].byte_count(size), np.uint8).tobytes()
    if mode == "1":
        pixels = Image.frombytes("1", size, pixels).tobytes()
    if MODES[mode].has_palette:
        more.setdefault("palette", Palette(3, bytes(range(256)) * 3))
    return Picture(replace(PictureInfo("x", mode, size), **more), pixels)  # type: ignore[arg-type]


def assert_same(got: Picture, expected: Picture) -> None:
    assert (got.mode, got.size, got.pixels) == (expected.mode, expected.size, expected.pixels)
    assert colours(got.palette, got.transparency) == colours(expected.palette, expected.transparency)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", sorted(MODES))
def test_every_mode_is_written_and_read_exactly(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    original = picture(mode, size)
    path = tmp_path / ("x" + default_extension(original.info))
    assert write_picture(original, path) == []
    assert os.listdir(tmp_path) == [path.name]
    if path.suffix != ".npy":
        assert_same(read_picture(path), original)
    elif MODES[mode].sample_bits == 8:
        assert np.load(path).reshape(original.array().shape).tobytes() == original.pixels
    else:
        assert np.load(path).tobytes() == original.pixels


@pytest.mark.parametrize("mode", sorted(mode for mode in MODES if MODES[mode].in_pillow))
def test_pillow_and_back(mode: str) -> None:
    original = picture(mode)
    image = to_image(original)
    assert (image.mode, image.size, image.tobytes()) == (mode, original.size, original.pixels)


def test_default_extensions() -> None:
    png = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "LA;16", "RGB;16", "RGBA;16"}
    npy = {"RGBX", "HSV", "I;16L"}
    expected = {mode: ".png" if mode in png else ".npy" if mode in npy else ".tiff" for mode in MODES}
    assert {mode: default_extension(picture(mode).info) for mode in MODES} == expected


def test_the_default_for_samples_of_another_white() -> None:
    infos = [PictureInfo("x", mode, (1, 1), white=1000) for mode in ("I;16", "RGB;16", "RGBA;16")]
    assert [default_extension(info) for info in infos] == [".pgm", ".ppm", ".npy"]


GREY_AND_RGB = {"1", "L", "RGB"}
HOLDS = {
    ".png": {*GREY_AND_RGB, "LA", "P", "RGBA", "I;16", "LA;16", "RGB;16", "RGBA;16"},
    ".webp": {"RGB", "RGBA"},
    ".tiff": {mode for mode in MODES if mode not in ("RGBX", "HSV", "I;16L")},
    ".ppm": {*GREY_AND_RGB, "I;16", "RGB;16"},
    ".bmp": {*GREY_AND_RGB, "P"},
    ".npy": set(MODES),
}


@pytest.mark.parametrize("extension", ["png", "webp", "tiff", "ppm", "bmp", "npy"])
@pytest.mark.parametrize("mode", sorted(MODES))
def test_a_format_is_exact_or_refuses(tmp_path: Path, mode: str, extension: str) -> None:
    path = tmp_path / f"x.{extension}"
    original = picture(mode)
    if mode not in HOLDS[path.suffix]:
        with pytest.raises(InputError, match=f"cannot hold mode {mode} exactly; use "):
            write_picture(original, path)
        assert os.listdir(tmp_path) == []
        return
    write_picture(original, path)
    if extension != "npy":
        assert_same(read_picture(path), original)


def test_what_formats_refuse(tmp_path: Path) -> None:
    cases = [
        (picture("RGB"), "x.jpg", r"\.jpg would lose pixel values; use png"),
        (picture("RGB"), "x.JPEG", "would lose"),
        (picture("RGB"), "x.xyz", "not a format"),
        (picture("RGB"), "x", "no extension"),
        (picture("LA"), "x.bmp", "bmp cannot hold mode LA exactly; use png or tiff"),
        (picture("HSV"), "x.png", "png cannot hold mode HSV exactly; use npy"),
        (picture("L", transparency=3), "x.tiff", "tiff cannot hold a transparent colour exactly; use png"),
        (picture("RGB", (20000, 1)), "x.webp", "20000x1 pixels"),
        (Picture(PictureInfo("x", "RGBA", (9, 9)), b"\xff" * 324), "x.webp", "webp cannot hold this picture exactly"),
    ]
    for original, name, message in cases:
        with pytest.raises(InputError, match=message):
            write_picture(original, tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [
        ("P", 3),
        ("P", bytes([0, 128, 255, 7])),
        ("P", bytes(range(256))),
        ("L", 200),
        ("1", 255),
        ("RGB", (1, 2, 44)),
        ("I;16", 40000),
    ],
)
def test_transparency_comes_back_through_png(tmp_path: Path, mode: str, transparency: Transparency) -> None:
    original = picture(mode, transparency=transparency)
    write_picture(original, tmp_path / "x.png")
    got = read_picture(tmp_path / "x.png")
    assert_same(got, original)
    write_picture(got, tmp_path / "y.png")
    assert read_picture(tmp_path / "y.png") == Picture(PictureInfo("y.png", *_rest(got)), got.pixels)


def _rest(got: Picture) -> tuple[Any, ...]:
    return got.mode, got.size, got.palette, got.transparency, got.metadata


def test_palettes_short_long_and_with_alpha(tmp_path: Path) -> None:
    few = Picture(PictureInfo("x", "P", (4, 1), Palette(3, bytes(range(9)))), bytes([0, 1, 2, 1]))
    beyond = Picture(PictureInfo("x", "P", (4, 1), Palette(3, bytes(range(9)))), bytes([0, 1, 200, 1]))
    alpha = Picture(PictureInfo("x", "P", (4, 1), Palette(4, bytes(range(16)))), bytes([0, 1, 2, 3]))
    for index, original in enumerate((few, beyond, alpha)):
        write_picture(original, tmp_path / f"{index}.png")
        assert_same(read_picture(tmp_path / f"{index}.png"), original)


@pytest.mark.parametrize("extension", ["png", "webp", "tiff"])
def test_metadata_come_back(tmp_path: Path, extension: str) -> None:
    original = picture("RGB", metadata={"icc": ICC, "exif": exif(), "xmp": XMP})
    assert write_picture(original, tmp_path / f"x.{extension}") == []
    got = read_picture(tmp_path / f"x.{extension}")
    assert_same(got, original)
    assert got.metadata["icc"] == ICC
    assert got.metadata["xmp"] == XMP
    if extension != "tiff":
        assert got.metadata == original.metadata


def test_tiff_metadata_keep_their_meaning(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[271], tags[315] = "Maker", "Artist"
    tags[34665] = {37386: 50}
    write_picture(picture("CMYK", metadata={"exif": tags.tobytes()[6:]}), tmp_path / "x.tiff")
    again = Image.Exif()
    again.load(b"Exif\0\0" + read_picture(tmp_path / "x.tiff").metadata["exif"])
    assert (again[271], again[315], float(again.get_ifd(34665)[37386])) == ("Maker", "Artist", 50)


@pytest.mark.parametrize("extension", ["ppm", "bmp"])
def test_metadata_that_a_format_lacks_is_named(tmp_path: Path, extension: str) -> None:
    original = picture("RGB", metadata={"icc": ICC, "xmp": XMP})
    warned = write_picture(original, tmp_path / f"x.{extension}")
    assert len(warned) == 2
    assert f"{extension} does not hold ICC metadata" in warned[0]


def test_a_profile_of_megabytes_comes_back_in_png(tmp_path: Path) -> None:
    profile = np.random.default_rng(1).bytes(1 << 21)
    assert write_picture(picture("RGB", metadata={"icc": profile}), tmp_path / "x.png") == []
    assert read_picture(tmp_path / "x.png").metadata == {"icc": profile}


def test_jpeg_keeps_metadata_and_is_not_turned(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    image.save(path, exif=b"Exif\0\0" + exif(), icc_profile=ICC, xmp=XMP)
    got = read_picture(path, name="a/b.jpg")
    assert (got.name, got.mode, got.size) == ("a/b.jpg", "RGB", (30, 20))
    assert got.metadata == {"icc": ICC, "exif": exif(), "xmp": XMP}


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *, interlace: int = 0, extra: bytes = b""
) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    for tag, body in ((b"IHDR", header), (b"tRNS", extra), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        if body or tag == b"IEND":
            out += struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    return out


@pytest.mark.parametrize(("colour", "samples"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bit_colour_is_kept(tmp_path: Path, colour: int, samples: int) -> None:
    values = np.random.default_rng(colour).integers(0, 65536, (1, 2, samples), np.uint16)
    (tmp_path / "x.png").write_bytes(png(2, 1, 16, colour, b"\0" + values.astype(">u2").tobytes()))
    np.testing.assert_array_equal(read_picture(tmp_path / "x.png").samples(), values, strict=True)


def test_sixteen_bit_grey(tmp_path: Path) -> None:
    values = np.array([[0, 1, 256, 65535]], ">u2")
    (tmp_path / "x.png").write_bytes(png(4, 1, 16, 0, b"\0" + values.tobytes(), extra=b"\x01\x00"))
    got = read_picture(tmp_path / "x.png")
    assert (got.mode, got.transparency) == ("I;16", 256)
    assert np.frombuffer(got.pixels, "<u2").tolist() == values[0].tolist()


def test_four_bit_grey_with_transparency_keeps_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(2, 1, 4, 0, b"\0\x3f", extra=b"\0\x03"))
    got = read_picture(tmp_path / "x.png")
    assert (got.mode, got.pixels, got.transparency) == ("L", bytes([3 * 17, 255]), 3 * 17)


def test_interlaced_png(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(2, 2, 8, 0, b"\0a" + b"\0b" + b"\0cd", interlace=1))
    assert read_picture(tmp_path / "x.png").pixels == b"abcd"


def test_huge_aspect(tmp_path: Path) -> None:
    for size in ((60000, 1), (1, 60000)):
        original = picture("RGB", size)
        write_picture(original, tmp_path / "x.png", overwrite=True)
        assert_same(read_picture(tmp_path / "x.png"), original)


def test_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("P", (4, 4), index) for index in range(3)]
    for index, frame in enumerate(frames):
        frame.putpalette([index * 9, 1, 2] * 4)
    for name in ("x.gif", "x.tiff", "x.png", "x.webp"):
        images = [frame.convert("RGB") for frame in frames] if name != "x.gif" else frames
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
        with pytest.raises(InputError, match="has 3 frames"):
            read_picture(tmp_path / name)
        got = read_picture(tmp_path / name, first_frame=True)
        assert got.size == (4, 4)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    cases = {"missing.png": "No such file", "text.png": "not an image", "empty.png": "not an image", ".": "folder"}
    for name, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="not a regular file"):
        read_picture(Path("/dev/null"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_truncated_pictures(tmp_path: Path, kind: str) -> None:
    out = io.BytesIO()
    noise = np.random.default_rng(6).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(out, kind)
    path = tmp_path / "x.img"
    for part in (8, 2, 1.2):
        path.write_bytes(out.getvalue()[: int(len(out.getvalue()) / part)])
        with pytest.raises(InputError, match=r"x\.img") as caught:
            read_picture(path)
        assert "\n" not in str(caught.value)


def test_size_limit_is_ours_and_pillow_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("1", (20000, 10000)).save(path)
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(path).size == (20000, 10000)
    with pytest.raises(InputError, match="pixels"):
        read_picture(path, max_pixels=10**8)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_header_that_claims_two_to_the_31_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(1 << 16, 1 << 15, 8, 2, b"\0"))
    with pytest.raises(InputError, match="has 2147483648 pixels, more than 268435456"):
        read_picture(path)


def test_xmp_in_compressed_text(tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    Image.new("L", (1, 1)).save(tmp_path / "x.png", pnginfo=chunks)
    assert read_picture(tmp_path / "x.png").metadata == {"xmp": XMP}


def test_existing_outputs_and_full_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_text("mine")
    with pytest.raises(OutputExistsError):
        write_picture(picture("RGB"), path)
    assert path.read_text() == "mine"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"x\.png: cannot be written \(No space left"):
            write_picture(picture("RGB"), path, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left"):
            write_picture(picture("RGB"), path, overwrite=True)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["x.png"]
    write_picture(picture("RGB"), path, overwrite=True)
    assert_same(read_picture(path), picture("RGB"))


def test_overwriting_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "target.png").write_text("old")
    (tmp_path / "link.png").symlink_to("target.png")
    write_picture(picture("L"), tmp_path / "link.png", overwrite=True)
    assert (tmp_path / "link.png").is_symlink()
    assert_same(read_picture(tmp_path / "target.png"), picture("L"))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_listing(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    touch(a / "2.png", a / "1.PNG", a / "sub/x.jpg", a / ".hidden.png", a / ".git/x.png", a / "notes.txt", b / "odd")
    listing = list_inputs([a, b / "odd"])
    assert listing.files == [
        (a / "1.PNG", "1.PNG"),
        (a / "2.png", "2.png"),
        (a / "sub/x.jpg", "sub/x.jpg"),
        (b / "odd", "odd"),
    ]
    assert listing.left_out == [
        (str(a / ".git"), "is hidden"),
        (str(a / ".hidden.png"), "is hidden"),
        (str(a / "notes.txt"), "is no picture of a format that is read"),
    ]
    assert listing.refused == []


def test_listing_tells_equal_names_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    touch(a / "x.png", b / "x.png", b / "c/x.png", tmp_path / "other/a/x.png")

    def names(*paths: Path) -> list[str]:
        return [name for _, name in list_inputs(paths).files]

    assert names(a / "x.png", b) == ["a/x.png", "c/x.png", "b/x.png"]
    assert names(a / "x.png", tmp_path / "other/a/x.png") == [f"{tmp_path.name}/a/x.png", "other/a/x.png"]
    assert names(a, b, tmp_path / "other/a") == [f"{tmp_path.name}/a/x.png", "c/x.png", "b/x.png", "other/a/x.png"]
    with pytest.raises(InputError, match="given twice"):
        list_inputs([a / "x.png", a])


def test_listing_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures given"):
        list_inputs([])
    touch(tmp_path / "in/a\\b.png", tmp_path / "in/c.png")
    (tmp_path / "bare").mkdir()
    listing = list_inputs([tmp_path / "bare", tmp_path / "x.png", tmp_path / "in"])
    assert listing.files == [(tmp_path / "in/c.png", "c.png")]
    assert listing.refused == [
        (str(tmp_path / "bare"), "the folder has no pictures"),
        (str(tmp_path / "x.png"), "No such file or directory"),
        (str(tmp_path / "in/a\\b.png"), "name 'a\\\\b.png' is not a plain relative path"),
    ]
