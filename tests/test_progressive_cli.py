"""Progressive files through the command line: whole, limited, refused; what is cut or damaged is in tests/progressive."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.codecs import block
from ddpm_codec.codecs.lossless.decoder import LosslessDecoder
from ddpm_codec.codecs.lossless.layout import BlockHeader
from ddpm_codec.codecs.progressive import file as progressive_file
from ddpm_codec.codecs.progressive import indexed
from ddpm_codec.codecs.progressive.decoder import SectionDecoder
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import Picture
from ddpm_codec.varint import Reader
from tests.containers import read_progressive
from tests.golden.regenerate import EXACT, FOLDER, noisy_picture
from tests.helpers import PHOTO, Run, leftovers, same
from tests.progressive.files import raw_fallback

MODEL = ("--model", str(EXACT))
FAST = ("--register-bits", "6", *MODEL)


def save(path: Path, height: int, width: int, mode: str = "RGB") -> Path:
    image = Image.fromarray(noisy_picture(height * 1000 + width, height, width))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    (image if mode == "RGBA" else image.convert(mode)).save(path)
    return path


@pytest.fixture
def coded(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file with a section for every level, as files of larger pictures have."""
    raw_fallback(monkeypatch)
    monkeypatch.setattr(progressive_file, "SMALL_PIXELS", 0)
    path = tmp_path / "x.ddpm"
    source = save(tmp_path / "x.png", 40, 48)
    code, _, error = run("encode", source, "-o", path, "--progressive", "--steps", "8", *FAST)
    assert code == 0, error
    return path


def one_line(error: str) -> bool:
    return error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("height", "width", "mode"), [(1, 1, "RGB"), (7, 9, "RGBA"), (64, 64, "RGB"), (33, 130, "RGBA"), (140, 150, "RGB")]
)
def test_pictures_come_back_and_the_report_adds_up(
    height: int, width: int, mode: str, tmp_path: Path, run: Run
) -> None:
    source, coded, back = save(tmp_path / "a.png", height, width, mode), tmp_path / "a.ddpm", tmp_path / "b.png"
    code, out, error = run("encode", source, "-o", coded, "--progressive", "--verify", "--json", *FAST)
    assert (code, error) == (0, "")
    report = json.loads(out)
    assert report["file_bytes"] == coded.stat().st_size == report["sections"][-1]["end"]
    parts = [report[key] for key in ("header_bytes", "index_bytes", "end_bytes", "alpha_bytes")]
    assert sum(parts) == report["file_bytes"]
    assert report["file_bpp"] == pytest.approx(8 * report["file_bytes"] / (height * width))
    assert report["lossless"]
    ends = [section["end"] for section in report["sections"]]
    assert ends == sorted(set(ends))
    code, out, error = run("decode", coded, "-o", back, "--json", *MODEL)
    assert (code, error) == (0, "")
    assert same(source, back)
    decoded = json.loads(out)
    assert decoded["lossless"]
    assert (decoded["level"], decoded["used_bytes"]) == (-1, report["file_bytes"])
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("model", ["photo", str(EXACT)])
@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 7), (70, 40), (130, 130)])
def test_pictures_of_one_colour_come_back(
    height: int, width: int, grey: int, model: str, tmp_path: Path, run: Run
) -> None:
    """Of black ones nothing is left to code: every pixel is the first symbol of its table."""
    source, coded, back = tmp_path / "a.png", tmp_path / "a.ddpm", tmp_path / "b.png"
    Image.new("RGB", (width, height), (grey,) * 3).save(source)
    words = ("--progressive", "--register-bits", "6", "--model", model)
    code, _, error = run("encode", source, "-o", coded, *words)
    assert code == 0, error
    code, out, error = run("decode", coded, "-o", back, "--json", *(() if model == "photo" else MODEL))
    assert code == 0, error
    assert json.loads(out)["lossless"]
    assert same(source, back)


def rates(run: Run, source: Path, coded: Path, *words: str, tile: int = 32) -> tuple[float, bool, list[int]]:
    """Encode with the model that ships, decode; return bits a pixel, whether the file is lossless, and its levels."""
    fast = ("--register-bits", "6", "--tile", str(tile), "--overwrite")
    code, out, error = run("encode", source, "-o", coded, "--progressive", "--json", *fast, *words)
    assert code == 0, error
    report = json.loads(out)
    code, out, error = run("decode", coded, "-o", coded.with_name("back.png"), "--overwrite", "--json")
    assert code == 0, error
    assert json.loads(out)["lossless"] is report["lossless"]
    return report["file_bpp"], report["lossless"], [section["level"] for section in report["sections"]]


