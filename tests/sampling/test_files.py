"""Places, sizes and pairs as people write them; sheets and what is refused of files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.errors import InputError, OutputError, OutputExistsError
from ddpm_codec.sampling.output import GAP, check_output, check_sheet, sheet, write_frames
from ddpm_codec.sampling.places import find_places, parse_pair, parse_size, spread_places

CHAIN = Chain((8.0, 5.0, 3.0, 0.0, -4.0))


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("0%", (0,)),
        ("100%", (4,)),
        ("25%,75%,50%", (3, 2, 1)),
        ("8", (0,)),
        ("-4", (4,)),
        ("3.9, 4.1", (2, 1)),
        ("0,0%,100%", (4, 3, 0)),
        ("1%,0%,8.0", (0,)),
    ],
)
def test_places(text: str, places: tuple[int, ...]) -> None:
    assert find_places(text, CHAIN) == places


@pytest.mark.parametrize("text", ["", "x", "1,,2", "101%", "-1%", "nan", "nan%", "8.1", "-4.1", "inf", "%"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^level "):
        find_places(text, CHAIN)


def test_spread_places_have_both_ends() -> None:
    assert spread_places(CHAIN, 3) == (4, 2, 0)
    assert spread_places(CHAIN, 99) == (4, 3, 2, 1, 0)
    assert spread_places(CHAIN, 1) == (0,)


def test_sizes_and_pairs() -> None:
    assert (parse_size("32x24"), parse_size("32X24"), parse_size("16")) == ((32, 24), (32, 24), (16, 16))
    assert parse_pair("3, 0") == (3, 0)
    for text in ("", "0", "8x", "8x8x8", "-8x8", "a"):
        with pytest.raises(InputError, match="size = "):
            parse_size(text)
    for text in ("", "1", "1,2,3", "-1,0", "a,b"):
        with pytest.raises(InputError, match="pair = "):
            parse_pair(text)


def pictures(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 6, 3)).astype(np.uint8)


def test_a_sheet_holds_each_pixel_as_it_is() -> None:
    drawn, given = sheet(pictures(5), 3), pictures(5)
    assert drawn.shape == (GAP + 2 * (4 + GAP), GAP + 3 * (6 + GAP), 3)
    for number in range(5):
        top, left = GAP + number // 3 * (4 + GAP), GAP + number % 3 * (6 + GAP)
        assert np.array_equal(drawn[top : top + 4, left : left + 6], given[number])
        drawn[top : top + 4, left : left + 6] = 255
    assert (drawn == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_stills_are_lossless(tmp_path: Path, suffix: str) -> None:
    write_frames(pictures(5)[None], 3, tmp_path / f"x{suffix}", overwrite=False)
    with Image.open(tmp_path / f"x{suffix}") as image:
        assert np.array_equal(np.asarray(image), sheet(pictures(5), 3))


def test_arrays_hold_the_pictures_of_the_last_frame(tmp_path: Path) -> None:
    for suffix in (".npy", ".npz"):
        write_frames(np.stack([pictures(5, 1), pictures(5)]), 3, tmp_path / f"x{suffix}", overwrite=False)
    assert np.array_equal(np.load(tmp_path / "x.npy"), pictures(5))
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays.files == ["images"]
        assert np.array_equal(arrays["images"], pictures(5))


def test_animations_move(tmp_path: Path) -> None:
    frames = np.stack([pictures(4, seed) for seed in range(3)])
    for suffix in (".gif", ".webp"):
        write_frames(frames, 2, tmp_path / f"x{suffix}", overwrite=False)
        with Image.open(tmp_path / f"x{suffix}") as image:
            assert getattr(image, "n_frames", 1) == 3
            image.seek(2)
            last = np.asarray(image.convert("RGB")).astype(int)
        if suffix == ".webp":
            assert np.array_equal(last, sheet(frames[2], 2))


@pytest.mark.parametrize(
    ("name", "moves", "cause"),
    [
        ("x.jpg", False, ".jpg is not supported"),
        ("x", False, "no extension is not supported"),
        ("x.png", True, "cannot be animated"),
        ("x.npy", True, "cannot be animated"),
        ("x.gif", False, "256 colours"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, moves: bool, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        check_output(tmp_path / name, [], moves=moves, overwrite=True)


def test_nothing_is_written_over_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write_frames(pictures(1)[None], 1, path, overwrite=False)
    with pytest.raises(OutputExistsError):
        check_output(path, [], moves=False, overwrite=False)
    with pytest.raises(OutputExistsError):
        write_frames(pictures(2)[None], 1, path, overwrite=False)
    with pytest.raises(InputError, match="one of the inputs"):
        check_output(path, ["missing", str(path)], moves=False, overwrite=True)
    check_output(path, ["missing"], moves=False, overwrite=True)
    with pytest.raises(OutputError, match="folder"):
        check_output(tmp_path / "none" / "x.npy", [], moves=False, overwrite=False)
    assert len(np.load(path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]


def test_sheets_fit_their_format() -> None:
    # 16383 = 2 + 1637 * (8 + 2) + 11 is the most that WebP has.
    check_sheet(Path("x.webp"), 1638, 1638, 8, 8)
    with pytest.raises(InputError, match=r"x\.webp: 16392x12 pixels"):
        check_sheet(Path("x.webp"), 1639, 1639, 8, 8)
    with pytest.raises(InputError, match="12x16392 pixels"):
        check_sheet(Path("x.webp"), 1639, 1, 8, 8)
    check_sheet(Path("x.npy"), 1 << 40, 1, 8, 8)
