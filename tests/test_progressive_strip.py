"""``ddpm-codec progressive``: the frames that are drawn, their figures, and what is refused."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.codecs.progressive import encoder
from ddpm_codec.files.drawing import draw_tiles, over_white, side_by_side
from ddpm_codec.files.strip import Frame, thinned
from ddpm_codec_cli.main import main
from tests.containers import read_progressive
from tests.golden.regenerate import EXACT
from tests.helpers import SMALL, Run, leftovers
from tests.progressive.files import raw_fallback

MODEL = ("--model", EXACT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture, its progressive file, the same with alpha, and a cut and a damaged copy."""
    folder = tmp_path_factory.mktemp("strip")
    with Image.open(SMALL) as picture:
        crop = picture.convert("RGB").crop((16, 16, 56, 48))
    crop.save(folder / "rgb.png")
    crop.putalpha(Image.linear_gradient("L").resize(crop.size))
    crop.save(folder / "rgba.png")
    with pytest.MonkeyPatch.context() as context:
        # So small a picture would have few sections.
        context.setattr(encoder, "LARGEST_SMALL_SECTION", 50)
        raw_fallback(context)
        for name in ("rgb", "rgba"):
            words = ["encode", folder / f"{name}.png", "--progressive", "--register-bits", "6", "--steps", "8", *MODEL]
            assert main([str(word) for word in [*words, "-o", folder / f"{name}.ddpm"]]) == 0
    data = (folder / "rgb.ddpm").read_bytes()
    (folder / "cut.ddpm").write_bytes(data[: len(data) * 2 // 3])
    (folder / "damaged.ddpm").write_bytes(data[:-40] + bytes(40))
    return folder


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return 20.0 * math.log10(255.0 / float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2))))


def drawn(run: Run, file: Path, output: Path, *words: str | Path) -> list[dict[str, Any]]:
    code, out, err = run("progressive", file, "-o", output, *MODEL, "--json", *words)
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["file"], report["output"]) == (str(file), str(output))
    frames: list[dict[str, Any]] = report["frames"]
    return frames


def frame(used_bytes: int) -> Frame:
    return Frame(used_bytes, 0.1, 1, True, np.zeros((1, 1, 3), np.uint8))


def test_frames_are_what_decode_gives_of_so_many_bits(run: Run, folder: Path, tmp_path: Path) -> None:
    frames = drawn(run, folder / "rgb.ddpm", tmp_path / "strip.png", "--frames", "99")
    sizes = [row["bytes"] for row in frames]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == (folder / "rgb.ddpm").stat().st_size
    assert [row["level"] for row in frames] == sorted({row["level"] for row in frames}, reverse=True)
    for number, row in enumerate(frames):
        assert row["bits_per_pixel"] == 8 * row["bytes"] / (40 * 32)
        bpp = str(row["bits_per_pixel"] + 1e-9)
        code, out, _ = run(
            "decode", folder / "rgb.ddpm", "-o", tmp_path / f"{number}.png", *MODEL, "--bpp", bpp, "--json"
        )
        decoded = json.loads(out)
        assert (code, decoded["used_bytes"], decoded["level"]) == (0, row["bytes"], row["level"])
        assert decoded["lossless"] == row["lossless"] == (number == len(frames) - 1)
        if not row["lossless"]:
            expected = psnr_db(pixels(folder / "rgb.png"), pixels(tmp_path / f"{number}.png"))
            assert row["psnr_db"] == pytest.approx(expected, rel=1e-12)
    assert frames[-1]["psnr_db"] is None
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("most", [1, 2, 4])
def test_frames_are_thinned_to_at_most_so_many(run: Run, folder: Path, tmp_path: Path, most: int) -> None:
    every = drawn(run, folder / "rgb.ddpm", tmp_path / "every.png", "--frames", "99")
    frames = drawn(run, folder / "rgb.ddpm", tmp_path / "some.png", "--frames", str(most))
    assert len(every) > 4
    assert len(frames) == most
    assert all(row in every for row in frames)
    assert frames[-1] == every[-1]
    assert most == 1 or frames[0] == every[0]


def test_thinning_is_even_in_the_logarithm_of_the_bits() -> None:
    kept = thinned([frame(1 << exponent) for exponent in (0, 1, 2, 3, 4, 10, 16)], 4)
    assert [math.log2(one.used_bytes) for one in kept] == [0, 4, 10, 16]
    assert len(thinned(kept, 9)) == 4


