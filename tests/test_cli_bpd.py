"""``ddpm-codec bpd``: terms that add up, and agree with the files that are coded."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests.ddpm_folders import random_ddpm, write_folder
from tests.golden.regenerate import EXACT, noisy_picture
from tests.helpers import Run


@pytest.fixture
def bound(run: Run, tiles: Path) -> Callable[..., dict[str, Any]]:
    """Run the command on the tiles and return its one JSON object."""

    def call(*words: str | Path) -> dict[str, Any]:
        code, out, err = run("bpd", tiles, "--json", *words)
        assert (code, err, out.count("\n")) == (0, "", 1)
        values: dict[str, Any] = json.loads(out)
        return values

    return call


def terms(values: dict[str, Any]) -> list[float]:
    return [values["prior_bpd"], *values["diffusion_bpd"], values["reconstruction_bpd"]]


def test_terms_sum_to_the_total(bound: Callable[..., dict[str, Any]]) -> None:
    for words in ((), ("--steps", "4"), ("--steps", "5", "--schedule", "even"), ("--variance", "class")):
        values = bound(*words)
        assert sum(terms(values)) == pytest.approx(values["total_bpd"], rel=1e-12)
        assert min(terms(values)) > 0
        assert len(values["diffusion_bpd"]) == values["steps"]
        assert (values["images"], values["dims"]) == (16, 16 * 32 * 32 * 3)
        assert values["stderr_bpd"] > 0
        assert {"model", "device", "seconds", "images_per_second"} <= set(values)
    assert bound("--steps", "4")["steps"] == 4
    assert bound("--limit", "3")["images"] == 3


def test_the_same_seed_gives_the_same_figures(bound: Callable[..., dict[str, Any]]) -> None:
    assert terms(bound()) == terms(bound())
    assert terms(bound()) != terms(bound("--seed", "1"))


def test_the_batch_size_does_not_matter(bound: Callable[..., dict[str, Any]]) -> None:
    assert terms(bound("--batch", "5")) == pytest.approx(terms(bound("--batch", "64")), rel=1e-3)


def test_a_picture_of_it_is_drawn(bound: Callable[..., dict[str, Any]], run: Run, tiles: Path, tmp_path: Path) -> None:
    bound("--plot", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
    code, out, err = run("bpd", tiles, "--plot", tmp_path / "x.png")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "x.png: already exists" in err


def test_the_coded_net_rate_is_the_bound(run: Run, tmp_path: Path) -> None:
    """Of noise, which is the same everywhere: the pictures that the fallback takes as seeds are like the others."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(48):
        Image.fromarray(noisy_picture(index, 32, 32)).save(folder / f"{index:02d}.png")
    code, out, _ = run("encode", folder, "-o", tmp_path / "x.ddpm", "--model", EXACT, "--json")
    assert code == 0
    coded = json.loads(out)["net_bpd"]
    code, out, _ = run("bpd", folder, "--model", EXACT, "--json")
    # Each of two noise draws of 147,456 dimensions has a standard error of about 0.005.
    assert coded == pytest.approx(json.loads(out)["total_bpd"], abs=0.025)


def test_what_people_read_says_that_no_file_is_meant(run: Run, tiles: Path) -> None:
    code, out, err = run("bpd", tiles, "--limit", 4, "--steps", 4)
    assert (code, err) == (0, "")
    assert "bound bits/dim (an ideal code length, not a file)" in out
    assert [line.split()[0] for line in out.splitlines()[-4:]] == ["1", "2", "3", "4"]


def mixed(folder: Path) -> Path:
    """Write pictures that are grey, have alpha, or are plain."""
    folder.mkdir()
    Image.fromarray(noisy_picture(0, 8, 8)).save(folder / "a.png")
    Image.fromarray(noisy_picture(1, 8, 8)).convert("RGBA").save(folder / "b.png")
    Image.fromarray(noisy_picture(2, 8, 8)).convert("L").save(folder / "c.png")
    Image.fromarray(noisy_picture(3, 8, 8)).convert("L").save(folder / "d.png")
    return folder


GREY, ALPHA = "grey counted as three equal channels", "alpha dropped"


