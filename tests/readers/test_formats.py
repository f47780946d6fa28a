"""Every format: what is read is what an independent reader finds, or it is refused in one line."""

import io
import struct
import time
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io import read_stored
from ddpm_codec.image_io.exact import colours, palette_of, pixels_of, transparency_of
from ddpm_codec.picture import Picture
from tests.readers import samples
from tests.readers.samples import Sample, image, of_pillow, saved, wide

FILES = list(of_pillow())


def read(data: bytes, name: str = "x", **options: Any) -> Picture:  # noqa: ANN401 - as read_stored takes
    return read_stored(data, name=name, **options).picture


def refused(data: bytes, name: str = "x", **options: Any) -> str:  # noqa: ANN401 - as read_stored takes
    with pytest.raises(InputError) as caught:
        read_stored(data, name=name, **options)
    line = str(caught.value)
    assert line.startswith(f"{name}: ")
    assert "\n" not in line
    return line


def read_or_line(data: bytes, name: str = "x") -> Picture | str:
    """Return the picture, or the line that refuses it."""
    try:
        return read(data, name)
    except InputError as error:
        return str(error)


def same(a: Picture, b: Picture) -> bool:
    alike = (a.mode, a.size, a.pixels) == (b.mode, b.size, b.pixels)
    return alike and colours(a.palette, a.transparency) == colours(b.palette, b.transparency)


@pytest.mark.parametrize("sample", FILES, ids=lambda sample: f"{sample.format} {sample.label}")
def test_what_pillow_writes_is_read_as_pillow_reads_it(sample: Sample) -> None:
    found = read_stored(sample.data, name=sample.name)
    with Image.open(io.BytesIO(sample.data)) as expected:
        expected.load()
        got = found.picture
        assert (got.mode, got.size, got.pixels) == (expected.mode, expected.size, pixels_of(expected))
        wanted = colours(palette_of(expected), transparency_of(expected))
        assert colours(got.palette, got.transparency) == wanted
    assert [note for note in found.notes if "linear" not in note] == []


