"""PBM, PGM, PPM and PFM: samples as they are, up to any largest value."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ddpm_codec
from ddpm_codec.errors import InputError
from ddpm_codec.image_io import read_stored
from ddpm_codec.picture import Picture
from tests.helpers import Run


def read(data: bytes, **options: Any) -> Picture:  # noqa: ANN401 - as read_stored takes
    return read_stored(data, name="x", **options).picture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("white", [1, 15, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
def test_any_largest_value_is_kept(white: int, channels: int) -> None:
    stored = np.uint8 if white < 256 else np.uint16
    samples = np.random.default_rng(white).integers(0, white + 1, (7, 9, channels), stored)
    samples[0, 0] = white
    magic = 5 if channels == 1 else 6
    binary = b"P%d\n# made\n9 7\n%d\n" % (magic, white) + samples.astype(samples.dtype.newbyteorder(">")).tobytes()
    plain = b"P%d 9 7 %d\n" % (magic - 3, white) + b"\n".join(b"%d" % value for value in samples.ravel()) + b"\n"
    for data in (binary, plain):
        got = read(data)
        np.testing.assert_array_equal(got.samples().reshape(samples.shape), samples, strict=True)
        assert got.info.white == (None if white in (255, 65535) else white)


@pytest.mark.parametrize("white", [100, 1023])
def test_any_largest_value_comes_back_through_the_command_line(run: Run, tmp_path: Path, white: int) -> None:
    samples = (np.arange(12) * 9).astype(">u2" if white > 255 else "u1")
    file = b"P5\n4 3\n%d\n" % white + samples.tobytes()
    (tmp_path / "x.pgm").write_bytes(file)
    archive = tmp_path / "x.ddpm"
    assert run("encode", tmp_path / "x.pgm", "-o", archive, "--model", "none", "--verify")[0] == 0
    assert run("decode", archive, "-o", tmp_path / "back.pgm")[0] == 0
    assert (tmp_path / "back.pgm").read_bytes().split() == file.split()
    back = ddpm_codec.decode(archive.read_bytes())
    np.testing.assert_array_equal(back.ravel(), samples)


def test_bitmaps_and_their_padding() -> None:
    rows = read(b"P4\n9 2\n\x80\x7f\x00\xff").samples()
    np.testing.assert_array_equal(rows, [[False] + [True] * 8, [True] * 8 + [False]])
    np.testing.assert_array_equal(
        read(b"P1 # c\n3 2\n101\n0 1# d\n0").samples(), [[False, True, False], [True, False, True]]
    )


@pytest.mark.parametrize(("magic", "shape"), [(b"Pf", (3, 4)), (b"PF", (3, 4, 3))])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point(magic: bytes, shape: tuple[int, ...], order: str) -> None:
    samples = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    scale = b"-1.0" if order == "<" else b"1.0"
    file = magic + b"\n4 3\n" + scale + b"\n" + samples[::-1].astype(f"{order}f4").tobytes()
    np.testing.assert_array_equal(read(file).samples(), samples, strict=True)
    with pytest.raises(InputError, match=r"units of '2\.5'"):
        read(file.replace(scale, b"2.5", 1))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"P5 2 2 255\nabc", "ends too early"),
        (b"P5 2 2 100\nabcz", "samples above 100"),
        (b"P2 2 1 15\n3 16\n", "samples above 15"),
        (b"P2 2 2 15\n3 1 2\n", "has 3 of 4 samples"),
        (b"P2 2 1 15\n3 -1\n", "not numbers"),
        (b"P2 2 1 15\n3 99999999999999999999\n", "not numbers"),
        (b"P5 2 2 65536\n" + bytes(20), "white at 65536"),
        (b"P5 2 2 0\n" + bytes(20), "white at 0"),
        (b"P5 0 2 255\n", r"no pixels \(0x2\)"),
        (b"P5 12345678901 2 255\n", "where a number has to be"),
        (b"P4 9 2\n\0", "ends too early"),
        (b"P7\nWIDTH 1\n", "is a PAM picture, a format that is not read"),
    ],
)
def test_what_is_refused(data: bytes, line: str) -> None:
    with pytest.raises(InputError, match=f"^x: .*{line}"):
        read(data)


def test_several_pictures_in_one_file_are_counted() -> None:
    one, two = b"P5 2 1 255\nab", b"P6 1 1 65535\n123456"
    with pytest.raises(InputError, match="has 3 pictures"):
        read(one + two + b"\n" + one)
    assert read(one + two, first_frame=True).pixels == b"ab"
    assert read_stored(one + b"\nhello", name="x").notes == ("6 bytes behind the samples are left out",)
