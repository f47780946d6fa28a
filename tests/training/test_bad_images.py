"""Images that cannot be used: found before the first step, or replaced in the middle of a run that goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_sets import from_array, open_images
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler
from ddpm_codec.training.run import train
from ddpm_codec.training.screening import screened
from ddpm_codec.training.trainer import Trainer
from tests.ddpm_folders import random_ddpm, write_folder
from tests.helpers import Run

Make = Callable[..., TrainConfig]
Pictures = NDArray[np.uint8]

SMALL = {"holdout": 0, "batch": 2, "train_steps": 8, "validate_every": 100, "checkpoint_every": 100}


@pytest.fixture
def folder(tmp_path: Path, pictures: Pictures) -> Path:
    """Twenty-four pictures of 32x24."""
    (tmp_path / "photos").mkdir()
    for index, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index:02d}.png")
    return tmp_path / "photos"


def add_small(folder: Path, count: int) -> list[str]:
    paths = [folder / f"small{index:02d}.png" for index in range(count)]
    for path in paths:
        Image.new("RGB", (15, 40), (9, 9, 9)).save(path)
    return [str(path) for path in paths]


def cut(path: Path) -> None:
    """Keep the header and lose the end."""
    path.write_bytes(path.read_bytes()[:-60])


def first_draws(count: int, batch: int, steps: int) -> list[int]:
    """Return the images of a run with seed 0 in the order in which they are first drawn, as the sampler draws."""
    drawn = [np.random.default_rng([0, step]).integers(count, size=batch).tolist() for step in range(steps)]
    return list(dict.fromkeys(index for step in drawn for index in step))


def log_of(config: TrainConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]


def command(config: TrainConfig, *words: str) -> list[str | Path]:
    path = Path(config.output).with_suffix(".toml")
    path.write_text(config.to_toml())
    return ["train", "--config", path, *words]


@pytest.mark.parametrize("packed", [False, True])
def test_small_and_unreadable_images_are_named_before_the_first_step(
    packed: bool, tiny: Make, folder: Path, run: Run
) -> None:
    add_small(folder, 12)
    (folder / "aa.png").write_bytes(b"no picture")
    (folder / "ab.png").write_bytes((folder / "00.png").read_bytes()[:20])
    Image.fromarray(np.full((40, 40), 999, np.uint16)).save(folder / "ac.png")
    data = folder
    if packed:
        data = Path(shutil.make_archive(str(folder), "zip", folder))
    before = sorted(folder.parent.iterdir())
    config = tiny(data=str(data), output=str(folder.parent / "deep" / "run"))
    (folder.parent / "c.toml").write_text(config.to_toml())
    code, out, err = run("train", "--config", folder.parent / "c.toml")
    assert (code, out, err.count("\n")) == (1, "", 1)
    joint = ":" if packed else "/"
    assert err.startswith(f"ddpm-codec: error: 15 of 39 images unusable: {data}{joint}aa.png: is not an image")
    assert f"{data}{joint}small06.png: 15x40 is smaller than the crop of 16; and 5 more" in err
    assert "ac.png: I;16 pixels have more than 8 bits" in err
    assert "skip_small leaves such images out" in err
    assert sorted(folder.parent.iterdir()) == sorted([*before, folder.parent / "c.toml"])


def test_they_are_left_out_when_asked_and_all_are_in_the_log(tiny: Make, folder: Path, run: Run) -> None:
    small = add_small(folder, 12)
    (folder / "aa.png").write_bytes(b"no picture")
    config = tiny(data=str(folder), **SMALL)
    code, out, err = run(*command(config, "--skip-small", "--json", "--train-steps", "3"))
    assert code == 0, err
    notes = json.loads(out)["notes"]
    assert len(notes) == 1
    assert notes[0].startswith(f"13 of 37 images unusable: {folder / 'aa.png'}: ")
    assert notes[0].endswith("; and 3 more; left out")
    assert f"ddpm-codec: note: {notes[0]}\n" in err
    left = [line for line in log_of(config) if "left_out" in line]
    assert [(line["step"], line["left_out"]) for line in left] == [
        (0, path) for path in [str(folder / "aa.png"), *small]
    ]
    assert left[1]["reason"] == "15x40 is smaller than the crop of 16"
    assert TrainConfig.from_sources(Path(config.output) / "config.toml", {}).skip_small
    assert load_checkpoint(Path(config.output)).config.skip_small
    # A resumed run says it again, and writes it once.
    code, out, _ = run(*command(config, "--skip-small", "--json", "--train-steps", "5"))
    assert (code, json.loads(out)["notes"]) == (0, notes)
    assert [line for line in log_of(config) if "left_out" in line] == left
    assert load_checkpoint(Path(config.output)).step == 5


def test_a_set_without_a_usable_image_is_refused_whatever_is_skipped(tiny: Make, folder: Path) -> None:
    with pytest.raises(InputError, match=r"24 of 24 images unusable: .*00\.png: 32x24 is smaller than the crop of 32"):
        train(tiny(data=str(folder), crop=32, skip_small=True), progress=False)


def test_validation_images_are_looked_at_too(tiny: Make, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    (path,) = add_small(tmp_path / "checks", 1)
    with pytest.raises(InputError, match=r"small00\.png: 15x40 is smaller than the crop of 16"):
        train(tiny(data=str(folder), validation=path), progress=False)
    assert not Path(tiny().output).exists()


def test_what_becomes_rgb_is_said_once_with_counts(tiny: Make, folder: Path, run: Run) -> None:
    for index in range(11):
        with Image.open(folder / f"{index:02d}.png") as image:
            image.convert("L").save(folder / f"{index:02d}.png")
    frames = [Image.new("RGB", (16, 16), (index, 0, 0)) for index in range(2)]
    frames[0].save(folder / "z.tif", save_all=True, append_images=frames[1:])
    code, out, err = run(*command(tiny(data=str(folder), **SMALL), "--json", "--train-steps", "2"))
    assert code == 0, err
    notes = json.loads(out)["notes"]
    assert [note.partition(" (")[0] for note in notes] == [
        "first frame only: 1 image",
        "grey counted as three equal channels: 11 images",
    ]
    assert notes[1].endswith("09.png, and 1 more)")
    assert err.count("note: ") == 2


def test_a_damaged_image_does_not_end_a_run(tiny: Make, folder: Path, run: Run, tmp_path: Path) -> None:
    bad = folder / f"{first_draws(24, 2, 8)[5]:02d}.png"
    cut(bad)
    config = tiny(data=str(folder), **SMALL)
    code, out, err = run(*command(config, "--json"))
    assert code == 0, err
    (note,) = json.loads(out)["notes"]
    assert note.startswith(f"{bad}: ")
    assert note.endswith("; replaced by another image")
    assert err.count(f"ddpm-codec: note: {note}\n") == 1
    (line,) = [line for line in log_of(config) if "left_out" in line]
    assert (line["step"] > 1, line["left_out"]) == (True, str(bad))
    whole = load_checkpoint(Path(config.output))
    assert whole.step == 8
    # Stopped and resumed, the run draws the same image in its place.
    again = tiny(data=str(folder), **SMALL | {"output": str(tmp_path / "again")})
    with pytest.MonkeyPatch.context() as patch:
        advance = Trainer.advance

        def broken(self: Trainer) -> None:
            if self.step == 4:
                raise KeyboardInterrupt
            advance(self)

        patch.setattr(Trainer, "advance", broken)
        with pytest.raises(KeyboardInterrupt):
            train(again, progress=False)
    assert load_checkpoint(Path(again.output)).step == 1
    train(again, progress=False)
    resumed = load_checkpoint(Path(again.output))
    assert all(torch.equal(value, whole.ema[key]) for key, value in resumed.ema.items())


def test_a_run_whose_images_are_mostly_damaged_gives_up_and_keeps_its_steps(tiny: Make, folder: Path, run: Run) -> None:
    order = first_draws(24, 2, 8)
    bad = [folder / f"{index:02d}.png" for index in order[4:6]]
    kept = {path: path.read_bytes() for path in bad}
    for path in bad:
        cut(path)
    config = tiny(data=str(folder), **SMALL)
    code, out, err = run(*command(config, "--json"))
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"ddpm-codec: error: 2 of 24 images unusable: {bad[0]}: ")
    assert f"; {bad[1]}: " in last
    step = load_checkpoint(Path(config.output)).step
    assert 1 < step < 8
    for path, content in kept.items():
        path.write_bytes(content)
    code, _, err = run(*command(config, "--json"))
    assert (code, load_checkpoint(Path(config.output)).step) == (0, 8), err


def test_a_run_that_fails_before_its_first_step_leaves_nothing(tiny: Make, folder: Path, tmp_path: Path) -> None:
    for index in first_draws(24, 8, 1):
        cut(folder / f"{index:02d}.png")
    before = sorted(tmp_path.iterdir())
    config = tiny(data=str(folder), holdout=0, output=str(tmp_path / "new" / "deep" / "run"))
    with pytest.raises(InputError, match="2 of 24 images unusable"):
        train(config, progress=False)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError, match="2 of 24 images unusable"):
        train(config, progress=False)
    assert list((tmp_path / "new").iterdir()) == []
    # A folder that was there stays, and so does what was in it.
    (tmp_path / "new" / "deep" / "run").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "run" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="2 of 24 images unusable"):
        train(config, progress=False)
    assert (tmp_path / "new" / "deep" / "run" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(("stop", "kept"), [(0, None), (1, 1), (3, 1), (5, 5), (6, 5)])
def test_a_run_that_fails_soon_keeps_a_checkpoint(stop: int, kept: int | None, tiny: Make) -> None:
    """After the first step, and before the first validation, at step 6."""
    config = tiny(checkpoint_every=100)
    with pytest.MonkeyPatch.context() as patch:
        advance, validate = Trainer.advance, Trainer.validate

        def broken(self: Trainer) -> None:
            if self.step == stop:
                raise RuntimeError("out of memory")
            advance(self)

        def broken_validation(self: Trainer) -> dict[str, float]:
            if stop == 6:
                raise RuntimeError("out of memory")
            return validate(self)

        patch.setattr(Trainer, "advance", broken)
        patch.setattr(Trainer, "validate", broken_validation)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(config, progress=False)
    if kept is None:
        assert not Path(config.output).exists()
        return
    assert load_checkpoint(Path(config.output)).step == kept
    train(config, progress=False)
    assert load_checkpoint(Path(config.output)).step == 12


def test_a_replacement_changes_no_other_crop(folder: Path) -> None:
    """It depends on seed, step and position alone, so every process and every resumed run draws the same."""
    whole = CropSampler(open_images(str(folder)), 16, flip=True, seed=0).batch(3, 8, slice(None))
    chosen = np.random.default_rng([0, 3]).integers(24, size=8)
    bad = int(chosen[2])
    cut(folder / f"{bad:02d}.png")
    told: list[Untaken] = []
    sampler = CropSampler(open_images(str(folder)), 16, flip=True, seed=0, on_damage=told.append)
    found = sampler.batch(3, 8, slice(None))
    hit = chosen == bad
    assert np.array_equal(found[~hit], whole[~hit])
    assert not np.array_equal(found[hit], whole[hit])
    sampler.batch(3, 8, slice(None))
    assert [refused.path for refused in told] == [str(folder / f"{bad:02d}.png")]
    other = CropSampler(open_images(str(folder)), 16, flip=True, seed=0)
    assert np.array_equal(other.batch(3, 8, slice(2, 8)), found[2:])


def test_a_single_image_that_is_damaged_is_an_error(folder: Path) -> None:
    cut(folder / "00.png")
    sampler = CropSampler(open_images(str(folder / "00.png")), 16, flip=True, seed=0)
    with pytest.raises(InputError, match=r"00\.png: "):
        sampler.batch(0, 1, slice(None))


def test_screening_keeps_a_good_set_as_it_is(pictures: Pictures) -> None:
    images = from_array(pictures, source="x.npy")
    found = screened(images, 24, skip_small=False)
    assert (found.images is images, found.left_out, found.changes, found.notes()) == (True, (), (), [])
    with pytest.raises(
        InputError, match=r"24 of 24 images unusable: x\.npy\[0\]: 32x24 is smaller than the crop of 25;"
    ):
        screened(images, 25, skip_small=False)


def test_calibrate_names_or_leaves_out(folder: Path, run: Run, tmp_path: Path) -> None:
    (small,) = add_small(folder, 1)
    model = write_folder(random_ddpm(), tmp_path / "model")
    words = ("calibrate", model, folder, "--limit", 2, "--json")
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"1 of 25 images unusable: {small}: 15x40 is smaller than the crop of 16 (skip_small" in err
    code, out, err = run(*words, "--skip-small")
    assert (code, json.loads(out)["images"]) == (0, 2)
    assert err == (
        f"ddpm-codec: note: 1 of 25 images unusable: {small}: 15x40 is smaller than the crop of 16; left out\n"
    )


@pytest.mark.usefixtures("few_crops")
def test_export_names_or_leaves_out(folder: Path, tiny: Make, run: Run, tmp_path: Path) -> None:
    config = tiny(data=str(folder), train_steps=1)
    train(config, progress=False)
    (small,) = add_small(folder, 1)
    words = ("export", config.output, "-o", tmp_path / "m.safetensors", "--float", "--limit", 2, "--json")
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"1 of 25 images unusable: {small}: " in err
    code, out, err = run(*words, "--skip-small")
    assert (code, err.count("\n")) == (0, 1)
    assert err.endswith("15x40 is smaller than the crop of 16; left out\n")
    assert (tmp_path / "m.safetensors").exists()
