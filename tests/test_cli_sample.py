"""``ddpm-codec sample``: what it draws, writes and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.golden.regenerate import EXACT, FLOAT, noisy_picture
from tests.helpers import Run, leftovers

Draw = Callable[..., dict[str, Any]]
STILL = ("--count", 3, "--size", "16x24")


def test_what_the_pair_is_not_shown_as_is_named(run: Run, tmp_path: Path) -> None:
    for name, mode in (("a.png", "RGB"), ("b.png", "RGBA"), ("c.png", "L")):
        Image.fromarray(noisy_picture(1, 16, 16)).convert(mode).save(tmp_path / name)
    words = ("sample", "-o", tmp_path / "x.npy", "--model", EXACT, "--steps", 2, "--figure", "interpolation", "--json")
    code, out, err = run(*words, "--data", tmp_path)
    assert (code, err) == (0, f"ddpm-codec: note: alpha dropped: 1 image ({tmp_path / 'b.png'})\n")
    assert json.loads(out)["changed"] == [{"path": str(tmp_path / "b.png"), "what": "alpha dropped"}]
    Image.fromarray(np.full((16, 16), 999, np.uint16)).save(tmp_path / "b.png")
    code, out, err = run(*words, "--data", tmp_path, "--overwrite")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "b.png: I;16 pixels have more than 8 bits" in err


@pytest.fixture
def draw(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Run the command on a tiny exact model in a folder with two pictures, and return its one JSON object."""
    monkeypatch.chdir(tmp_path)
    np.save("pair.npy", np.stack([noisy_picture(seed, 32, 40) for seed in (1, 2)]))

    def call(output: str, *words: str | int | Path, model: Path = EXACT) -> dict[str, Any]:
        code, out, err = run("sample", "-o", output, "--model", model, "--device", "cpu", "--json", *map(str, words))
        assert (code, err, out.count("\n")) == (0, "", 1), err
        values: dict[str, Any] = json.loads(out)
        return values

    return call


def test_a_grid_of_samples(draw: Draw) -> None:
    values = draw("x.npy", *STILL, "--steps", 2, "--seed", 5)
    pixels = np.load("x.npy")
    assert (pixels.shape, pixels.dtype) == ((3, 24, 16, 3), np.uint8)
    assert pixels.std() > 1.0
    expected = {
        "output": "x.npy",
        "figure": "grid",
        "samples": 3,
        "size": [16, 24],
        "steps": 2,
        "evaluations": 9,
        "seed": 5,
        "device": "cpu",
        "dtype": "exact",
        "method": "ancestral",
        "variance": "predicted",
        "eta": None,
        "schedule": "dp",
    }
    assert {key: values[key] for key in expected} == expected
    assert values["images_per_second"] == pytest.approx(3 / values["seconds"])
    assert isinstance(values["model"], str)


def test_the_sheet_shows_the_array(draw: Draw) -> None:
    draw("x.npy", *STILL)
    draw("x.png", *STILL)
    pixels = np.load("x.npy")
    with Image.open("x.png") as image:
        shown = np.asarray(image)
    assert shown.shape == (2 + 2 * 26, 2 + 2 * 18, 3)
    assert np.array_equal(shown[2:26, 2:18], pixels[0])
    assert np.array_equal(shown[2:26, 20:36], pixels[1])
    assert np.array_equal(shown[28:52, 2:18], pixels[2])


@pytest.mark.parametrize("model", [EXACT, FLOAT])
def test_the_same_seed_gives_the_same_bytes(draw: Draw, model: Path) -> None:
    for name, words in (("a", ()), ("b", ()), ("c", ("--batch", 1)), ("d", ("--seed", 1))):
        draw(f"{name}.npz", "--count", 3, "--size", "32", *words, model=model)
    a, b, c, d = (Path(f"{name}.npz").read_bytes() for name in "abcd")
    assert a == b
    assert a != d
    if model == EXACT:
        assert a == c
    with np.load("a.npz") as one, np.load("c.npz") as other:
        # A network in floating point may round otherwise in another batch.
        assert np.abs(one["images"].astype(int) - other["images"]).mean() < 0.05


@pytest.mark.parametrize("variance", ["predicted", "class", "level", "beta", "beta-tilde"])
def test_every_variance_draws_something_else(draw: Draw, variance: str) -> None:
    draw("x.npy", *STILL)
    assert draw("y.npy", *STILL, "--variance", variance)["variance"] == variance
    assert np.array_equal(np.load("x.npy"), np.load("y.npy")) == (variance == "predicted")


def test_schedules_and_methods(draw: Draw) -> None:
    names = {
        "dp": ("--schedule", "dp", "--steps", 4),
        "even": ("--schedule", "even", "--steps", 4),
        "ddim": ("--method", "ddim"),
        "some": ("--method", "ddim", "--eta", 0.5),
        "all": ("--method", "ddim", "--eta", 1),
        "beta-tilde": ("--variance", "beta-tilde"),
    }
    reports = {name: draw(f"{name}.npy", *STILL, *words) for name, words in names.items()}
    found = {name: np.load(f"{name}.npy").astype(int) for name in names}
    assert not np.array_equal(found["dp"], found["even"])
    assert (reports["dp"]["steps"], reports["even"]["steps"], reports["even"]["schedule"]) == (4, 4, "even")
    assert [reports[name]["eta"] for name in ("dp", "ddim", "some", "all")] == [None, 0.0, 0.5, 1.0]
    assert reports["ddim"]["variance"] is None
    assert not np.array_equal(found["ddim"], found["some"])
    # The network reads fixed-point numbers, which the last bit of float64 may round otherwise.
    assert np.abs(found["all"] - found["beta-tilde"]).mean() < 0.05


