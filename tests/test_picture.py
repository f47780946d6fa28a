"""Pictures as arrays and as Pillow images: every sample, palette, transparent colour and piece of metadata comes back."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io import picture_from_image, read_picture, to_image
from ddpm_codec.picture import MODES, MetadataKey, Palette, Picture, PictureInfo, Transparency, picture_from_array

DTYPES = {"1": "bool", "I": "int32", "F": "float32"}
"""By mode; of other modes, the name's end tells."""
ENDS = {"16": "uint16", "16L": "uint16", "16B": "uint16", "32": "uint32", "F": "float32"}
ARRAY_MODES = {
    "uint8": ("L", "LA", "RGB", "RGBA"),
    "uint16": ("I;16", "LA;16", "RGB;16", "RGBA;16"),
    "uint32": ("L;32", "LA;32", "RGB;32", "RGBA;32"),
    "float32": ("F", "LA;F", "RGB;F", "RGBA;F"),
}


@st.composite
def pictures(draw: st.DrawFn, modes: tuple[str, ...] = tuple(MODES)) -> Picture:
    """Return a picture of one of the modes with anything that its mode may carry."""
    mode = draw(st.sampled_from(sorted(modes)))
    layout = MODES[mode]
    size = draw(st.integers(1, 19)), draw(st.integers(1, 9))
    length = layout.byte_count(size)
    pixels = draw(st.binary(min_size=length, max_size=length))
    if mode == "1":  # The bits after a row's last pixel are zero.
        pixels = Image.frombytes("1", size, pixels).tobytes()
    palette = None
    transparency: Transparency | None = None
    if layout.has_palette:
        channels = draw(st.sampled_from([3, 4]))
        colours = draw(st.integers(1, 256).flatmap(lambda n: st.binary(min_size=channels * n, max_size=channels * n)))
        palette = Palette(channels, colours)
        if channels == 3:
            transparency = draw(st.none() | st.integers(0, 255) | st.binary(min_size=1, max_size=256))
    elif mode in ("L", "I;16", "RGB"):
        value = st.integers(0, 255)
        kinds: st.SearchStrategy[Transparency] = st.tuples(value, value, value) if mode == "RGB" else value
        transparency = draw(st.none() | kinds)
    keys: st.SearchStrategy[MetadataKey] = st.sampled_from(["icc", "exif", "xmp"])
    metadata = draw(st.dictionaries(keys, st.binary(min_size=1, max_size=9)))
    return Picture(PictureInfo("a/b.png", mode, size, palette, transparency, metadata), pixels)


PILLOW_MODES = tuple(name for name, mode in MODES.items() if mode.in_pillow)


@given(pictures(PILLOW_MODES))
def test_a_pillow_image_keeps_everything(original: Picture) -> None:
    assert picture_from_image(to_image(original), "a/b.png") == original


@given(pictures())
def test_samples_are_those_of_the_pillow_image_or_of_the_bytes(original: Picture) -> None:
    samples = original.samples()
    width, height = original.size
    channels = original.info.layout.channels
    kind = DTYPES.get(original.mode) or ENDS.get(original.mode.partition(";")[2], "uint8")
    assert samples.dtype == np.dtype(kind)
    assert samples.dtype.isnative
    assert samples.shape == ((height, width) if channels == 1 else (height, width, channels))
    assert not samples.flags.writeable
    if original.mode not in PILLOW_MODES:
        little = samples.astype(samples.dtype.newbyteorder("<"))
        assert little.tobytes() == original.pixels
        with pytest.raises(InputError, match="Pillow has no mode for samples of mode"):
            to_image(original)
        return
    image = to_image(original)
    for y, x in {(0, 0), (height - 1, 0), (0, width - 1), (height // 2, width // 2)}:
        expected = np.asarray(image.getpixel((x, y)))
        # Pillow gives 255 for a set bit, and not the last bit of a float that is not a number.
        np.testing.assert_array_equal(samples[y, x], expected != 0 if original.mode == "1" else expected)


def test_samples_of_sixteen_bits_in_either_byte_order() -> None:
    for mode in ("I;16", "I;16L", "I;16B"):
        stored = np.array([[1, 256, 65535]], ">u2" if mode == "I;16B" else "<u2")
        picture = Picture(PictureInfo("x", mode, (3, 1)), stored.tobytes())
        np.testing.assert_array_equal(picture.samples(), np.array([[1, 256, 65535]], np.uint16), strict=True)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: st.sampled_from([size + rest for rest in ((), (2,), (3,), (4,))])
)
DTYPES_OF_ARRAYS = st.sampled_from(sorted(ARRAY_MODES)).flatmap(
    lambda name: st.sampled_from([f"<{np.dtype(name).str[1:]}", f">{np.dtype(name).str[1:]}"])
)


@given(arrays.arrays(DTYPES_OF_ARRAYS, SHAPES))
def test_arrays_come_back(array: np.ndarray[Any, np.dtype[Any]]) -> None:
    picture = picture_from_array(array, "a/b")
    native = array.astype(array.dtype.newbyteorder("="))
    mode = ARRAY_MODES[native.dtype.name][array.shape[2] - 1 if array.ndim == 3 else 0]
    assert picture.info == PictureInfo("a/b", mode, (array.shape[1], array.shape[0]))
    np.testing.assert_array_equal(picture.samples(), native, strict=True)
    assert picture.samples().tobytes() == native.tobytes()


def test_arrays_of_any_strides_and_their_later_changes() -> None:
    array = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    view = array.transpose(1, 0, 2)[::-1, ::2]
    expected = view.copy()
    picture = picture_from_array(view, "x")
    array[:] = 0
    np.testing.assert_array_equal(picture.samples(), expected, strict=True)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "int64", "uint64", "float16", "float64", "object", "S1"])