@pytest.mark.parametrize("sample", FILES, ids=lambda sample: f"{sample.format} {sample.label}")
def test_a_file_that_is_cut_is_refused_or_the_same(sample: Sample) -> None:
    whole, length = read(sample.data, sample.name), len(sample.data)
    for end in sorted({*range(0, length, max(1, length // 12)), *range(length - 6, length)}):
        cut = read_or_line(sample.data[:end], sample.name)
        assert "\n" not in cut if isinstance(cut, str) else same(cut, whole), f"{length - end} bytes less"


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif_of_more_than_eight_bits(bits: int, channels: int) -> None:
    expected = wide(bits, channels)
    got = read(samples.avif(expected, bits))
    np.testing.assert_array_equal(got.samples(), expected, strict=True)
    assert got.info.white == (None if bits == 8 else (1 << bits) - 1)


def test_colours_of_avif_that_are_not_srgb_stay_with_the_samples() -> None:
    data = bytes(imagecodecs.avif_encode(wide(10, 3), level=100, bitspersample=10, primaries=9, transfer=16))
    assert read(data).metadata["png"] == struct.pack(">I4s4B", 4, b"cICP", 9, 16, 0, 1)
    assert read(samples.avif(wide(8, 3), 8)).metadata == {}


def test_avif_with_colours_multiplied_by_alpha_is_refused() -> None:
    assert "multiplied by alpha" in refused(saved(image("RGBA"), "AVIF", alpha_premultiplied=True))


@pytest.mark.parametrize("bits", [1, 4, 7, 8, 9, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg2000_of_any_depth(bits: int, channels: int) -> None:
    expected = wide(bits, channels)
    got = read(samples.jpeg2000(expected, bits))
    np.testing.assert_array_equal(got.samples(), expected, strict=True)
    assert got.info.white == (None if bits in (8, 16) else (1 << bits) - 1)


def test_jpeg2000_without_meaning_of_a_channel_is_refused() -> None:
    assert "does not say what the last one means" in refused(samples.jpeg2000(wide(8, 4), 8))
    assert "does not say what they mean" in refused(saved(image("RGBA"), "JPEG2000", no_jp2=True))
    signed = bytearray(samples.jpeg2000(wide(8, 1), 8))
    signed[signed.index(b"\xff\x51") + 40] |= 0x80
    assert "signed samples" in refused(bytes(signed))


def test_a_code_stream_cut_and_closed_is_refused() -> None:
    data = saved(image("RGB"), "JPEG2000", no_jp2=True)
    start = data.index(b"\xff\x90")
    for end in range(start + 40, len(data) - 2, 97):
        cut = bytearray(data[:end] + b"\xff\xd9")
        struct.pack_into(">I", cut, start + 6, end - start)
        assert "damaged" in refused(bytes(cut))


def test_webp_cut_and_closed_is_refused() -> None:
    for mode, options in (("RGBA", {}), ("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", {"lossless": True})):
        data = saved(image(mode), "WEBP", **options)
        whole, chunks = read(data), samples.riff_chunks(data)
        for number, (tag, body) in enumerate(chunks):
            if tag == b"VP8X":
                continue
            for end in (12, len(body) // 2, len(body) - 20, len(body) - 1):
                cut = samples.riff([*chunks[:number], (tag, body[:end]), *chunks[number + 1 :]])
                got = read_or_line(cut)
                assert "damaged" in got if isinstance(got, str) else same(got, whole)


def test_webp_is_what_libwebp_gives() -> None:
    for mode, options in (("RGBA", {}), ("RGB", {}), ("RGBA", {"lossless": True, "exact": True})):
        data = saved(image(mode), "WEBP", **options)
        np.testing.assert_array_equal(read(data).samples(), imagecodecs.webp_decode(data), strict=True)


def sub_blocks(file: bytes) -> tuple[int, bytes]:
    """Return where the picture data of a GIF file begin (behind the code size), and the data."""
    at = file.index(b"\x2c\0\0\0\0") + 10
    if file[at - 1] & 0x80:
        at += 3 << (file[at - 1] & 7) + 1
    start, data, at = at + 1, b"", at + 1
    while file[at]:
        data += file[at + 1 : at + 1 + file[at]]
        at += 1 + file[at]
    return start, data


def test_gif_cut_and_closed_is_refused() -> None:
    file = saved(image("P50"), "GIF")
    start, data = sub_blocks(file)
    for end in (5, len(data) // 2, len(data) - 3, len(data) - 2):
        blocks = b"".join(bytes([len(data[at:end][:255])]) + data[at:end][:255] for at in range(0, end, 255))
        assert "damaged" in refused(file[:start] + blocks + b"\0;")


def test_gif_whose_first_frame_is_smaller_than_its_canvas_is_refused() -> None:
    file = bytearray(saved(image("P50"), "GIF"))
    struct.pack_into("<H", file, 6, 99)
    assert "covers only part of the canvas" in refused(bytes(file))


@pytest.mark.parametrize("sample", [sample for sample in FILES if sample.format in ("QOI", "SGI", "PPM")], ids=repr)
def test_changed_headers_that_want_more_pixels_are_refused(sample: Sample) -> None:
    taller = bytearray(sample.data)
    if sample.format == "QOI":
        struct.pack_into(">I", taller, 8, samples.HEIGHT + 3)
    elif sample.format == "SGI":
        struct.pack_into(">H", taller, 8, samples.HEIGHT + 3)
    else:
        taller = bytearray(sample.data.replace(b" 37\n", b" 40\n", 1))
    assert "damaged" in refused(bytes(taller), sample.name)


def test_headers_that_claim_more_than_is_read_are_refused_at_once() -> None:
    began = time.process_time()
    for sample in FILES:
        with pytest.raises(InputError, match="more than 100"):
            read(sample.data, sample.name, max_pixels=100)
    assert time.process_time() - began < 10


def many_scans() -> bytes:
    file = saved(image("L"), "JPEG", progressive=True)
    start = file.rindex(b"\xff\xda")
    return file[:start] + file[start:-2] * 600 + file[-2:]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (saved(image("L"), "JPEG")[:-2] + b"\xff" * (4 << 20) + b"\0\xff\xd9", ""),
        (many_scans(), "scans; more than 500"),
        (b"P5 1 1 255\n\0" * (1 << 18), "has 1001 pictures"),
        (b"P2 2 2 255\n#" + b"#" * (4 << 20), "has 0 of 4 samples"),
    ],
    ids=["fill bytes", "scans", "pictures", "comments"],
)
def test_what_is_built_to_take_long_does_not(data: bytes, line: str) -> None:
    began = time.process_time()
    try:
        read_stored(data, name="x")
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert line in refusal
    assert time.process_time() - began < 5