def test_figures(draw: Draw) -> None:
    size = ("--size", 16, "--steps", 4)
    values = draw("p.npy", "--figure", "progressive", "--count", 2, "--at", "100%,50%,0%", *size)
    assert (values["samples"], values["columns"], len(values["at"])) == (2, 3, 3)
    assert values["at"] == sorted(values["at"])
    assert np.load("p.npy").shape == (6, 16, 16, 3)
    values = draw("s.npy", "--figure", "shared", "--count", 3, "--at", "25%,100%", *size)
    assert (values["samples"], values["columns"], values["evaluations"]) == (6, 4, 4 + 3 * (2 + 5))
    assert np.load("s.npy").shape == (8, 16, 16, 3)
    values = draw("i.npy", "--figure", "interpolation", "--count", 3, "--data", "pair.npy", "--at", "75%", *size)
    assert (values["samples"], values["columns"], values["evaluations"]) == (3, 5, 3 * 4)
    shown = np.load("i.npy")
    assert np.array_equal(shown[[0, -1]], np.load("pair.npy")[:, 8:24, 12:28])
    draw("j.npy", "--figure", "interpolation", "--data", "pair.npy", "--pair", "1,0", "--steps", 2)
    shown = np.load("j.npy")
    assert shown.shape == (11, 32, 40, 3)
    assert np.array_equal(shown[[-1, 0]], np.load("pair.npy"))


def test_grids_that_move(draw: Draw) -> None:
    draw("x.png", *STILL)
    assert draw("x.gif", *STILL, "--steps", 3)["frames"] == 4
    assert draw("x.webp", *STILL, "--frames", 3)["frames"] == 3
    assert draw("still.webp", *STILL)["frames"] == 1
    for name, frames in (("x.gif", 4), ("x.webp", 3), ("still.webp", 1)):
        with Image.open(name) as image:
            assert getattr(image, "n_frames", 1) == frames
    with Image.open("x.png") as still, Image.open("x.webp") as moving:
        moving.seek(2)
        assert moving.convert("RGB").tobytes() == still.tobytes()


def test_default_size_of_a_codec_model(draw: Draw) -> None:
    assert draw("x.npy", "--count", 1, "--steps", 1)["size"] == [32, 32]


def test_what_people_read(run: Run, tmp_path: Path) -> None:
    code, out, err = run("sample", "-o", tmp_path / "x.png", "--model", EXACT, "--count", 1, "--steps", 2)
    assert (code, err) == (0, "")
    assert {"figure", "samples", "steps", "images/s", "seed"} <= {line.split()[0] for line in out.splitlines()}


def test_overwriting_is_asked_for(draw: Draw, run: Run) -> None:
    draw("x.npy", *STILL)
    before = Path("x.npy").read_bytes()
    code, out, err = run("sample", "-o", "x.npy", "--model", EXACT, "--seed", 1)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "x.npy: already exists" in err
    assert Path("x.npy").read_bytes() == before
    draw("x.npy", *STILL, "--seed", 1, "--overwrite")
    assert Path("x.npy").read_bytes() != before


@pytest.mark.parametrize(
    ("output", "words", "cause"),
    [
        ("x.jpg", "", "x.jpg: .jpg is not supported"),
        ("none/x.png", "", "none does not exist"),
        ("x.png", "--frames 3", ".png files cannot be animated"),
        ("x.gif", "--figure shared", "256 colours"),
        ("x.png", "--model nonesuch", "no such model"),
        ("x.png", "--steps 99999", "99999"),
        ("x.png", "--size 12x8", "multiples of 8"),
        ("x.png", "--size 8x", "WIDTHxHEIGHT"),
        ("x.png", "--eta 0.5", "eta is only for method ddim"),
        ("x.png", "--method ddim --eta 2", "eta = 2"),
        ("x.png", "--method ddim --figure shared", "the same picture every time"),
        ("x.png", "--at 50%", "at is not for figure grid"),
        ("x.png", "--data pair.npy", "only for figure interpolation"),
        ("x.png", "--pair 0,1", "only for figure interpolation"),
        ("x.png", "--figure interpolation", "needs data"),
        ("x.png", "--figure interpolation --data none.npy", "none.npy"),
        ("x.png", "--figure interpolation --data pair.npy --pair 0,2", "no pair 0,2"),
        ("x.png", "--figure interpolation --data pair.npy --pair 0", "pair = '0'"),
        ("x.png", "--figure interpolation --data pair.npy --size 64", "smaller than 64x64"),
        ("x.png", "--figure interpolation --data pair.npy --count 1", "count = 1"),
        ("pair.npy", "--figure interpolation --data pair.npy --overwrite", "is one of the inputs"),
        ("x.png", "--figure shared --at 101%", "level 101%"),
        ("x.png", "--figure shared --at 99", "outside the chain"),
        ("x.png", "--figure progressive --at x", "level 'x'"),
        ("x.webp", "--count 400000 --steps 1", "at most 16383"),
        ("x.gif", "--figure progressive --frames 2", "frames are only for figure grid"),
    ],
)
def test_an_error_is_one_line_before_any_work(output: str, words: str, cause: str, draw: Draw, run: Run) -> None:
    del draw
    model = [] if "--model" in words else ["--model", EXACT]
    code, out, err = run("sample", "-o", output, *model, *words.split())
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("ddpm-codec: error: ")
    assert cause in err
    assert [path.name for path in Path().iterdir()] == ["pair.npy"]
    assert leftovers(Path()) == []


def test_values_out_of_range_are_misuse(run: Run, tmp_path: Path) -> None:
    for words in ("--count 0", "--seed -1", "--batch 0", "--frames 0", "--figure circle", "--method euler"):
        code, out, _ = run("sample", "-o", tmp_path / "x.png", *words.split())
        assert (code, out) == (2, "")
