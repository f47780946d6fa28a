"""Progressive files on the command line: what ``encode`` writes, and what ``decode`` and ``info`` make of it."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from ddpm_codec.codecs.api import ProgressiveOptions, encode_progressive
from ddpm_codec.container.sections import read_sections
from tests.golden.regenerate import EXACT, noisy_picture
from tests.helpers import PHOTO, TINY, Run, leftovers, pixels, same

PROGRESSIVE = ("--progressive", "--model", EXACT, "--register-bits", "6")
KEYS = {
    "images", "file", "dims", "pixels", "file_bytes", "header_bytes", "index_bytes", "tail_bytes", "index_ideal_bits",
    "lossless", "tail_level", "seconds", "network_seconds", "model", "device", "sections", "notes", "file_bpd", "file_bpp",
    "payload_bpd",
}  # fmt: skip


def check_refused(result: tuple[int, str, str], cause: str) -> None:
    """One line on standard error that says why, nothing on standard output, exit code 1."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("ddpm-codec: error: ")
    assert cause in err


def picture(path: Path, width: int, height: int, mode: str = "RGB", **saved: Any) -> Path:  # noqa: ANN401 - for Pillow
    """Write a noisy picture."""
    image = Image.fromarray(noisy_picture(width, height, width))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize((width, height)))
    image.save(path, **saved)
    return path


def psnr_db(a: Path, b: Path) -> float:
    with Image.open(a) as first, Image.open(b) as second:
        error = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    mse = float(np.mean(error * error))
    return 10.0 * math.log10(255.0**2 / mse) if mse else math.inf


def encode(run: Run, *words: str | Path) -> dict[str, Any]:
    code, out, err = run("encode", *words, *PROGRESSIVE, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def decode(run: Run, file: Path, output: Path, *words: str | Path) -> dict[str, Any]:
    code, out, err = run("decode", file, "-o", output, "--model", EXACT, "--overwrite", "--json", *words)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert err.count("\n") == len(found["notes"])
    return found


@dataclass(frozen=True)
class Coded:
    """A picture, its lossless file and what the encoder said of it."""

    source: Path
    file: Path
    report: dict[str, Any]

    @property
    def ends(self) -> list[int]:
        return [section["end"] for section in self.report["sections"]]

    def bpp(self, end: int) -> str:
        return repr(8 * end / self.report["pixels"])


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Coded:
    folder = tmp_path_factory.mktemp("coded")
    source, file = picture(folder / "noise.png", 64, 64), folder / "noise.ddpm"
    options = ProgressiveOptions(model=str(EXACT), register_bits=6)
    return Coded(source, file, encode_progressive([source], file, options)[0].to_json())


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 64), (130, 97)])
def test_pictures_come_back_and_every_byte_is_accounted_for(
    mode: str, size: tuple[int, int], run: Run, tmp_path: Path
) -> None:
    source, file = picture(tmp_path / "a.png", *size, mode), tmp_path / "a.ddpm"
    report = encode(run, source, "-o", file, "--verify")
    assert set(report) >= KEYS
    assert leftovers(tmp_path) == []
    assert report["lossless"] is True
    assert report["file"] == str(file)
    assert report["images"] == 1
    assert report["file_bytes"] == file.stat().st_size
    assert (report["pixels"], report["dims"]) == (size[0] * size[1], size[0] * size[1] * len(mode))
    assert report["file_bpp"] == pytest.approx(8 * report["file_bytes"] / report["pixels"])
    assert report["file_bpd"] == pytest.approx(8 * report["file_bytes"] / report["dims"])
    ends = [section["end"] for section in report["sections"]]
    assert ends == sorted(set(ends))
    assert ends[-1] == report["file_bytes"]
    levels = [section["level"] for section in report["sections"]]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == -1
    opened = read_sections(file)
    alpha = opened.ends[0] - opened.start if mode == "RGBA" else 0
    parts = report["header_bytes"] + report["index_bytes"] + report["tail_bytes"]
    # The section of alpha is in none of the three; a key of its own may come.
    assert report["file_bytes"] - parts in (0, alpha)
    assert list(opened.ends[1 if alpha else 0 :]) == ends
    back = decode(run, file, tmp_path / "b.png")
    assert (back["lossless"], back["level"], back["used_bytes"]) == (True, -1, report["file_bytes"])
    assert back["notes"] == []
    assert pixels(tmp_path / "b.png") == pixels(source)


