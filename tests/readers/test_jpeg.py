"""JPEG: data that end too early are refused, other pictures are counted, metadata never reach the decoder."""

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io import read_stored
from tests.helpers import Run
from tests.readers.samples import RGB, image, saved

SETTINGS: list[dict[str, Any]] = [
    {"quality": 75},
    {"quality": 100, "subsampling": 0},
    {"quality": 80, "progressive": True},
    {"quality": 50, "restart_marker_rows": 1},
    {"quality": 95, "progressive": True, "restart_marker_blocks": 3},
]
EOI = b"\xff\xd9"


def lines(data: bytes, **options: Any) -> str:  # noqa: ANN401 - as read_stored takes
    with pytest.raises(InputError) as caught:
        read_stored(data, name="x", **options)
    return str(caught.value)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_scan_that_is_cut_and_closed_is_refused(mode: str, options: dict[str, Any]) -> None:
    file = saved(image(mode), "JPEG", **options)
    whole = read_stored(file, name="x").picture
    first, last = file.index(b"\xff\xda") + 20, len(file) - 2
    for end in {*range(first, last, max(1, (last - first) // 9)), *range(last - 5, last)}:
        cut = file[:end].rstrip(b"\xff") + EOI
        try:
            got = read_stored(cut, name="x").picture
        except InputError:
            continue
        assert got.pixels == whole.pixels, f"{last - end} bytes less"


def test_a_jpeg_cut_and_closed_through_the_command_line(run: Run, tmp_path: Path) -> None:
    file = saved(RGB, "JPEG")
    (tmp_path / "x.jpg").write_bytes(file[: 2 * len(file) // 3] + EOI)
    code, _, error = run("encode", tmp_path / "x.jpg", "-o", tmp_path / "x.ddpm", "--model", "none", "--verify")
    assert (code, "is damaged (its entropy-coded data end too early)" in error) == (1, True)
    assert not (tmp_path / "x.ddpm").exists()


def test_a_progressive_picture_that_lacks_its_last_scans_is_refused() -> None:
    file = saved(RGB, "JPEG", progressive=True)
    last = file.rindex(b"\xff\xc4")
    assert "not all of its scans are there" in lines(file[:last] + EOI)


def test_without_an_end_it_is_damaged() -> None:
    assert "ends before the end of its JPEG data" in lines(saved(RGB, "JPEG")[:-2])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_colours_are_those_of_the_whole_file(mode: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    file = saved(image(mode), "JPEG", exif=exif, comment=b"x" * 500, icc_profile=b"profile" * 20000)
    got = read_stored(file, name="x").picture
    with Image.open(io.BytesIO(file)) as expected:
        assert (got.mode, got.size, got.pixels) == (expected.mode, expected.size, expected.tobytes())
    if mode != "CMYK":
        np.testing.assert_array_equal(got.samples(), imagecodecs.jpeg8_decode(file), strict=True)


def test_damaged_metadata_do_not_cost_the_pixels() -> None:
    file = saved(RGB, "JPEG")
    segment = b"Exif\0\0II*\0" + b"\xff" * 40
    broken = file[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(segment) + 2) + segment + file[2:]
    assert read_stored(broken, name="x").picture.pixels == read_stored(file, name="x").picture.pixels


def frame_header(file: bytes, marker: int, **changes: int) -> bytes:
    changed = bytearray(file)
    at = file.index(b"\xff\xc0")
    changed[at + 1] = marker
    for name, value in changes.items():
        changed[at + {"precision": 4, "components": 9}[name]] = value
    return bytes(changed)


def test_other_processes_and_depths_are_refused_by_name() -> None:
    file = saved(RGB, "JPEG")
    assert "has 12 bits per colour sample" in lines(frame_header(file, 0xC1, precision=12))
    assert "is a lossless JPEG" in lines(frame_header(file, 0xC3))
    assert "is an arithmetic-coded JPEG" in lines(frame_header(file, 0xC9))
    assert "is a hierarchical JPEG" in lines(frame_header(file, 0xC5))
    twelve = imagecodecs.jpeg_encode(np.full((8, 8), 4000, np.uint16), bitspersample=12)
    assert "has 12 bits per colour sample" in lines(bytes(twelve))


def test_jpeg_of_two_components_is_refused() -> None:
    file = saved(image("L"), "JPEG")
    at = file.index(b"\xff\xc0")
    two = file[: at + 2] + struct.pack(">H", 14) + file[at + 4 : at + 9] + b"\2\1\x11\0\2\x11\0" + file[at + 13 :]
    assert "has 2 components" in lines(two)


def test_a_gain_map_is_a_second_picture(run: Run, tmp_path: Path) -> None:
    gain_map = saved(image("L").resize((20, 12)), "JPEG")
    plain = saved(RGB, "JPEG")
    both = plain + gain_map
    indexed = saved(RGB, "MPO", save_all=True, append_images=[image("L").convert("RGB")])
    for data in (both, indexed):
        assert "has 2 pictures (gain maps for HDR, other views) (--first-frame takes the first)" in lines(data)
        got = read_stored(data, name="x", first_frame=True)
        assert "the others are left out" in got.notes[0]
    assert read_stored(both, name="x", first_frame=True).picture == read_stored(plain, name="x").picture
    (tmp_path / "x.jpg").write_bytes(both)
    code, _, error = run("encode", tmp_path / "x.jpg", "-o", tmp_path / "x.ddpm", "--model", "none")
    assert (code, "has 2 pictures" in error) == (1, True)


def test_previews_of_cameras_are_no_pictures_but_named() -> None:
    indexed = bytearray(saved(RGB, "MPO", save_all=True, append_images=[RGB.resize((30, 18))]))
    start = indexed.index(b"MPF\0") + 4
    order = ">" if indexed[start : start + 2] == b"MM" else "<"
    (directory,) = struct.unpack_from(f"{order}I", indexed, start + 4)
    (count,) = struct.unpack_from(f"{order}H", indexed, start + directory)
    for number in range(count):
        tag, _, _, at = struct.unpack_from(f"{order}HHII", indexed, start + directory + 2 + 12 * number)
        if tag == 0xB002:
            struct.pack_into(f"{order}I", indexed, start + at + 16, 0x010001)
    found = read_stored(bytes(indexed), name="x")
    assert found.notes[-1].startswith("has 1 smaller copy of the picture")
    assert found.picture.size == RGB.size


def test_bytes_behind_the_picture_are_named() -> None:
    assert "1000 bytes behind the picture are left out" in read_stored(saved(RGB, "JPEG") + bytes(1000), name="x").notes
