"""Trained DDPMs on the command line: export, calibrate, bpd, encode, decode, rd, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.process import ReverseProcess
from ddpm_codec.diffusion.schedule import NoiseSchedule
from ddpm_codec.models.checkpoints.calibration import CALIBRATION
from ddpm_codec.models.checkpoints.published import Published
from ddpm_codec.models.opening import open_model
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.run import train
from tests.ddpm_folders import REFERENCE, random_ddpm, write_folder
from tests.helpers import PHOTO, SMALL, Run, pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(random_ddpm(), tmp_path / "model")


def values_of(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert (code, err, out.count("\n")) == (0, "", 1)
    values: dict[str, Any] = json.loads(out)
    return values


def check_refused(result: tuple[int, str, str], words: str) -> None:
    code, out, err = result
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert words in err


def test_from_a_run_to_a_bound(run: Run, tiles: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        data=(str(tiles),),
        output=str(tmp_path / "run"),
        size="ddpm-tiny",
        crop=16,
        batch=8,
        train_steps=3,
        timesteps=12,
    )
    train(config, progress=False)
    model = tmp_path / "model"
    row = values_of(run("export", tmp_path / "run", "-o", model, "--json"))
    assert (row["name"], row["timesteps"], row["prediction"], row["sample_size"]) == ("model", 12, "eps", 16)
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "weights.safetensors"]
    row = values_of(run("calibrate", model, tiles, "--limit", 4, "--json"))
    assert (row["levels"], row["images"]) == (12, 4)
    assert 0 < row["finest_rmse"] < row["coarsest_rmse"]
    found = values_of(run("bpd", tiles, "--model", model, "--limit", 2, "--json"))
    assert (found["evaluations"], found["steps"]) == (12, 12)
    assert (found["schedule"], found["variance"]) == ("dp", "predicted")
    terms = [found["prior_bpd"], *found["diffusion_bpd"], found["reconstruction_bpd"]]
    assert found["total_bpd"] == pytest.approx(sum(terms), abs=1e-6)
    assert found["dtype"] == "float32"
    again = values_of(run("bpd", tiles, "--model", model, "--limit", 2, "--batch", 1, "--json"))
    assert again["total_bpd"] == pytest.approx(found["total_bpd"], rel=1e-5)


def test_levels_schedules_and_variances(run: Run, tiles: Path, folder: Path) -> None:
    even = values_of(run("bpd", tiles, "--model", folder, "--steps", 5, "--limit", 2, "--json"))
    assert (even["evaluations"], even["steps"], even["schedule"]) == (5, 5, "even")
    assert run("calibrate", folder, tiles, "--limit", 4)[0] == 0
    totals = {
        (schedule, variance): values_of(
            run("bpd", tiles, "--model", folder, "--steps", 5, "--schedule", schedule, "--variance", variance,
                "--limit", 4, "--json")
        )["total_bpd"]
        for schedule in ("even", "dp")
        for variance in ("predicted", "beta", "level", "class")
    }  # fmt: skip
    assert len(set(totals.values())) == 6, "predicted is beta in this model, everything else differs"
    assert totals["even", "beta"] == totals["even", "predicted"]
    assert totals["dp", "level"] < totals["dp", "beta"] < totals["even", "beta"]
    assert totals["dp", "class"] < totals["even", "class"]
    usual = values_of(run("bpd", tiles, "--model", folder, "--steps", 5, "--limit", 4, "--json"))
    assert (usual["schedule"], usual["variance"], usual["total_bpd"]) == ("dp", "class", totals["dp", "class"])
    code, out, _ = run("bpd", tiles, "--model", "cifar10", "--steps", 4, "--limit", 2)
    assert code == 0
    assert "steps K" in out


def test_the_reference_model_codes_without_loss(run: Run, tiles: Path, tmp_path: Path) -> None:
    names = [tmp_path / f"{index:02d}.png" for index in range(8)]
    for name, tile in zip(names, np.load(tiles)[::2], strict=True):
        Image.fromarray(tile).save(name)
    file = tmp_path / "tiles.ddpm"
    report = values_of(run("encode", *names, "-o", file, "--model", REFERENCE, "--steps", 12, "--verify", "--json"))
    assert report["model"] == "ddpm-small"
    assert report["fallback_images"] < 5
    assert report["net_bpd"] < 4.5, "the coder used the model, and the model knows pictures"
    info = values_of(run("info", file, "--json"))
    assert (info["arithmetic"], info["coding_steps"]) == ("float", 11)
    assert run("decode", file, "-o", tmp_path / "back", "--model", REFERENCE)[0] == 0
    assert all(pixels(tmp_path / "back" / name.name) == pixels(name) for name in names)
    check_refused(run("decode", file, "-o", tmp_path / "other"), "pass its file with --model")
    check_refused(run("decode", file, "-o", tmp_path / "other", "--model", "cifar10"), "is another model")


def test_the_reference_model_codes_progressively(run: Run, tmp_path: Path) -> None:
    Image.open(SMALL).crop((0, 0, 32, 32)).save(tmp_path / "cut.png")
    file = tmp_path / "cut.ddpm"
    assert run("encode", tmp_path / "cut.png", "-o", file, "--model", REFERENCE, "--progressive", "--verify")[0] == 0
    frames = values_of(
        run("progressive", file, "-o", tmp_path / "strip.png", "--model", REFERENCE, "--json")
    )["frames"]  # fmt: skip
    quality = [frame["psnr_db"] for frame in frames[:-1]]
    assert quality == sorted(quality)
    assert frames[-1]["lossless"]


def test_another_calibration_is_another_model(run: Run, tiles: Path, tmp_path: Path) -> None:
    model = write_folder(random_ddpm(), tmp_path / "model")
    assert run("calibrate", model, tiles, "--limit", 2)[0] == 0
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    from ddpm_codec.models.registry import model_id

    before = model_id(model)
    check_refused(run("calibrate", model, tiles, "--limit", 3), "already exists")
    assert model_id(model) == before
    assert run("calibrate", model, tiles, "--limit", 3, "--overwrite")[0] == 0
    assert model_id(model) != before


def test_refusals_are_one_line(run: Run, tiles: Path, folder: Path, tmp_path: Path) -> None:
    check_refused(run("bpd", tiles, "--model", folder, "--schedule", "dp", "--steps", 4), "needs a calibration")
    check_refused(run("bpd", tiles, "--model", folder, "--variance", "level"), "no calibration")
    check_refused(run("bpd", tiles, "--model", folder, "--steps", 21), "has 20 timesteps, asked for 21")
    check_refused(run("bpd", tiles, "--model", folder, "--steps", 1), "at least 2 timesteps")
    check_refused(run("encode", PHOTO, "-o", tmp_path / "x.ddpm", "--model", folder), "needs a calibration")
    assert not (tmp_path / "x.ddpm").exists()
    check_refused(run("calibrate", tmp_path / "none", tiles), "none: no such folder")
    check_refused(run("calibrate", tiles, tiles), "not a DDPM folder")
    check_refused(run("calibrate", tmp_path, tiles), "contains no model")
    check_refused(run("calibrate", folder, tmp_path / "none"), "no such file or folder")
    small = tmp_path / "small.npy"
    np.save(small, np.zeros((2, 8, 8, 3), np.uint8))
    check_refused(run("calibrate", folder, small), "smaller than the crop of 16")
    assert not (folder / CALIBRATION).exists()
    (folder / "weights.safetensors").write_bytes(b"nonsense")
    check_refused(run("bpd", tiles, "--model", folder), "weights.safetensors: damaged weights")
    (folder / "weights.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    check_refused(run("bpd", tiles, "--model", folder), "is a git-lfs pointer")
    check_refused(run("bpd", tiles, "--model", tmp_path), "is a folder without a model")


def test_export_never_replaces_a_folder(run: Run, tiles: Path, tmp_path: Path) -> None:
    config = TrainConfig(
        data=(str(tiles),),
        output=str(tmp_path / "run"),
        size="ddpm-tiny",
        crop=16,
        batch=8,
        train_steps=1,
        timesteps=12,
    )
    train(config, progress=False)
    target = tmp_path / "model"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    check_refused(run("export", tmp_path / "run", "-o", target), "already exists")
    check_refused(run("export", tmp_path / "run", "-o", target, "--overwrite"), "folders are never replaced")
    assert [path.name for path in target.iterdir()] == ["mine.txt"]
    check_refused(run("export", tmp_path / "run", "-o", tmp_path / "none" / "model"), "cannot be written")
    check_refused(run("export", tmp_path / "run", "-o", tmp_path / "m.safetensors"), "becomes a folder")
    for words in (["--float"], ["--steps", 3], ["--data", "x"]):
        code, out, err = run("export", tmp_path / "run", "-o", tmp_path / "other", *words)
        assert (code, out) == (2, "")
        assert "only for codec networks" in err
        assert not (tmp_path / "other").exists()


def test_a_process_noisier_than_the_coder_goes(run: Run, tiles: Path, tmp_path: Path) -> None:
    """The cosine schedule of 4,000 timesteps ends at a log-SNR of -22: coding begins where it still holds latents."""
    schedule = NoiseSchedule.cosine(4000)
    usual = random_ddpm()
    process = ReverseProcess(schedule)
    model = write_folder(Published("cosine", usual.unet, usual.weights, process, 16), tmp_path / "cosine")
    assert run("calibrate", model, tiles, "--limit", 1)[0] == 0
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    for words in (["--steps", 6], ["--progressive", "--steps", 6]):
        done = run("encode", tmp_path / "noise.png", "-o", tmp_path / "x.ddpm", "--model", model, *words, "--overwrite")
        assert (done[0], done[2]) == (0, "")
        assert run("decode", tmp_path / "x.ddpm", "-o", tmp_path / "x.png", "--model", model, "--overwrite")[0] == 0
        assert pixels(tmp_path / "x.png") == pixels(tmp_path / "noise.png")
    sigmas = open_model(model).chain_sigmas(5)
    assert -12.0 <= -2.0 * np.log(sigmas[-1]) < -2.0 * np.log(sigmas[0]) <= 11.5
    check_refused(
        run("encode", PHOTO, "-o", tmp_path / "y.ddpm", "--model", model, "--steps", 3999), "can code with 2 to"
    )


def test_training_goes_on_from_a_folder(run: Run, tiles: Path, tmp_path: Path) -> None:
    settings = [
        "--size",
        "ddpm-tiny",
        "--crop",
        16,
        "--batch",
        8,
        "--train-steps",
        1,
        "--timesteps",
        12,
        "--device",
        "cpu",
    ]
    assert run("train", tiles, "-o", tmp_path / "first", *settings)[0] == 0
    assert run("export", tmp_path / "first", "-o", tmp_path / "model")[0] == 0
    goes_on = ["train", tiles, "-o", tmp_path / "second", *settings, "--init-from", tmp_path / "model"]
    assert run(*goes_on)[0] == 0
    check_refused(run(*goes_on, "--timesteps", 13, "-o", tmp_path / "third"), "differs from that of this run")
    check_refused(run(*goes_on, "--prediction", "v", "-o", tmp_path / "third"), "differs from that of this run")
    check_refused(
        run(*goes_on, "--conditioning", "scale-shift", "-o", tmp_path / "third"),
        "its architecture differs from that of size",
    )
    other = ["train", tiles, "-o", tmp_path / "fourth", *settings, "--init-from", tmp_path / "first"]
    check_refused(run(*other, "--prediction", "v"), "was trained with prediction = 'eps'")


def test_pictures_whose_sides_are_no_multiple_of_8(run: Run, tmp_path: Path) -> None:
    """A model of 28x28: calibrated on its own training pictures, bounded without padding, sampled at its size, coded."""
    usual = random_ddpm()
    model = write_folder(Published("odd", usual.unet, usual.weights, usual.process, 28), tmp_path / "odd")
    pictures = np.random.default_rng(4).integers(0, 256, (4, 28, 28, 3)).astype(np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    row = values_of(run("calibrate", model, tmp_path / "pictures.npy", "--limit", 2, "--json"))
    assert row["images"] == 2
    found = values_of(run("bpd", tmp_path / "pictures.npy", "--model", model, "--steps", 4, "--json"))
    assert (found["variance"], found["dims"]) == ("level", 4 * 28 * 28 * 3)
    opened = open_model(model)
    setting = opened.bound_setting(3, "dp", "level")
    x_0 = to_model_values(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)), torch.device("cpu"))
    direct = evaluate_bound(
        opened.bound_denoiser(torch.device("cpu"), "float32"),
        [x_0],
        setting.transform,
        setting.chain,
        setting.prior,
        variance=setting.variances,
    )
    assert found["total_bpd"] == pytest.approx(direct.mean_bpd, rel=1e-6)
    drawn = tmp_path / "drawn.npy"
    assert run("sample", "-o", drawn, "--model", model, "--steps", 3, "--count", 2)[0] == 0
    assert np.load(drawn).shape == (2, 28, 28, 3)
    Image.fromarray(pictures[0]).save(tmp_path / "one.png")
    assert run("encode", tmp_path / "one.png", "-o", tmp_path / "one.ddpm", "--model", model, "--verify")[0] == 0