def test_the_large_ones_end_in_bits_back(run: Run, tmp_path: Path) -> None:
    source, file = picture(tmp_path / "a.png", 168, 160), tmp_path / "a.ddpm"
    report = encode(run, source, "-o", file, "--verify")
    assert report["lossless"] is True
    assert report["tail_level"] > 0
    assert report["header_bytes"] + report["index_bytes"] + report["tail_bytes"] == report["file_bytes"]
    back = decode(run, file, tmp_path / "b.png", "--level", "0")
    assert pixels(tmp_path / "b.png") == pixels(source)
    before_the_end = report["sections"][-2]["end"]
    back = decode(run, file, tmp_path / "b.png", "--bpp", repr(8 * before_the_end / report["pixels"]))
    assert (back["level"], back["used_bytes"], back["lossless"]) == (report["tail_level"], before_the_end, False)
    cut = encode(run, source, "-o", tmp_path / "cut.ddpm", "--bpp", repr(8 * before_the_end / report["pixels"]))
    assert cut["lossless"] is False
    assert read_sections(file).sections[: len(cut["sections"])] == read_sections(tmp_path / "cut.ddpm").sections


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "1", "LA"])
def test_other_modes_are_stored_whole_with_a_note(mode: str, run: Run, tmp_path: Path) -> None:
    source, file = tmp_path / "a.png", tmp_path / "a.ddpm"
    grey = Image.linear_gradient("L").resize((40, 30))
    wide = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    (wide if mode == "I;16" else grey.convert(mode)).save(source)
    report = encode(run, source, "-o", file, "--verify")
    assert (report["lossless"], report["model"], report["sections"]) == (True, None, [])
    assert report["file_bytes"] == file.stat().st_size
    assert report["notes"] == [f"a.png: mode {mode} goes to the fallback whole: lossless, but not progressive"]
    code, out, err = run("encode", source, "-o", file, *PROGRESSIVE, "--overwrite")
    assert (code, err) == (0, f"ddpm-codec: note: {report['notes'][0]}\n")
    assert "lossless" in out
    assert run("decode", file, "-o", tmp_path / "b.png")[0] == 0
    assert same(source, tmp_path / "b.png")