def test_the_sheet_holds_every_frame_with_its_caption(run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "strip.png"
    drawn(run, folder / "rgb.ddpm", output, "--frames", "2", "--width", "200")
    original = pixels(folder / "rgb.png")
    with Image.open(output) as sheet:
        assert sheet.mode == "RGB"
        assert sheet.width > sheet.height
        shown = np.asarray(sheet)
    # 40x32 pixels are enlarged five times; the second frame is the picture itself.
    second = shown[8 : 8 + 5 * 32, 216 : 216 + 200]
    assert np.array_equal(second[::5, ::5], original)
    assert np.array_equal(second[4::5, 4::5], original)
    bands = [shown[8 + 5 * 32 : -8, left : left + 200] for left in (8, 216)]
    assert not np.array_equal(bands[0], bands[1])
    assert all(band.min() < 100 and band.max() > 230 for band in bands)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_shows_every_frame_and_stays_at_the_last(
    run: Run, folder: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"strip{suffix}"
    frames = drawn(run, folder / "rgb.ddpm", output, "--frames", "5", "--delay", "300")
    durations, shown = [], []
    with Image.open(output) as animation:
        assert getattr(animation, "n_frames", 1) == len(frames) == 5
        assert animation.info["loop"] == 0
        for number in range(5):
            animation.seek(number)
            shown.append(np.asarray(animation.convert("RGB")).astype(int))
            durations.append(animation.info["duration"])
    assert durations == [300, 300, 300, 300, 900]
    # 9 times 40 is the most that 384 holds. GIF has 256 colours.
    original = pixels(folder / "rgb.png").repeat(9, 0).repeat(9, 1)
    assert shown[-1].shape[1] == original.shape[1]
    assert np.abs(shown[-1][: len(original)] - original).mean() <= (3.0 if suffix == ".gif" else 0.0)
    assert all((a[len(original) :] != b[len(original) :]).any() for a, b in pairwise(shown))


def test_a_webp_can_stand_still(run: Run, folder: Path, tmp_path: Path) -> None:
    drawn(run, folder / "rgb.ddpm", tmp_path / "strip.webp", "--still", "--frames", "3")
    drawn(run, folder / "rgb.ddpm", tmp_path / "strip.png", "--frames", "3")
    with Image.open(tmp_path / "strip.webp") as picture:
        assert getattr(picture, "n_frames", 1) == 1
    assert np.array_equal(pixels(tmp_path / "strip.webp"), pixels(tmp_path / "strip.png"))


def test_a_cut_file_has_a_psnr_with_a_reference_alone(run: Run, folder: Path, tmp_path: Path) -> None:
    alone = drawn(run, folder / "cut.ddpm", tmp_path / "alone.png")
    compared = drawn(run, folder / "cut.ddpm", tmp_path / "compared.png", "--reference", folder / "rgb.png")
    whole = drawn(run, folder / "rgb.ddpm", tmp_path / "whole.png", "--frames", "99")
    assert {row["psnr_db"] for row in alone} == {None}
    assert not any(row["lossless"] for row in alone)
    assert [row["bytes"] for row in alone] == [row["bytes"] for row in compared]
    assert compared[0] == whole[0]
    assert compared[0]["psnr_db"] < compared[-1]["psnr_db"]
    assert (tmp_path / "alone.png").read_bytes() != (tmp_path / "compared.png").read_bytes()


def test_another_reference_gives_a_lossless_frame_a_psnr(run: Run, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.fromarray(pixels(folder / "rgb.png") ^ 1).save(other)
    frames = drawn(run, folder / "rgb.ddpm", tmp_path / "strip.png", "--reference", other)
    assert frames[-1]["psnr_db"] == pytest.approx(20.0 * math.log10(255.0))


def test_alpha_is_shown_over_white(run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "strip.png"
    frames = drawn(run, folder / "rgba.ddpm", output, "--frames", "1", "--reference", folder / "rgba.png")
    assert frames[0]["psnr_db"] is None
    with Image.open(folder / "rgba.png") as picture:
        expected = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        assert np.abs(over_white(np.asarray(picture)).astype(int) - np.asarray(expected)).max() <= 1
    shown = pixels(output)[8 : 8 + 32 * 9 : 9, 8 : 8 + 40 * 9 : 9].astype(int)
    assert np.abs(shown - np.asarray(expected)).max() <= 1


def test_reconstructions_differ(run: Run, folder: Path, tmp_path: Path) -> None:
    shown = set()
    for how in ("mean", "sample", "flow"):
        drawn(run, folder / "cut.ddpm", tmp_path / f"{how}.png", "--frames", "2", "--reconstruction", how)
        shown.add((tmp_path / f"{how}.png").read_bytes())
    assert len(shown) == 3


def test_without_json_it_prints_a_table(run: Run, folder: Path, tmp_path: Path) -> None:
    code, out, err = run("progressive", folder / "rgb.ddpm", "-o", tmp_path / "strip.png", *MODEL, "--frames", "3")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 4)
    assert lines[0].split() == ["bytes", "bits/pixel", "PSNR", "(dB)", "level"]
    assert lines[-1].split()[2:] == ["-", "lossless"]


def test_a_damaged_file_shows_what_comes_before_the_damage(run: Run, folder: Path, tmp_path: Path) -> None:
    words = ("progressive", folder / "damaged.ddpm", "-o", tmp_path / "strip.png", *MODEL, "--json")
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "is damaged after byte" in err
    assert list(tmp_path.iterdir()) == []
    code, out, err = run(*words, "--keep-going")
    assert code == 1
    assert err.startswith("ddpm-codec: damaged: ")
    assert len(json.loads(out)["frames"]) > 1
    assert (tmp_path / "strip.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rgb.ddpm", "-o", "new.jpg"), ".jpg is not supported; use .png, .gif, .webp"),
        (("rgb.ddpm", "-o", "new"), "no extension is not supported"),
        (("rgb.ddpm", "-o", "there.png"), "already exists"),
        (("rgb.ddpm", "-o", "nowhere/new.png"), "does not exist"),
        (("rgb.ddpm", "-o", "new.gif", "--still"), "--still needs .png or .webp"),
        (("missing.ddpm", "-o", "new.png"), "missing.ddpm: cannot be read"),
        (("rgb.png", "-o", "new.png"), "is not a .ddpm file"),
        (("plain.ddpm", "-o", "new.png"), "is not a progressive file"),
        (("short.ddpm", "-o", "new.png"), "is too short for a first picture"),
        (("rgb.ddpm", "-o", "new.png", "--reference", "small.png"), "is 8x8 pixels"),
        (("rgb.ddpm", "-o", "new.png", "--reference", "deep.png"), "mode I;16 cannot be compared"),
        (("rgb.ddpm", "-o", "new.png", "--reference", "plain.ddpm"), "is not an image"),
        (("rgb.ddpm", "-o", "rgb.png", "--reference", "rgb.png", "--overwrite"), "name another output"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    for name in ("rgb.ddpm", "rgb.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    first = read_progressive(folder / "rgb.ddpm").ends[0]
    (tmp_path / "short.ddpm").write_bytes((folder / "rgb.ddpm").read_bytes()[: first - 1])
    assert run("encode", folder / "rgb.png", "-o", tmp_path / "plain.ddpm", *MODEL)[0] == 0
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    Image.new("I;16", (40, 32)).save(tmp_path / "deep.png")
    (tmp_path / "there.png").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    code, out, err = run("progressive", *words, *MODEL)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_overwrite_replaces(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "strip.png").write_bytes(b"mine")
    drawn(run, folder / "rgb.ddpm", tmp_path / "strip.png", "--overwrite", "--frames", "1")
    assert pixels(tmp_path / "strip.png").shape[2] == 3


def test_a_sheet_too_large_for_its_format_is_refused(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddpm_codec.files.drawing.MAX_SIDE", {"WEBP": 300})
    code, _, err = run("progressive", folder / "rgb.ddpm", "-o", tmp_path / "strip.webp", *MODEL)
    assert code == 1
    assert "WEBP allows at most 300 per side" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "width", "expected"),
    [
        ((600, 300), 200, (200, 100)),
        ((150, 200), 384, (150, 200)),
        ((50, 100), 384, (150, 300)),
        ((50, 100), 40, (128, 80)),
    ],
)
def test_pictures_are_scaled_to_the_width(size: tuple[int, int], width: int, expected: tuple[int, int]) -> None:
    caption = ["1 bytes", "0.1 bits/pixel", "level 1", "20.00 dB"]
    tile = draw_tiles([np.zeros((size[1], size[0], 3), np.uint8)], [(caption, caption)], width)[0]
    shown = np.asarray(tile)
    # A caption needs some width, however narrow the picture.
    assert tile.width == expected[0]
    assert shown[expected[1] - 1, tile.width // 2].max() == 0
    assert shown[expected[1], 0].min() > 200


def test_captions_get_shorter_and_more_lines_where_there_is_no_room() -> None:
    full, brief = (
        ["1,234,567 bytes", "12.345 bits/pixel", "level 16", "20.00 dB"],
        ["1.2 MB", "12.345 bpp", "level 16", "20.0 dB"],
    )
    heights = [
        draw_tiles([np.zeros((200, 600, 3), np.uint8)], [(full, brief)], width)[0].height - round(200 * width / 600)
        for width in (600, 200, 128)
    ]
    assert heights[0] < heights[1]
    assert heights[1] < 60


def test_the_orientation_of_the_picture_is_followed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    caption = ["", "", "level 1", ""]
    picture = np.zeros((200, 300, 3), np.uint8)
    turned = draw_tiles([picture], [(caption, caption)], 384, exif.tobytes().removeprefix(b"Exif\0\0"))[0]
    assert turned.width == 200
    assert draw_tiles([picture], [(caption, caption)], 384, b"nonsense")[0].width == 300


@pytest.mark.parametrize("count", [1, 3, 7, 8, 12])
def test_sheets_are_landscape(count: int) -> None:
    sheet = side_by_side([Image.new("RGB", (300, 220))] * count)
    assert 1.0 <= sheet.width / sheet.height <= 4.2
