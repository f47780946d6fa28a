"""Pixel decoders on the command line: from a run to a bound, for every kind of model, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.chain import Chain
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.diffusion.measurement import draw_noise, image_generators
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.diffusion.pixel_likelihood import PixelParameters, TrunkMaps
from ddpm_codec.diffusion.prediction import Prediction
from ddpm_codec.diffusion.prior import PriorModel
from ddpm_codec.diffusion.transform import colour_frequency_8x8
from ddpm_codec.models.pixel_decoder_model import load_pixel_decoder
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.run import train
from tests.ddpm_folders import random_ddpm, write_folder
from tests.golden.regenerate import EXACT, FLOAT
from tests.helpers import PHOTO, Run


@pytest.fixture
def decoder(run: Run, tiles: Path, tmp_path: Path) -> Path:
    config = TrainConfig(
        data=(str(tiles),),
        output=str(tmp_path / "run"),
        size="decoder-tiny",
        crossings=(8.2, 20.0),
        crop=32,
        batch=4,
        train_steps=6,
        dtype="float32",
    )
    train(config, progress=False)
    output = tmp_path / "decoder.safetensors"
    code, out, err = run("export", tmp_path / "run", "-o", output, "--float", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["crossings"] == [8.2, 20.0]
    return output


def values_of(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert (code, err, out.count("\n")) == (0, "", 1)
    values: dict[str, Any] = json.loads(out)
    return values


@pytest.mark.parametrize("model", ["float", "exact", "ddpm"])
def test_the_bound_with_a_decoder(model: str, run: Run, tiles: Path, decoder: Path, tmp_path: Path) -> None:
    denoiser = {"float": FLOAT, "exact": EXACT}.get(model) or write_folder(random_ddpm(), tmp_path / "ddpm")
    words = ("bpd", tiles, "--model", denoiser, "--decoder", decoder, "--json")
    values = values_of(run(*words, "--steps", 4))
    terms = [values["prior_bpd"], *values["diffusion_bpd"], values["reconstruction_bpd"]]
    assert sum(terms) == pytest.approx(values["total_bpd"], rel=1e-9)
    assert min(terms[1:]) > 0
    assert values["log_snr"][0] == pytest.approx(log_snr_at(8.2), rel=1e-12)
    assert (values["crossing"], values["decoder"]) == (8.2, "decoder")
    assert values["steps"] == 4
    assert values["evaluations"] == len(values["diffusion_bpd"]) == (3 if model == "ddpm" else 4)
    assert values["mean_rmse"] > 0
    higher = values_of(run(*words, "--steps", 4, "--crossing", 20))
    assert higher["log_snr"][0] == pytest.approx(log_snr_at(20), rel=1e-12)
    assert higher["reconstruction_bpd"] > values["reconstruction_bpd"]
    assert higher["mean_rmse"] > values["mean_rmse"]
    even = values_of(run(*words, "--steps", 4, "--schedule", "even"))
    assert even["log_snr"][0] == values["log_snr"][0]
    assert even["reconstruction_bpd"] == pytest.approx(values["reconstruction_bpd"], rel=1e-9)
    default = values_of(run(*words, "--limit", 2))
    assert default["evaluations"] == len(default["diffusion_bpd"]) > 1
    again = values_of(run(*words, "--steps", 4, "--batch", 5))
    assert again["total_bpd"] == pytest.approx(values["total_bpd"], rel=1e-3)


def test_the_last_message_is_the_decoders_likelihood(run: Run, tiles: Path, decoder: Path) -> None:
    """L_0 and the error of m_0 again, from the network alone."""
    values = values_of(run("bpd", tiles, "--model", FLOAT, "--decoder", decoder, "--steps", 2, "--limit", 3, "--json"))
    network = load_pixel_decoder(decoder).network(torch.device("cpu"))
    x_0 = to_model_values(np.load(tiles)[:3].transpose(0, 3, 1, 2), torch.device("cpu"))
    level = log_snr_at(8.2)
    noise = draw_noise(x_0, image_generators(0, 0, 3))
    parameters, maps = network.parameters_given(x_0 + np.exp(-0.5 * level) * noise, torch.full((3,), level), x_0)
    bits = -parameters.log_likelihood(x_0, torch.float64).mean().item() / np.log(2)
    assert values["decoder_dtype"] == "float32"
    assert values["reconstruction_bpd"] == pytest.approx(bits, rel=1e-5)
    rmse = 127.5 * (x_0 - maps.mean).double().square().mean().sqrt().item()
    assert values["mean_rmse"] == pytest.approx(rmse, rel=1e-5)


def test_pictures_of_any_size_and_the_error_of_their_own_pixels(run: Run, decoder: Path, tmp_path: Path) -> None:
    """With W the identity nothing else pads: a picture of 33x35 is one of 36x36 whose last rows are repeated."""
    picture = np.asarray(Image.open(PHOTO).convert("RGB"))[:33, :35]
    padded = np.pad(picture, ((0, 3), (0, 1), (0, 0)), mode="edge")
    found = {}
    for name, pixels in (("own", picture), ("padded", padded)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "x.png")
        ddpm = tmp_path / "ddpm"
        ddpm = ddpm if ddpm.exists() else write_folder(random_ddpm(), ddpm)
        words = ("--decoder", decoder, "--steps", 3, "--variance", "predicted", "--json")
        found[name] = values_of(run("bpd", tmp_path / name, "--model", ddpm, *words))
    own, other = found["own"], found["padded"]
    assert (own["dims"], other["dims"]) == (33 * 35 * 3, 36 * 36 * 3)
    assert own["reconstruction_bpd"] == pytest.approx(other["reconstruction_bpd"] * 36 * 36 / (33 * 35), rel=1e-6)
    assert own["mean_rmse"] == pytest.approx(other["mean_rmse"], rel=1e-6)


def test_a_calibrated_ddpm_has_its_levels_chosen_above_the_crossing(
    run: Run, tiles: Path, decoder: Path, tmp_path: Path
) -> None:
    ddpm = write_folder(random_ddpm(), tmp_path / "ddpm")
    assert run("calibrate", ddpm, tiles, "--limit", 4)[0] == 0
    words = ("bpd", tiles, "--model", ddpm, "--decoder", decoder, "--limit", 2, "--steps", 5, "--json")
    chosen, even = values_of(run(*words)), values_of(run(*words, "--schedule", "even"))
    assert (chosen["schedule"], chosen["variance"], even["schedule"]) == ("dp", "class", "even")
    for values in (chosen, even):
        assert values["log_snr"][0] == pytest.approx(log_snr_at(8.2), rel=1e-12)
        assert len(values["log_snr"]) == values["evaluations"] + 1 == 5
        assert list(values["log_snr"]) == sorted(values["log_snr"], reverse=True)
    assert sum(chosen["diffusion_bpd"]) + chosen["prior_bpd"] < sum(even["diffusion_bpd"]) + even["prior_bpd"]


class Known:
    """Independent sub-pixels whose p(x_0 | z_0) is N(z_0 / 2, 1/16), whatever came before."""

    def trunk(self, z_0: torch.Tensor, log_snr: torch.Tensor) -> TrunkMaps:
        return TrunkMaps(0.5 * z_0, z_0, torch.ones(len(log_snr), 1, 1, 1))

    def parameters_given(
        self, z_0: torch.Tensor, log_snr: torch.Tensor, x_0: torch.Tensor
    ) -> tuple[PixelParameters, TrunkMaps]:
        maps = self.trunk(z_0, log_snr)
        return PixelParameters(maps.mean, torch.full_like(x_0, np.log(1 / 16))), maps


def test_a_known_likelihood_gives_its_cross_entropy() -> None:
    """With a decoder the denoiser is asked at the other levels alone, and L_0 is E -ln N(x_0; z_0 / 2, 1/16) bins."""
    asked = []

    def denoiser(x_t: torch.Tensor, log_snr: torch.Tensor) -> Prediction:
        asked.append(log_snr[0].item())
        zero = torch.zeros_like(x_t)
        return Prediction(zero, torch.zeros(len(x_t), 192, *(side // 8 for side in x_t.shape[2:])), zero)

    rng = np.random.default_rng(0)
    greys = np.clip(np.rint(rng.normal(127.5, 20, (16, 3, 32, 32))), 0, 255).astype(np.uint8)
    x_0 = to_model_values(greys, torch.device("cpu"))
    level = log_snr_at(20)
    prior = PriorModel.standard(192)
    terms = evaluate_bound(denoiser, [x_0], colour_frequency_8x8(), Chain((level, 1.0, -1.0)), prior, decoder=Known())
    assert asked == [1.0, -1.0]
    # z = x + sigma eps with x of variance s^2: the error x - z / 2 has variance (s^2 + sigma^2) / 4.
    error = ((20 / 127.5) ** 2 + x_0.double().var().item()) / 4
    nats = 0.5 * (np.log(2 * np.pi / 16) + error * 16) - np.log(1 / 127.5)
    assert terms.reconstruction_bpd.mean() == pytest.approx(nats / np.log(2), abs=0.01)
    assert np.sqrt((terms.mean_rmse**2).mean()) == pytest.approx(127.5 * np.sqrt(error), rel=0.01)


def check_refused(result: tuple[int, str, str], code: int, words: str) -> None:
    found, out, err = result
    assert (found, out) == (code, "")
    assert words in err
    if code == 1:
        assert err.count("\n") == 1


def test_what_is_refused(run: Run, tiles: Path, decoder: Path, tmp_path: Path) -> None:
    check_refused(run("bpd", tiles, "--model", decoder), 1, "is a pixel decoder, not a denoiser")
    check_refused(run("bpd", tiles, "--decoder", FLOAT), 1, "is a denoiser, not a pixel decoder")
    check_refused(run("bpd", tiles, "--decoder", tmp_path / "none"), 1, "none: cannot read the model")
    check_refused(
        run("bpd", tiles, "--crossing", 8.2, "--model", FLOAT),
        1,
        "crossing 8.2: model tiny-float has no pixel decoder, so no crossing",
    )
    check_refused(run("bpd", tiles, "--decoder", decoder, "--crossing", 5), 1, "was trained at 8.2, 20 grey levels")
    check_refused(
        run("bpd", tiles, "--model", FLOAT, "--decoder", decoder, "--steps", 500), 1, "cannot choose 500 steps"
    )
    (tmp_path / "text").write_text("no model at all")
    check_refused(run("bpd", tiles, "--decoder", tmp_path / "text"), 1, "text: not a model file")
    source = tmp_path / "run"
    check_refused(run("export", source, "-o", decoder, "--float"), 1, "exists")
    assert run("export", source, "-o", decoder, "--float", "--overwrite")[0] == 0
    check_refused(
        run("export", source, "-o", tmp_path / "x.safetensors"), 2, "an exact pixel decoder is part of a model"
    )
    check_refused(
        run("export", source, "-o", tmp_path / "x.safetensors", "--float", "--steps", 3),
        2,
        "--steps is only for denoisers",
    )
    assert not (tmp_path / "x.safetensors").exists()
    tiles_coded = run("encode", tiles.parent / "none.png", "-o", tmp_path / "x.ddpm", "--model", decoder)
    assert tiles_coded[0] == 1
    assert tiles_coded[2].count("\n") == 1
