"""JPEG XL through libjxl's own interface: lossless, progressive, prefixes; and the versions of every peer."""

import ctypes.util
import importlib.metadata
import io
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.distortion import psnr_db
from ddpm_codec.errors import InputError, MissingDependencyError
from ddpm_codec.rate_distortion.libjxl import Libjxl, find_libjxl
from ddpm_codec.rate_distortion.peers import PEERS
from ddpm_codec.rate_distortion.versions import peer_versions, versions_line
from tests.rate_distortion_source import photo

Pixels = NDArray[np.uint8]

BIG = photo(520, 560)  # prefixes of smaller pictures show nothing: their low frequencies come in one piece
SMALL = BIG[:160, :200]


@pytest.fixture(scope="module")
def libjxl() -> Libjxl:
    if find_libjxl() is None:
        pytest.skip("no libjxl")
    return Libjxl()


@pytest.fixture(scope="module")
def progressive(libjxl: Libjxl) -> bytes:
    return libjxl.encode(BIG, effort=3, progressive=True)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (33, 17), (270, 290)])
@pytest.mark.parametrize("progressive", [False, True])
def test_lossless_files_give_the_pixels_back(libjxl: Libjxl, shape: tuple[int, int], progressive: bool) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    back = libjxl.decode(libjxl.encode(pixels, effort=3, progressive=progressive))
    assert back is not None
    np.testing.assert_array_equal(back, pixels, strict=True)


def test_pixels_need_not_lie_row_by_row(libjxl: Libjxl) -> None:
    turned = BIG[:40, :30].swapaxes(0, 1)
    np.testing.assert_array_equal(libjxl.decode(libjxl.encode(turned, effort=3)), turned, strict=True)


def test_more_effort_makes_a_smaller_file(libjxl: Libjxl) -> None:
    assert len(libjxl.encode(SMALL, effort=6)) < len(libjxl.encode(SMALL, effort=3))


def test_the_plug_in_makes_files_of_the_same_size(libjxl: Libjxl) -> None:
    pytest.importorskip("pillow_jxl")
    if peer_versions(libjxl)["libjxl"] != libjxl.version:
        pytest.skip("the plug-in has another libjxl")
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, "JXL", lossless=True, effort=5)
    assert len(libjxl.encode(SMALL, effort=5)) == len(file.getvalue())


def test_longer_prefixes_of_a_progressive_file_look_better(libjxl: Libjxl, progressive: bytes) -> None:
    pictures = [libjxl.decode(progressive[: len(progressive) * part // 8]) for part in range(1, 9)]
    qualities = [psnr_db(BIG, pixels) for pixels in pictures if pixels is not None]
    assert len(qualities) >= 6
    assert qualities == sorted(qualities)
    assert qualities[0] < qualities[2] < qualities[4] < qualities[-2]
    assert qualities[-1] == np.inf


def test_half_a_progressive_file_shows_more_than_half_a_plain_one(libjxl: Libjxl, progressive: bytes) -> None:
    plain = libjxl.encode(BIG, effort=3)
    assert plain != progressive
    halves = [libjxl.decode(file[: len(file) // 2]) for file in (plain, progressive)]
    assert halves[1] is not None
    assert psnr_db(BIG, halves[1]) > 20.0
    assert halves[0] is None or psnr_db(BIG, halves[0]) < psnr_db(BIG, halves[1]) - 5.0


@pytest.mark.parametrize("length", [0, 1, 2, 8])
def test_too_short_a_prefix_shows_nothing(libjxl: Libjxl, progressive: bytes, length: int) -> None:
    assert libjxl.decode(progressive[:length]) is None


def test_what_is_no_jpeg_xl_is_an_error_of_one_line(libjxl: Libjxl, progressive: bytes) -> None:
    middle = len(progressive) // 2
    for data in (b"no picture at all", progressive[:middle] + bytes(1000) + progressive[middle + 1000 :]):
        with pytest.raises(InputError, match=r"\AJPEG XL: [^\n]+\Z"):
            libjxl.decode(data)


@pytest.mark.parametrize(
    "pixels", [BIG[..., 0], BIG[..., :2], BIG.astype(np.float32), BIG[:0]], ids=["grey", "two", "float", "empty"]
)
def test_pixels_of_another_kind_are_refused(libjxl: Libjxl, pixels: Pixels) -> None:
    with pytest.raises(InputError, match=r"bytes, \[H, W, 3\]"):
        libjxl.encode(pixels)


def test_an_effort_that_libjxl_does_not_know_is_refused(libjxl: Libjxl) -> None:
    with pytest.raises(InputError, match="of 200x160 at effort 99"):
        libjxl.encode(SMALL, effort=99)


def test_a_library_that_is_not_there_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "libjxl.so"
    other.write_bytes(b"no library")
    with pytest.raises(MissingDependencyError, match=r"libjxl\.so: cannot be loaded as libjxl\Z"):
        Libjxl(str(other))
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [])
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert find_libjxl() is None
    with pytest.raises(MissingDependencyError, match="libjxl is not here"):
        Libjxl()
    assert not [name for name in peer_versions() if "progressive" in name]


# Versions


def test_every_peer_says_the_version_of_its_library(libjxl: Libjxl) -> None:
    libraries = {"jpeg": "libjpeg-turbo", "webp": "libwebp", "jpeg2000": "OpenJPEG", "avif": "libavif", "jxl": "libjxl"}
    assert set(libraries) == set(PEERS)
    versions = peer_versions(libjxl)
    for name, library in libraries.items():
        if PEERS[name].missing() is None:
            assert re.match(r"\d+\.\d+", versions[library]), library
    assert versions["libjxl (progressive lossless)"] == libjxl.version
    assert re.fullmatch(r"0\.\d+\.\d+", libjxl.version)


def test_versions_are_one_line() -> None:
    assert versions_line({"libwebp": "1.6.0", "aom": "3.14.1"}) == "peers: libwebp 1.6.0, aom 3.14.1"