def test_small_pictures_are_cut_at_any_rate(tmp_path: Path, run: Run) -> None:
    source, coded = tmp_path / "x.png", tmp_path / "x.ddpm"
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").crop((16, 16, 48, 48)).save(source)
    found = [rates(run, source, coded, "--bpp", str(limit))[0] for limit in (0.5, 1.0, 1.5, 2.0, 3.0)]
    assert all(bpp <= limit for bpp, limit in zip(found, (0.5, 1.0, 1.5, 2.0, 3.0), strict=True))
    assert found == sorted(set(found))
    # Whole messages, of which there are few.
    assert all(bpp > 0.75 * limit for bpp, limit in zip(found, (0.5, 1.0, 1.5, 2.0, 3.0), strict=True))


def test_limits_and_goals_hold_among_the_tiles_too(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_fallback(monkeypatch)
    source, coded = tmp_path / "x.png", tmp_path / "x.ddpm"
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").crop((32, 32, 96, 96)).save(source)
    whole, lossless, _ = rates(run, source, coded, tile=16)
    assert lossless
    for limit in (0.4 * whole, 0.95 * whole):
        bpp, lossless, levels = rates(run, source, coded, "--bpp", str(limit), tile=16)
        assert bpp <= limit
        assert not lossless
        # The next section would not have fitted.
        assert bpp > 0.6 * limit
    assert levels.count(-1) > 4
    bpp, lossless, _ = rates(run, source, coded, "--bpp", str(whole * 1.01), tile=16)
    assert bpp <= whole * 1.01
    assert lossless
    found = [rates(run, source, coded, "--psnr", str(goal), tile=16) for goal in (40, 48, 99)]
    assert [lossless for _, lossless, _ in found] == [False, False, True]
    assert found[0][0] < found[1][0] < found[2][0]


def test_a_goal_is_looked_at_after_every_level(tmp_path: Path, run: Run) -> None:
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").crop((0, 0, 48, 48)).save(tmp_path / "x.png")
    found = [rates(run, tmp_path / "x.png", tmp_path / "x.ddpm", "--psnr", str(goal))[0] for goal in range(20, 44, 3)]
    assert len(set(found)) >= 6


def test_pictures_that_the_model_does_not_serve_are_verified(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.linear_gradient("L").save(tmp_path / "x.png")
    words = ("encode", tmp_path / "x.png", "-o", tmp_path / "x.ddpm", "--progressive", "--verify", *MODEL)
    assert run(*words, "--overwrite")[0] == 0
    (tmp_path / "x.ddpm").unlink()
    decode = LosslessDecoder.decode_body

    def damaged(self: LosslessDecoder, header: BlockHeader, reader: Reader) -> list[tuple[int, Picture]]:
        return [
            (i, replace(p, pixels=bytes([p.pixels[0] ^ 1]) + p.pixels[1:])) for i, p in decode(self, header, reader)
        ]

    monkeypatch.setattr(LosslessDecoder, "decode_body", damaged)
    code, _, error = run(*words)
    assert code == 1
    assert "does not decode to the same picture; nothing was written" in error
    assert not (tmp_path / "x.ddpm").exists()


def test_a_verified_file_may_replace_the_target_of_a_link(coded: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "y.ddpm").write_bytes(b"old")
    (tmp_path / "y.ddpm").symlink_to(tmp_path / "far" / "y.ddpm")
    words = ("--progressive", "--verify", "--overwrite", *FAST)
    assert run("encode", tmp_path / "x.png", "-o", tmp_path / "y.ddpm", *words)[0] == 0
    assert (tmp_path / "y.ddpm").is_symlink()
    assert run("decode", tmp_path / "far" / "y.ddpm", "-o", tmp_path / "y.png", *MODEL)[0] == 0
    assert same(tmp_path / "x.png", tmp_path / "y.png")


def test_metadata_comes_back_and_strip_leaves_it_out(tmp_path: Path, run: Run) -> None:
    source = tmp_path / "m.png"
    exif = Image.Exif()
    exif[0x010E] = "waves"
    Image.fromarray(noisy_picture(1, 16, 16)).save(source, exif=exif, icc_profile=b"profile")
    for words, kept in (((), True), (("--strip",), False)):
        coded, back = tmp_path / f"{kept}.ddpm", tmp_path / f"{kept}.png"
        assert run("encode", source, "-o", coded, "--progressive", *words, *FAST)[0] == 0
        assert run("decode", coded, "-o", back, "--level", "3", *MODEL)[0] == 0
        with Image.open(back) as image:
            assert (image.info.get("icc_profile") == b"profile") is kept
            assert (image.getexif().get(0x010E) == "waves") is kept


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_other_modes_are_stored_whole(mode: str, tmp_path: Path, run: Run) -> None:
    source, coded, back = tmp_path / "g.png", tmp_path / "g.ddpm", tmp_path / "h.png"
    Image.linear_gradient("L").convert("I;16" if mode == "I;16" else mode).save(source)
    code, _, error = run("encode", source, "-o", coded, "--progressive", *FAST)
    assert code == 0
    assert "fallback" in error
    assert run("decode", coded, "-o", back)[0] == 0
    assert same(source, back)
    code, _, error = run("encode", source, "-o", tmp_path / "l.ddpm", "--progressive", "--bpp", "1", *FAST)
    assert code == 1
    assert one_line(error)


def test_several_pictures_become_a_folder_of_files(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        save(folder / f"p{number}.png", 16, 16 + 8 * number)
    code, out, error = run("encode", folder, "-o", tmp_path / "out", "--progressive", "--json", *FAST)
    assert (code, error) == (0, "")
    assert json.loads(out)["images"] == 3
    found = sorted((tmp_path / "out").rglob("*.ddpm"))
    assert [path.name for path in found] == ["p0.ddpm", "p1.ddpm", "p2.ddpm"]
    before = [path.read_bytes() for path in found]
    code, _, error = run("encode", folder, "-o", tmp_path / "out", "--progressive", *FAST)
    assert code == 1
    assert "already exists" in error
    assert [path.read_bytes() for path in found] == before
    code, _, error = run("encode", folder, "-o", tmp_path / "all.ddpm", "--progressive", *FAST)
    assert code == 1
    assert "the output must be a folder" in error


def psnr_db(path: Path, source: Path) -> float:
    with Image.open(path) as a, Image.open(source) as b:
        error = np.mean((np.asarray(a).astype(float) - np.asarray(b)) ** 2)
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


# Both limits are below what the messages of the whole file take, so that its crossing reaches them.
@pytest.mark.parametrize("size", [(48, 56), (140, 150)])
@pytest.mark.parametrize("bpp", [2.5, 4.0])
def test_a_limit_on_the_bits_holds_and_gives_the_beginning_of_the_file(
    size: tuple[int, int], bpp: float, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_fallback(monkeypatch)
    source, whole, part = save(tmp_path / "x.png", *size), tmp_path / "whole.ddpm", tmp_path / "part.ddpm"
    assert run("encode", source, "-o", whole, "--progressive", *FAST)[0] == 0
    assert run("encode", source, "-o", part, "--progressive", "--bpp", str(bpp), *FAST)[0] == 0
    assert 8 * part.stat().st_size <= bpp * size[0] * size[1]
    *sections, last = read_progressive(part).sections
    beginning = read_progressive(whole).sections[: len(sections) + 1]
    assert sections == list(beginning[:-1])
    # Of the next section, the messages that fit.
    assert beginning[-1].startswith(last)
    for path, words in ((part, ()), (whole, ("--bpp", str(bpp)))):
        code, out, _ = run("decode", path, "-o", tmp_path / "y.png", "--overwrite", "--json", *words, *MODEL)
        assert code == 0
        assert not json.loads(out)["lossless"]
        assert 8 * json.loads(out)["used_bytes"] <= bpp * size[0] * size[1]


def test_a_quality_is_reached(tmp_path: Path, run: Run) -> None:
    source, coded, back = save(tmp_path / "x.png", 64, 64), tmp_path / "x.ddpm", tmp_path / "y.png"
    assert run("encode", source, "-o", coded, "--progressive", "--psnr", "30", *FAST)[0] == 0
    assert run("decode", coded, "-o", back, *MODEL)[0] == 0
    assert 30 <= psnr_db(back, source) < 45


@pytest.mark.parametrize("how", ["mean", "sample", "flow"])
def test_every_level_can_be_shown_in_three_ways(how: str, coded: Path, tmp_path: Path, run: Run) -> None:
    best = 0.0
    for level in ("7", "4", "1"):
        shown = tmp_path / f"{level}.png"
        words = ("--level", level, "--reconstruction", how, *MODEL)
        code, _, error = run("decode", coded, "-o", shown, *words)
        assert code == 0
        assert "not lossless" in error
        assert run("decode", coded, "-o", tmp_path / "again.png", "--overwrite", *words)[0] == 0
        assert same(shown, tmp_path / "again.png")
        assert psnr_db(shown, tmp_path / "x.png") > best
        best = psnr_db(shown, tmp_path / "x.png")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("encode", "x.png", "-o", "z.ddpm", "--bpp", "1"), 2),
        (("encode", "x.png", "-o", "z.ddpm", "--psnr", "30"), 2),
        (("encode", "x.png", "-o", "z.ddpm", "--progressive", "--block-pixels", "99"), 2),
        (("encode", "x.png", "-o", "z.ddpm", "--progressive", "--bpp", "0", *FAST), 1),
        (("encode", "x.png", "-o", "z.ddpm", "--progressive", "--bpp", "nan", *FAST), 1),
        (("encode", "x.png", "-o", "z.ddpm", "--progressive", "--bpp", "0.01", *FAST), 1),
        (("encode", "x.png", "-o", "z.ddpm", "--progressive", "--psnr", "-3", *FAST), 1),
        (("encode", "x.png", "-o", "z.png", "--progressive", *FAST), 1),
        (("encode", "x.png", "-o", "x.ddpm", "--progressive", *FAST), 1),
        (("encode", "x.png", "-o", "z.ddpm", "--progressive", "--steps", "999", *FAST), 1),
        (("decode", "x.ddpm", "-o", "z.png", "--level", "99", *MODEL), 1),
        (("decode", "x.ddpm", "-o", "z.png", "--bpp", "0.001", *MODEL), 1),
        (("decode", "x.ddpm", "-o", "z.png", "--bpp", "-1", *MODEL), 1),
        (("decode", "x.ddpm", "-o", "z.png", "--model", "photo"), 1),
        (("decode", str(FOLDER / "noise.ddpm"), "-o", "z.png", "--level", "2", *MODEL), 1),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    words: tuple[str, ...], code: int, coded: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(coded.parent)
    before = sorted(path.name for path in coded.parent.iterdir())
    found, out, error = run(*words)
    assert found == code
    assert out == ""
    assert "Traceback" not in error
    assert code == 2 or one_line(error)
    assert sorted(path.name for path in coded.parent.iterdir()) == before


def test_info_describes_whole_and_cut_files(coded: Path, tmp_path: Path, run: Run) -> None:
    opened = read_progressive(coded)
    part = tmp_path / "part.ddpm"
    part.write_bytes(coded.read_bytes()[: opened.ends[1] + 3])
    for path, count in ((coded, len(opened.sections)), (part, 2)):
        code, out, _ = run("info", path, "--json")
        facts = json.loads(out)
        assert (code, facts["codec"], facts["whole_sections"]) == (0, "progressive", count)
        assert facts["sections"][-1]["end"] == opened.ends[count - 1]
        assert run("info", path)[0] == 0


@pytest.mark.parametrize("words", [("--progressive",), ()])
def test_a_file_that_does_not_verify_is_named_and_not_written(
    words: tuple[str, ...], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FormatError("the bits are wrong")

    monkeypatch.setattr(SectionDecoder, "feed", fail)
    monkeypatch.setattr(block, "_decode_seeds", fail)
    monkeypatch.setattr(indexed, "decode_indexed", fail)
    source, fast = (save(tmp_path / "x.png", 16, 16), FAST) if words else (PHOTO, ())
    code, out, error = run("encode", source, "-o", tmp_path / "x.ddpm", "--verify", *words, *fast)
    assert (code, out) == (1, "")
    assert one_line(error)
    assert str(tmp_path / "x.ddpm") in error
    assert "the bits are wrong; nothing was written" in error
    assert {path.name for path in tmp_path.iterdir()} <= {"x.png"}