def test_several_pictures_become_a_file_each(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    picture(folder / "a.png", 9, 8)
    picture(folder / "deep" / "b.png", 8, 9, "RGBA")
    Image.linear_gradient("L").save(folder / "grey.png")
    report = encode(run, folder, "-o", tmp_path / "out")
    files = sorted(tmp_path.glob("out/**/*.ddpm"))
    assert [str(file.relative_to(tmp_path / "out")) for file in files] == ["a.ddpm", "deep/b.ddpm", "grey.ddpm"]
    assert report["images"] == 3
    assert report["file_bytes"] == sum(file.stat().st_size for file in files)
    assert report["pixels"] == sum(one["pixels"] for one in report["files"])
    assert report["file_bpp"] == pytest.approx(8 * report["file_bytes"] / report["pixels"])
    assert sorted(one["file"] for one in report["files"]) == [str(file) for file in files]
    for file in files:
        source = (folder / file.relative_to(tmp_path / "out")).with_suffix(".png")
        decode(run, file, tmp_path / "back.png")
        assert same(source, tmp_path / "back.png")
    code, out, err = run("encode", folder / "a.png", folder / "grey.png", "-o", tmp_path / "two", *PROGRESSIVE)
    assert (code, err.count("\n")) == (0, 1)
    assert "a.ddpm" in out
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["a.ddpm", "grey.ddpm"]


def test_pictures_of_one_stem_do_not_meet(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp"):
        picture(tmp_path / name, 8, 8)
    encode(run, tmp_path / "a.png", tmp_path / "a.bmp", "-o", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.bmp.ddpm", "a.png.ddpm"]


def test_outputs_that_are_there_are_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    a, b, out = picture(tmp_path / "a.png", 8, 8), picture(tmp_path / "b.png", 8, 8), tmp_path / "out"
    out.mkdir()
    (out / "b.ddpm").write_bytes(b"kept")
    check_refused(run("encode", a, b, "-o", out, *PROGRESSIVE), "b.ddpm: exists already")
    check_refused(run("encode", b, "-o", out / "b.ddpm", *PROGRESSIVE, "--verify"), "b.ddpm: exists already")
    assert (out / "b.ddpm").read_bytes() == b"kept"
    assert [path.name for path in out.iterdir()] == ["b.ddpm"]
    encode(run, a, b, "-o", out, "--overwrite", "--verify")
    assert sorted(path.name for path in out.iterdir()) == ["a.ddpm", "b.ddpm"]
    decode(run, out / "b.ddpm", tmp_path / "back.png")
    assert same(b, tmp_path / "back.png")


def test_outputs_that_cannot_be_are_refused(run: Run, tmp_path: Path) -> None:
    a, b = picture(tmp_path / "a.png", 8, 8), picture(tmp_path / "b.png", 8, 8)
    check_refused(
        run("encode", a, b, "-o", tmp_path / "x.ddpm", *PROGRESSIVE), "holds one picture; name a folder for 2"
    )
    check_refused(run("encode", a, "-o", tmp_path / "photo.png", *PROGRESSIVE), ".png is the name of a picture")
    check_refused(run("encode", a, b, "-o", tmp_path / "x.JPG", *PROGRESSIVE), "is the name of a picture")
    check_refused(run("encode", tmp_path / "none.png", "-o", tmp_path / "x.ddpm", *PROGRESSIVE), "none.png")
    check_refused(run("encode", a, "-o", tmp_path / "x" / "y.ddpm", *PROGRESSIVE), "y.ddpm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("share", "verify"), [(0.1, ()), (0.35, ("--verify",)), (0.8, ()), (0.999, ()), (1.0, ("--verify",)), (2.0, ())]
)
def test_a_limit_of_bits_is_kept_by_every_byte(
    share: float, verify: tuple[str, ...], coded: Coded, run: Run, tmp_path: Path
) -> None:
    bpp = share * coded.report["file_bpp"]
    cut = tmp_path / "cut.ddpm"
    report = encode(run, coded.source, "-o", cut, "--bpp", repr(bpp), *verify)
    whole = coded.file.read_bytes()
    assert report["file_bpp"] <= bpp
    assert 8 * cut.stat().st_size <= bpp * report["pixels"]
    assert report["lossless"] is (share >= 1.0)
    assert whole.startswith(cut.read_bytes())
    assert cut.stat().st_size == max(end for end in coded.ends if 8 * end <= bpp * report["pixels"])
    back = decode(run, cut, tmp_path / "cut.png")
    assert back["lossless"] is (share >= 1.0)
    assert back["used_bytes"] == cut.stat().st_size
    assert len(back["notes"]) == (share < 1.0)
    assert pixels(tmp_path / "cut.png")[:2] == ("RGB", (64, 64))


@pytest.mark.parametrize("decibels", [5.0, 22.0, 30.0, 99.0])
def test_a_quality_is_reached_and_no_section_more(decibels: float, coded: Coded, run: Run, tmp_path: Path) -> None:
    file, back = tmp_path / "cut.ddpm", tmp_path / "cut.png"
    report = encode(run, coded.source, "-o", file, "--psnr", repr(decibels))
    assert coded.file.read_bytes().startswith(file.read_bytes())
    decode(run, file, back)
    assert psnr_db(coded.source, back) >= decibels
    assert report["lossless"] is (decibels > 90.0)
    if len(report["sections"]) > 1:
        decode(run, file, back, "--bpp", coded.bpp(report["sections"][-2]["end"]))
        assert psnr_db(coded.source, back) < decibels


def test_both_limits_together_keep_both(coded: Coded, run: Run, tmp_path: Path) -> None:
    limit = coded.bpp(coded.ends[3])
    few = encode(run, coded.source, "-o", tmp_path / "few.ddpm", "--bpp", limit, "--psnr", "99")
    good = encode(run, coded.source, "-o", tmp_path / "good.ddpm", "--bpp", "1000", "--psnr", "5")
    assert [section["end"] for section in few["sections"]] == coded.ends[:4]
    assert [section["end"] for section in good["sections"]] == coded.ends[:1]


@pytest.mark.parametrize("words", [("--bpp", "2"), ("--psnr", "30"), ("--register-bits", "6")])
def test_options_of_progressive_files_need_progressive(words: tuple[str, str], run: Run, tmp_path: Path) -> None:
    code, out, err = run("encode", TINY, "-o", tmp_path / "x.ddpm", "--model", EXACT, *words)
    assert (code, out) == (2, "")
    assert "need --progressive" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--bpp", "--psnr"])
@pytest.mark.parametrize("value", ["0", "nan", "-3", "inf", "-inf"])
def test_limits_that_are_none_are_one_line(option: str, value: str, run: Run, tmp_path: Path) -> None:
    check_refused(
        run("encode", TINY, "-o", tmp_path / "x.ddpm", *PROGRESSIVE, option, value), "must be a positive number"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", ["3", "17", "x"])
def test_registers_that_are_none_are_a_wrong_command_line(bits: str, run: Run, tmp_path: Path) -> None:
    assert run("encode", TINY, "-o", tmp_path / "x.ddpm", "--progressive", "--register-bits", bits)[0] == 2


@pytest.mark.xfail(reason="encode writes a head that no decoder shows, beyond the limit, and says nothing")
def test_a_limit_too_small_to_encode_says_what_the_first_picture_takes(coded: Coded, run: Run, tmp_path: Path) -> None:
    result = run("encode", coded.source, "-o", tmp_path / "x.ddpm", *PROGRESSIVE, "--bpp", "0.01")
    check_refused(result, f"{float(coded.bpp(coded.ends[0])):.3f} bits a pixel")
    assert not (tmp_path / "x.ddpm").exists()


def test_a_limit_too_small_leaves_nothing_where_it_is_verified(coded: Coded, run: Run, tmp_path: Path) -> None:
    code, out, err = run("encode", coded.source, "-o", tmp_path / "x.ddpm", *PROGRESSIVE, "--bpp", "0.01", "--verify")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert not (tmp_path / "x.ddpm").exists()
    assert leftovers(tmp_path) == []


def test_a_limit_too_small_to_decode_says_what_the_first_picture_takes(coded: Coded, run: Run, tmp_path: Path) -> None:
    result = run("decode", coded.file, "-o", tmp_path / "x.png", "--model", EXACT, "--bpp", "0.01")
    check_refused(result, f"the first picture takes {float(coded.bpp(coded.ends[0])):.3f} bits a pixel")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("value", ["0", "nan", "-1", "inf"])
@pytest.mark.xfail(
    reason="decode --bpp is not checked: NaN and negative numbers are taken for too small ones, inf for all"
)
def test_limits_of_decode_that_are_none_are_one_line(value: str, coded: Coded, run: Run, tmp_path: Path) -> None:
    result = run("decode", coded.file, "-o", tmp_path / "x.png", "--model", EXACT, "--bpp", value)
    check_refused(result, "must be a positive number")


def test_decoding_a_part_is_decoding_a_file_that_ends_there(coded: Coded, run: Run, tmp_path: Path) -> None:
    whole = coded.file.read_bytes()
    for number, end in enumerate(coded.ends):
        more = coded.ends[number + 1] if number + 1 < len(coded.ends) else end + 2
        report = decode(run, coded.file, tmp_path / "a.png", "--bpp", coded.bpp((end + more) // 2))
        assert report["used_bytes"] == end
        assert 8 * report["used_bytes"] <= report["pixels"] * float(coded.bpp((end + more) // 2))
        (tmp_path / "cut.ddpm").write_bytes(whole[:end])
        cut = decode(run, tmp_path / "cut.ddpm", tmp_path / "b.png")
        assert cut["level"] == report["level"]
        assert cut["lossless"] == report["lossless"] == (end == len(whole))
        assert pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")
        if end < len(whole):
            assert (
                f"used {end:,} of {len(whole):,} bytes, down to level {report['level']}; not lossless (mean)"
                in (report["notes"][0])
            )


def test_every_level_stops_where_it_is_reached(coded: Coded, run: Run, tmp_path: Path) -> None:
    steps = int(read_sections(coded.file).head.parameters["steps"])
    used = []
    for level in range(steps + 1):
        report = decode(run, coded.file, tmp_path / "a.png", "--level", str(level))
        assert report["level"] <= level
        used.append(report["used_bytes"])
        number = coded.ends.index(report["used_bytes"])
        if number:
            before = decode(run, coded.file, tmp_path / "a.png", "--bpp", coded.bpp(coded.ends[number - 1]))
            assert before["level"] > level
    assert used == sorted(used, reverse=True)
    assert used[0] < coded.ends[-1]
    for level in (steps + 1, -1):
        result = run("decode", coded.file, "-o", tmp_path / "x.png", "--model", EXACT, "--level", str(level))
        check_refused(result, f"level = {level}: the file has levels 0 to {steps}")
    assert not (tmp_path / "x.png").exists()


def test_files_that_are_not_progressive_have_no_levels(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.ddpm"
    assert run("encode", TINY, "-o", file, "--model", "none")[0] == 0
    for words in (("--level", "3"), ("--bpp", "1"), ("--reconstruction", "mean")):
        check_refused(run("decode", file, "-o", tmp_path / "x.png", *words), "is not progressive")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("how", ["mean", "sample", "flow"])
def test_reconstructions_are_pictures_and_always_the_same(how: str, coded: Coded, run: Run, tmp_path: Path) -> None:
    shown = {}
    for end in (coded.ends[0], coded.ends[3], coded.ends[-2], coded.ends[-1]):
        words = ("--bpp", coded.bpp(end), "--reconstruction", how)
        report = decode(run, coded.file, tmp_path / "a.png", *words)
        decode(run, coded.file, tmp_path / "b.png", *words)
        assert pixels(tmp_path / "a.png") == pixels(tmp_path / "b.png")
        shown[end] = pixels(tmp_path / "a.png")
        assert shown[end][:2] == ("RGB", (64, 64))
        assert all(f"({how})" in note for note in report["notes"])
    assert shown[coded.ends[-1]] == pixels(coded.source)
    assert len(set(shown.values())) == len(shown)


def test_the_mean_errs_least(coded: Coded, run: Run, tmp_path: Path) -> None:
    quality = {}
    for how in ("mean", "sample", "flow"):
        decode(run, coded.file, tmp_path / "a.png", "--bpp", coded.bpp(coded.ends[2]), "--reconstruction", how)
        quality[how] = psnr_db(coded.source, tmp_path / "a.png")
    assert max(quality, key=lambda how: quality[how]) == "mean"
    assert run("decode", coded.file, "-o", tmp_path / "x.png", "--reconstruction", "median")[0] == 2


@pytest.mark.parametrize("extension", ["png", "webp", "tiff", "ppm", "bmp"])
def test_parts_go_to_every_format(extension: str, coded: Coded, run: Run, tmp_path: Path) -> None:
    words = ("--bpp", coded.bpp(coded.ends[1]))
    decode(run, coded.file, tmp_path / "a.png", *words)
    decode(run, coded.file, tmp_path / f"b.{extension}", *words)
    assert pixels(tmp_path / f"b.{extension}") == pixels(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    decode(run, coded.file, tmp_path / "out", *words, "--format", extension)
    assert pixels(tmp_path / "out" / f"noise.{extension}") == pixels(tmp_path / "a.png")


def test_alpha_comes_with_the_first_picture(run: Run, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png", 40, 32, "RGBA")
    report = encode(run, source, "-o", tmp_path / "a.ddpm")
    first = report["sections"][0]["end"]
    decode(run, tmp_path / "a.ddpm", tmp_path / "b.png", "--bpp", repr(8 * first / report["pixels"]))
    with Image.open(source) as image, Image.open(tmp_path / "b.png") as back:
        assert back.mode == "RGBA"
        assert back.getchannel("A").tobytes() == image.getchannel("A").tobytes()
        assert back.convert("RGB").tobytes() != image.convert("RGB").tobytes()


def test_info_tells_whole_cut_and_damaged_files_apart(coded: Coded, run: Run, tmp_path: Path) -> None:
    whole = coded.file.read_bytes()
    damaged = bytearray(whole)
    damaged[coded.ends[2] + 20] ^= 1
    cases = {"whole": (whole, len(coded.ends), False), "cut": (whole[: coded.ends[4] + 9], 5, False)}
    cases |= {"damaged": (bytes(damaged), 3, True), "head": (whole[: coded.ends[0] - 1], 0, False)}
    for name, (data, count, broken) in cases.items():
        path = tmp_path / f"{name}.ddpm"
        path.write_bytes(data)
        code, out, err = run("info", path, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert (found["codec"], found["model"], found["images"]) == ("progressive", "tiny", 1)
        assert (found["file_bytes"], found["whole_sections"], found["damaged"]) == (len(data), count, broken)
        assert [section["end"] for section in found["sections"]] == coded.ends[:count]
        if count:
            assert found["whole_bytes"] == coded.ends[count - 1]
            first = found["sections"][0]
            start = first["end"] - first["bytes"]
            assert start + sum(section["bytes"] for section in found["sections"]) == found["whole_bytes"]
            assert first["bits_per_pixel"] == pytest.approx(8 * first["end"] / 4096)
        assert found["coding_register_bits"] == 6
        assert (
            found["pictures"][0] | {"name": "noise.png", "width": 64, "height": 64, "mode": "RGB"}
            == (found["pictures"][0])
        )
        code, out, err = run("info", path)
        assert (code, err) == (0, "")
        assert "progressive" in out
        assert "noise.png" in out
    (tmp_path / "short.ddpm").write_bytes(whole[:30])
    check_refused(run("info", tmp_path / "short.ddpm"), "too short for a first picture")
    damaged = bytearray(whole)
    damaged[14] ^= 1
    (tmp_path / "bad.ddpm").write_bytes(damaged)
    check_refused(run("info", tmp_path / "bad.ddpm", "--json"), "its head is damaged")


def test_metadata_comes_back_from_files_and_from_parts(run: Run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = picture(tmp_path / "a.png", 24, 24, icc_profile=profile, exif=exif.tobytes())
    file = tmp_path / "a.ddpm"
    report = encode(run, source, "-o", file, "--verify")
    first = ("--bpp", repr(8 * report["sections"][0]["end"] / report["pixels"]))
    for words in ((), first):
        decode(run, file, tmp_path / "b.png", *words)
        with Image.open(tmp_path / "b.png") as back:
            assert back.info["icc_profile"] == profile
            assert back.getexif()[0x010E] == "a description"
    plain = encode(run, source, "-o", file, "--strip", "--overwrite", "--verify")
    assert plain["header_bytes"] < report["header_bytes"] - 100
    assert plain["index_bytes"] == report["index_bytes"]
    decode(run, file, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as back:
        assert "icc_profile" not in back.info
        assert not back.getexif()
    assert pixels(tmp_path / "b.png") == pixels(source)


def test_encoding_twice_gives_the_same_file(coded: Coded, run: Run, tmp_path: Path) -> None:
    encode(run, coded.source, "-o", tmp_path / "again.ddpm", "--threads", "1")
    assert (tmp_path / "again.ddpm").read_bytes() == coded.file.read_bytes()


def test_existing_pictures_are_kept(coded: Coded, run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"kept")
    check_refused(run("decode", coded.file, "-o", tmp_path / "x.png", "--model", EXACT), "x.png: exists already")
    assert (tmp_path / "x.png").read_bytes() == b"kept"
    decode(run, coded.file, tmp_path / "x.png")
    assert pixels(tmp_path / "x.png") == pixels(coded.source)


def test_one_frame_of_several_is_taken_when_asked_for(run: Run, tmp_path: Path) -> None:
    frames = [Image.fromarray(noisy_picture(seed, 16, 16)) for seed in (1, 2)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    code, out, err = run("encode", tmp_path / "a.tiff", "-o", tmp_path / "a.ddpm", *PROGRESSIVE)
    assert (code, out, err.count("\n")) == (1, "", 1)
    encode(run, tmp_path / "a.tiff", "-o", tmp_path / "a.ddpm", "--first-frame")
    decode(run, tmp_path / "a.ddpm", tmp_path / "b.png")
    assert pixels(tmp_path / "b.png")[2] == frames[0].tobytes()


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "ddpm_codec_cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def test_processes_of_their_own_agree(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.open(PHOTO).crop((0, 0, 24, 16)).save(source)
    done = cli("encode", source, "-o", tmp_path / "a.ddpm", *PROGRESSIVE, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert encode(run, source, "-o", tmp_path / "b.ddpm")["sections"] == report["sections"]
    data = (tmp_path / "a.ddpm").read_bytes()
    assert (tmp_path / "b.ddpm").read_bytes() == data
    (tmp_path / "cut.ddpm").write_bytes(data[: report["sections"][0]["end"] + 3])
    done = cli("decode", tmp_path / "cut.ddpm", "-o", tmp_path / "cut.png", "--model", EXACT)
    assert done.returncode == 0
    assert done.stderr.startswith("ddpm-codec: note: ")
    assert done.stderr.count("\n") == 1
    decode(run, tmp_path / "cut.ddpm", tmp_path / "again.png")
    assert pixels(tmp_path / "cut.png") == pixels(tmp_path / "again.png")


def test_info_of_a_progressive_file_does_not_load_torch(coded: Coded) -> None:
    script = (
        "import sys; from ddpm_codec_cli.main import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules and 77))"
    )
    words = [sys.executable, "-c", script, "info", str(coded.file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
