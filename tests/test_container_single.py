"""The file of one picture: its bytes, and damage of every kind at every byte."""

from dataclasses import replace
from pathlib import Path

import pytest

from ddpm_codec.container import CODEC_SINGLE, ROUTE_FALLBACK, ROUTE_INDEXED, ROUTE_MODEL, Head, ShortHead, write_single
from ddpm_codec.container.layout import SIGNATURE, SINGLE_PARAMETERS
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import PictureInfo
from tests.containers import read_archive, read_progressive

PIXEL = PictureInfo("x.png", "RGB", (1, 1))
BODY = b"\4abc"
INDEXED = Head(CODEC_SINGLE, "mine", b"abcd", {"torch": "2.13.0"}, dict.fromkeys(SINGLE_PARAMETERS[ROUTE_INDEXED], 7))


def plain(info: PictureInfo = PIXEL) -> ShortHead:
    return ShortHead(Head(CODEC_SINGLE), info, route=ROUTE_FALLBACK)


def test_golden_bytes() -> None:
    assert write_single(plain(), BODY, file_name="x.ddpm").hex(" ") == (
        "89 44 44 50 4d 0d 0a 1a 02 03 00 01 01 04 61 62 63 1f b2 79 2a"
    )


def test_it_reads_as_an_archive_of_one_picture(tmp_path: Path) -> None:
    path, info = tmp_path / "a.ddpm", replace(PIXEL, name="b/c.png", metadata={"icc": b"profile"})
    for short in (plain(info), ShortHead(INDEXED, info, route=ROUTE_INDEXED)):
        path.write_bytes(write_single(short, BODY, file_name=path.name))
        opened = read_archive(path)
        assert opened.head == short.head
        assert [(image.info, image.route) for image in opened.images] == [(info, short.route)]
        assert (opened.read_block(0), opened.peek_block(0, 2), opened.damaged) == (BODY, BODY[:2], ())
        assert read_archive(path, tolerant=True).images == opened.images
    path.write_bytes(write_single(plain(), b"", file_name=path.name))
    assert (read_archive(path).read_block(0), read_archive(path).images[0].info.name) == (b"", "x.png")
    path.write_bytes(write_single(plain(replace(PIXEL, name="a.png")), b"", file_name=path.name))
    path.rename(tmp_path / "moved.ddpm")
    assert read_archive(tmp_path / "moved.ddpm").images[0].info.name == "moved.png"


@pytest.mark.parametrize("tolerant", [False, True])
def test_damage_anywhere_and_every_cut_are_found(tmp_path: Path, tolerant: bool) -> None:
    path = tmp_path / "x.ddpm"
    good = write_single(ShortHead(INDEXED, PIXEL, route=ROUTE_INDEXED), BODY, file_name=path.name)
    flipped = [
        good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :] for at in range(len(good)) for bit in (at % 8, 7)
    ]
    for data in (*flipped, *(good[:length] for length in range(len(good))), good + b"\0", good + good):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"^[^\n]*x\.ddpm[^\n]*$"):
            read_archive(path, tolerant=tolerant)


def test_pre_releases_and_newer_versions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    for version, cause in ((0, "pre-release"), (1, r"pre-release .*\(format version 1\)"), (3, "newer version")):
        for codec in range(4):
            path.write_bytes(SIGNATURE + bytes([version, codec]) + bytes(20))
            for read in (read_archive, read_progressive):
                with pytest.raises(FormatError, match=cause):
                    read(path)


def test_a_claim_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    path, info = tmp_path / "x.ddpm", replace(PIXEL, size=(1 << 16, 1 << 15))
    path.write_bytes(write_single(plain(info), BODY))
    with pytest.raises(FormatError, match=r"2147483648 pixels.*--max-pixels"):
        read_archive(path)
    assert read_archive(path, max_pixels=1 << 31).pixel_count == 1 << 31
    # One row is coded by the model as eight.
    indexed = ShortHead(INDEXED, replace(PIXEL, size=(1 << 20, 1)), route=ROUTE_INDEXED)
    path.write_bytes(write_single(indexed, BODY))
    with pytest.raises(FormatError, match=r"8388608 pixels"):
        read_archive(path, max_pixels=1 << 22)
    bits_back = replace(
        indexed, head=replace(INDEXED, parameters=dict.fromkeys(SINGLE_PARAMETERS[ROUTE_MODEL], 8)), route=ROUTE_MODEL
    )
    path.write_bytes(write_single(bits_back, BODY))
    assert read_archive(path, max_pixels=1 << 22).pixel_count == 1 << 20