def test_arrays_of_another_type_are_refused_by_its_name(dtype: str) -> None:
    array: Any = np.zeros((2, 2)).astype(dtype)
    with pytest.raises(TypeError, match=str(np.dtype(dtype)).replace("|", r"\|")):
        picture_from_array(array, "x")


@pytest.mark.parametrize("value", [[[1, 2]], b"12", None, np.uint8(3)])
def test_what_is_not_an_array_is_refused_by_its_type(value: Any) -> None:  # noqa: ANN401 - anything at all
    with pytest.raises(TypeError, match=f"got {type(value).__name__}"):
        picture_from_array(value, "x")


@pytest.mark.parametrize(
    "shape", [(), (3,), (2, 2, 1), (2, 2, 5), (2, 2, 3, 1), (0, 2), (2, 0), (0, 0, 3), (2, 2, 0), (1, 3, 4, 4)]
)
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^x: expected an array of shape .*; got \[") as caught:
        picture_from_array(np.zeros(shape, np.uint8), "x")
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize("make", [picture_from_array, picture_from_image])
def test_names_that_lead_elsewhere_are_refused(make: Callable[[Any, str], Picture]) -> None:
    source: Any = np.zeros((1, 1), np.uint8) if make is picture_from_array else Image.new("L", (1, 1))
    for name in ("", "/x", "../x", "a\\b"):
        with pytest.raises(InputError, match="plain relative path"):
            make(source, name)


def opened(kind: str, **options: Any) -> Image.Image:  # noqa: ANN401 - as Pillow takes
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (1, 2, 3)).save(out, kind, **options)
    return Image.open(io.BytesIO(out.getvalue()))


def test_an_opened_image_is_read_as_its_file_is(tmp_path: Path) -> None:
    icc, exif, xmp = b"profile" * 20, Image.Exif(), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    exif[274] = 6
    Image.new("RGB", (40, 30), (1, 2, 3)).save(tmp_path / "x.jpg", exif=exif, icc_profile=icc, xmp=xmp)
    with Image.open(tmp_path / "x.jpg") as image:
        got = picture_from_image(image, "x.jpg")
    assert got == read_picture(tmp_path / "x.jpg")
    assert set(got.metadata) == {"icc", "exif", "xmp"}


def test_the_current_frame_is_taken() -> None:
    frames = [Image.new("L", (4, 4), 50 * index) for index in range(3)]
    image = opened("TIFF", save_all=True, append_images=[frame.convert("RGB") for frame in frames])
    image.seek(3)
    assert picture_from_image(image, "x").pixels == bytes([100]) * 48


def png(width: int, depth: int, colour: int, row: bytes, transparent: bytes = b"") -> io.BytesIO:
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    for tag, body in chunks:
        if body or tag == b"IEND":
            out += struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    return io.BytesIO(out)


def jpeg2000(bits: int) -> io.BytesIO:
    """Return a JPEG 2000 file of three colours whose header says that a sample has ``bits`` bits."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG2000", no_jp2=True)
    data = bytearray(out.getvalue())
    first = data.index(b"\xff\x4f\xff\x51") + 42
    data[first : first + 9 : 3] = bytes([bits - 1]) * 3
    return io.BytesIO(bytes(data))


@pytest.mark.parametrize("file", [png(2, 16, 2, bytes(12)), io.BytesIO(b"P6 2 1 65535\n" + bytes(12)), jpeg2000(12)])
def test_opened_files_of_sixteen_bit_colour_are_refused(file: io.BytesIO) -> None:
    with Image.open(file) as image, pytest.raises(InputError, match=r"^x: has more than 8 bits"):
        picture_from_image(image, "x")


def test_eight_bit_jpeg2000_is_taken_and_its_file_left_where_it_was() -> None:
    with Image.open(jpeg2000(8)) as image:
        assert picture_from_image(image, "x").pixels == bytes(192)


def test_a_transparent_four_bit_grey_is_scaled_with_its_pixels() -> None:
    with Image.open(png(2, 4, 0, b"\x3f", b"\0\x03")) as image:
        got = picture_from_image(image, "x")
    assert (got.mode, got.pixels, got.transparency) == ("L", bytes([3 * 17, 255]), 3 * 17)


def test_images_that_cannot_be_coded_are_refused_in_one_line() -> None:
    unknown = Image.new("L", (2, 2))
    unknown.info["transparency"] = 0.5
    half = opened("PNG")
    half.fp = io.BytesIO(b"")  # type: ignore[attr-defined]
    closed = opened("PNG")
    closed.close()
    cases = [
        (Image.new("RGB", (0, 3)), r"has no pixels \(0x3\)"),
        (Image.new("I;16N", (2, 2)), "pixel mode I;16N is not supported"),
        (unknown, "transparency of type float is not supported"),
        (half, "cannot be read"),
        (closed, "is damaged"),
    ]
    for image, message in cases:
        with pytest.raises(InputError, match=f"^a/x: .*{message}") as caught:
            picture_from_image(image, "a/x")
        assert "\n" not in str(caught.value)


def test_values_of_transparency_may_be_of_any_kind_that_pillow_gives() -> None:
    values: list[Transparency] = [7, b"\1\2", (1, 2, 3)]
    for value in values:
        image = Image.new("RGB", (1, 1))
        image.info["transparency"] = value
        assert picture_from_image(image, "x").transparency == value
