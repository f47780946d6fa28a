"""TIFF files that hold what would be lost, or that are damaged, are refused in one line; nothing is made up."""

import io
import logging
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.readers import tiff as reader
from tests.image_io.tiffs import COMPRESSIONS, Samples, by_pillow, raw, read, refused, samples, smooth, tiff

EXTRA = [
    (samples(9, 14, 4), {"photometric": "rgb", "extrasamples": [0]}),
    (samples(9, 14, 5), {"photometric": "rgb", "extrasamples": [2, 0]}),
    (samples(9, 14, 2), {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [0]}),
    (samples(9, 14, 5), {"photometric": "separated", "extrasamples": [0]}),
    (samples(4, 9, 14, dtype="u2"), {"photometric": "rgb", "planarconfig": "separate", "extrasamples": [0]}),
]


@pytest.mark.parametrize(("array", "options"), EXTRA)
def test_extra_channels_are_refused(array: Samples, options: dict[str, Any]) -> None:
    refused(tiff(array, **options), r"extra channels? beside its colours .*which would be lost")


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("i1", "8-bit signed integers"),
        ("i2", "16-bit signed integers"),
        ("f2", "16-bit floating-point"),
        ("f8", "64 bits"),
        ("u8", "64 bits"),
        ("c8", "64 bits"),
    ],
)
def test_sample_types_without_a_mode_are_refused(dtype: str, message: str) -> None:
    array = np.ones((9, 14), dtype)
    refused(tiff(array, photometric="minisblack"), f"{message}.*lost")


def test_kinds_that_are_refused_by_name() -> None:
    grey, wide = samples(9, 14), samples(9, 14, dtype="u2")

    def tags(*values: tuple[int, int]) -> bytes:
        return raw(grey.tobytes(), (14, 9), more=[(tag, 3, 1, struct.pack("<H", value)) for tag, value in values])

    refused(tiff(wide, photometric="miniswhite"), "white as 0")
    refused(tiff(samples(9, 14, dtype="f4"), photometric="miniswhite"), "white as 0")
    refused(raw(bytes(378), (14, 9), bits=(5, 6, 5), photometric=2), "channels of different depths")
    refused(tags((262, 4)), "transparency mask")
    refused(tags((262, 32803)), "colour filter")
    refused(tags((262, 9999)), "unknown kind")
    refused(tags((259, 34661)), "compression of TIFF that is not read")
    refused(tags((259, 6)), "compression of TIFF that is not read")
    refused(tags((317, 2)), "predictor")
    refused(tags((32997, 2)), "volume")
    refused(tags((339, 4)), "unknown kind")
    inks = [(332, 3, 1, b"\x02\0")]
    refused(raw(bytes(504), (14, 9), bits=(8,) * 4, photometric=5, more=inks), "inks other than")
    subsampled = [(530, 3, 2, b"\x02\0\x02\0")]
    refused(raw(bytes(378), (14, 9), bits=(8,) * 3, photometric=6, more=subsampled), "subsampled")
    weights = [(529, 5, 3, struct.pack("<6I", 2126, 10000, 7152, 10000, 722, 10000))]
    refused(raw(bytes(378), (14, 9), bits=(8,) * 3, photometric=6, more=weights), "weights")


@pytest.mark.parametrize("compression", [*COMPRESSIONS, "jpeg", "webp", "jpeg2000"])
def test_what_is_missing_is_never_made_up(compression: str | None) -> None:
    whole = tiff(smooth(64, 64), photometric="rgb", compression=compression, rowsperstrip=16)
    pixels = read(whole).pixels
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        page = file.pages.first
        offsets, counts = page.tags[273], page.tags[279]
        kinds = {tag: "<H" if tag.dtype == 3 else "<I" for tag in (offsets, counts)}
        places = {tag: tag.valueoffset + 3 * struct.calcsize(kind) for tag, kind in kinds.items()}
        last = counts.value[3]
    for tag, value in ((offsets, 0), (counts, 0)):
        sparse = bytearray(whole)
        struct.pack_into(kinds[tag], sparse, places[tag], value)
        refused(bytes(sparse), "sparse or damaged: 1 of 4 strips are not in the file")
    cut = 0
    for length in (1, 2, 5, 20, last // 2, last - 4):
        short = bytearray(whole)
        struct.pack_into(kinds[counts], short, places[counts], last - length)
        try:
            found = read(bytes(short)).pixels
        except InputError:
            cut += 1
        else:
            assert found == pixels
    assert cut >= 2
    for length in (len(whole) - 1, len(whole) // 2, 30, 9):
        with pytest.raises(InputError):
            reader.read(io.BytesIO(whole[:length]), "x")


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "tiff_lzw"])
def test_cut_lines_of_a_fax(compression: str) -> None:
    image = Image.fromarray(np.random.default_rng(1).random((40, 61)) < 0.2)
    whole = by_pillow(image, compression=compression)
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        tag = file.pages.first.tags[279]
        (count,), place, kind = tag.value, tag.valueoffset, "<H" if tag.dtype == 3 else "<I"
    refusals = 0
    for cut in range(20, count - 10, 37):
        short = bytearray(whole)
        struct.pack_into(kind, short, place, count - cut)
        with pytest.raises(InputError, match="damaged"):
            reader.read(io.BytesIO(bytes(short)), "x")
        refusals += 1
    assert refusals > 3


def test_missing_tags_and_mistyped_ones_that_pixels_depend_on() -> None:
    pixels = samples(9, 14).tobytes()
    assert read(raw(pixels, (14, 9), drop=(279, 278))).pixels == pixels
    refused(raw(pixels, (14, 9), drop=(273,)), "0 of 1 strips")
    refused(raw(pixels, (14, 9), more=[(258, 2, 2, b"8\0")]), "tag 258 has type 2, not integers")
    refused(raw(pixels, (14, 9), more=[(339, 999, 1, b"\0")]), "tags that say how its pixels are stored: 339")
    refused(raw(pixels, (14, 9), more=[(278, 4, 1, b"\x05\0\0\0")]), "1 of 2 strips")


def test_tiles_far_larger_than_the_picture() -> None:
    def long(value: int) -> bytes:
        return struct.pack("<I", value)

    more = [(322, 4, 1, long(1 << 20)), (323, 4, 1, long(1 << 20)), (324, 4, 1, long(8)), (325, 4, 1, long(126))]
    refused(raw(bytes(126), (14, 9), more=[*more, (259, 3, 1, b"\x08\0")]), "far more than the picture")


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger("tifffile").handlers[:], logging.getLogger("tifffile").filters[:]
    odd = [(270, 4, 1, b"\x05\0\0\0"), (305, 999, 1, b"\0\0\0\0"), (34735, 2, 4, b"abc\0"), (42113, 2, 4, b"x\0\0\0")]
    with caplog.at_level(logging.WARNING):
        data = raw(samples(9, 14).tobytes(), (14, 9), more=odd)
        assert reader.read(io.BytesIO(data), "x").notes == ("tag 305 has the unknown type 999 and is left out",)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert before == (logging.getLogger("tifffile").handlers, logging.getLogger("tifffile").filters)