def test_what_is_not_bounded_as_it_is_stored_is_named(run: Run, tmp_path: Path) -> None:
    folder = mixed(tmp_path / "in")
    code, out, err = run("bpd", folder, "--model", EXACT, "--steps", 4, "--json")
    assert (code, out.count("\n")) == (0, 1)
    whats = {"b.png": ALPHA, "c.png": GREY, "d.png": GREY}
    values = json.loads(out)
    assert values["changed"] == [{"path": str(folder / name), "what": what} for name, what in whats.items()]
    assert err == (
        f"ddpm-codec: note: {ALPHA}: 1 image ({folder / 'b.png'})\n"
        f"ddpm-codec: note: {GREY}: 2 images ({folder / 'c.png'}, {folder / 'd.png'})\n"
    )
    plain = json.loads(run("bpd", folder / "a.png", "--model", EXACT, "--steps", 4, "--json")[1])
    assert plain["changed"] == []
    code, out, err = run("bpd", folder, "--limit", 1, "--model", EXACT, "--steps", 4, "--json")
    assert (code, err, json.loads(out)["changed"]) == (0, "", [])


def test_a_first_frame_is_taken_when_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    frames = [Image.fromarray(noisy_picture(index, 8, 8)) for index in range(3)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    words = ("bpd", tmp_path / "x.tif", "--model", EXACT, "--steps", 4, "--json")
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "x.tif: has 3 frames (--first-frame takes the first)" in err
    code, out, err = run(*words, "--first-frame")
    assert (code, json.loads(out)["changed"]) == (0, [{"path": str(tmp_path / "x.tif"), "what": "first frame only"}])
    assert err == f"ddpm-codec: note: first frame only: 1 image ({tmp_path / 'x.tif'})\n"
    frames[0].save(tmp_path / "y.png")
    first = json.loads(run("bpd", tmp_path / "y.png", *words[2:])[1])
    assert first["total_bpd"] == json.loads(out)["total_bpd"]


def test_all_that_cannot_be_bounded_is_named_before_the_work(run: Run, tmp_path: Path) -> None:
    """16 bits are refused, wherever they are, and so is damage that only decoding shows."""
    folder = mixed(tmp_path / "in")
    (folder / "a.png").rename(folder / "z.png")
    deep = np.full((8, 8, 3), 40000, np.uint16)
    (folder / "e.png").write_bytes(imagecodecs.png_encode(deep))
    Image.fromarray(deep[..., 0]).save(folder / "f.png")
    content = (folder / "z.png").read_bytes()
    (folder / "z.png").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    for source, joint in ((folder, "/"), (tmp_path / "in.zip", ":")):
        code, out, err = run("bpd", source, "--model", EXACT, "--steps", 4, "--json")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("ddpm-codec: error: 3 of 6 images unusable: ")
        for name in ("e.png", "f.png", "z.png"):
            assert f"{source}{joint}{name}: " in err
        assert err.count("more than 8 bits") == 2


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["missing.npy"], "missing.npy"),
        (["text.npy"], "text.npy"),
        (["floats.npy"], "floats.npy"),
        (["tiles.npy", "--model", "nonesuch"], "no such model"),
        (["tiles.npy", "--steps", "100000"], "100000"),
        (["tiles.npy", "--tile", "12"], "tile = 12"),
        (["tiles.npy", "--plot", "text.npy"], "text.npy: already exists"),
        # Refused before any work: the missing data is not looked for.
        (["missing.npy", "--plot", "none/x.png"], "none/x.png: the folder none does not exist"),
        (["missing.npy", "--plot", "x.abc"], "x.abc: cannot plot to .abc"),
        (["missing.npy", "--plot", "plot"], "plot: cannot plot to a file without an extension"),
    ],
)
def test_an_error_is_one_line(
    words: list[str], cause: str, run: Run, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiles.parent)
    Path("text.npy").write_text("no array")
    np.save("floats.npy", np.zeros((2, 8, 8, 3)))
    code, out, err = run("bpd", *words, "--limit", 2, "--json")
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("ddpm-codec: error: ")
    assert cause in err
    assert sorted(path.name for path in Path().iterdir()) == ["floats.npy", "text.npy", "tiles.npy"]


def test_a_ddpm_is_plotted_too(run: Run, tiles: Path, tmp_path: Path) -> None:
    model = write_folder(random_ddpm(), tmp_path / "model")
    words = ("bpd", tiles, "--model", model, "--limit", 1, "--plot", tmp_path / "x.svg")
    assert run(*words)[0] == 0
    first = (tmp_path / "x.svg").read_bytes()
    assert run(*words, "--overwrite")[0] == 0
    assert (tmp_path / "x.svg").read_bytes() == first
