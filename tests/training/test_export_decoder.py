"""export --decoder: two checkpoints become one exact model, whose figures are those of its bound."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.evaluation import bound_of
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.model_file import load_model, model_bytes
from ddpm_codec.training.checkpoint import load_checkpoint, save_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.export import export_model
from ddpm_codec.training.export_checkpoint import export_checkpoint
from ddpm_codec.training.export_options import ExportOptions
from ddpm_codec.training.freezing import GRID, candidate_levels
from tests.helpers import Run
from tests.training.conftest import trained, use_few_crops

Make = Callable[..., TrainConfig]
CROSSINGS = [3.2, 20.0]


@pytest.fixture(scope="session")
def denoiser(shared: Make) -> Path:
    """A run that trained noisy levels alone."""
    noisy = {"log_snr_max": 7.37, "log_snr_min": -2.5, "clean_share": 0.0, "clean_weight": 0.0}
    return trained(shared(output=shared().output + "-noisy", train_steps=4, **noisy))


def decoder_run(shared: Make, *, quantize: bool) -> Path:
    output = shared().output + f"-decoder-{quantize}"
    values = {"size": "decoder-tiny", "crossings": CROSSINGS, "train_steps": 3, "quantize": quantize}
    return trained(shared(output=output, **values))


@pytest.fixture(scope="session")
def decoder(shared: Make) -> Path:
    return decoder_run(shared, quantize=False)


@pytest.fixture(scope="session")
def rounded_decoder(shared: Make) -> Path:
    return decoder_run(shared, quantize=True)


@pytest.fixture(scope="session", params=["decoder", "rounded_decoder"])
def exported(
    denoiser: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FrozenModel, Path]:
    decoder = request.getfixturevalue(request.param)
    path = tmp_path_factory.mktemp("exported") / "both.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        use_few_crops(patch)
        return export_model(denoiser, path, ExportOptions("both", decoder=decoder, limit=4)), path


def test_one_file_holds_both(exported: tuple[FrozenModel, Path], denoiser: Path) -> None:
    model, path = exported
    assert path.read_bytes() == model_bytes(model) == model_bytes(load_model(path))
    assert model.decoder is not None
    assert model.decoder.levels == len(CROSSINGS)
    assert model.crossings == tuple(CROSSINGS)
    assert sorted(model.sigmas) == [(c, k) for c in (0, 1) for k in range(1, 17)]
    assert model.grid_log_snr.shape == (GRID,)
    assert model.grid_log_snr[0] < log_snr_at(CROSSINGS[0])
    assert model.grid_log_snr[-1] == load_checkpoint(denoiser).config.log_snr_min
    for (crossing, steps), sigmas in model.sigmas.items():
        assert sigmas[0] * 127.5 == pytest.approx(CROSSINGS[crossing], rel=1e-12)
        rows = list(model.rows[crossing, steps])
        np.testing.assert_allclose(-2.0 * np.log(sigmas[1:]), model.grid_log_snr[rows], rtol=1e-9)


def test_what_it_chose_is_best_and_recorded(exported: tuple[FrozenModel, Path], shared: Make) -> None:
    """Its figures of L_0 are those of the bound, on other noise; the defaults are no worse than others of their length."""
    model, _ = exported
    assert 1 <= model.default_steps <= 4
    assert model.progressive_steps is not None
    found = model.training["measured"]
    assert found["crossings"] == CROSSINGS
    assert found["progressive_bpd"] > found["bound_bpd"] - 1e-9
    assert {"steps", "quantize", "crop"} <= model.training["decoder"].keys()
    pictures = list(np.load(shared().data[0])[:, :16, :16])
    for index, grey_levels in enumerate(CROSSINGS):
        report = bound_of(pictures, model, crossing=grey_levels, steps=1, device="cpu")
        assert report.reconstruction_bpd.mean() == pytest.approx(found["decoder_bpd"][index], rel=0.05)
    own = bound_of(pictures, model, device="cpu").mean_bpd
    assert own == pytest.approx(found["bound_bpd"], rel=0.05)


def test_chains_can_be_asked_for(denoiser: Path, decoder: Path, few_crops: None, tmp_path: Path) -> None:
    options = ExportOptions(
        "m", decoder=decoder, limit=2, crossing=20.0, steps=3, progressive_crossing=3.2, progressive_steps=6
    )
    model = export_model(denoiser, tmp_path / "m.safetensors", options)
    assert (model.default_crossing, model.default_steps) == (1, 3)
    assert (model.progressive_crossing, model.progressive_steps) == (0, 6)


def test_candidate_levels(shared: Make) -> None:
    config = shared()
    crossing = log_snr_at(3.2)
    above, all_levels = candidate_levels(config, crossing), candidate_levels(config)
    assert above.shape == all_levels.shape == (GRID,)
    assert above[0] == pytest.approx(crossing - (crossing - config.log_snr_min) / GRID)
    assert all_levels[0] > config.log_snr_max
    # A run that never saw a level as clean as the crossing begins where it began.
    late = replace(config, log_snr_max=3.0, clean_share=0.0)
    assert candidate_levels(late, crossing)[0] == 3.0
    with pytest.raises(InputError, match="no level is noisier"):
        candidate_levels(config, config.log_snr_min - 0.1)


def test_checkpoints_without_data(denoiser: Path, decoder: Path, few_crops: None, shared: Make, tmp_path: Path) -> None:
    """Averages alone, as a repository keeps them."""
    for source, name in ((denoiser, "d.pt"), (decoder, "p.pt")):
        export_checkpoint(source, tmp_path / name)
    options = ExportOptions("m", decoder=tmp_path / "p.pt", limit=2)
    with pytest.raises(InputError, match="does not name its training images"):
        export_model(tmp_path / "d.pt", tmp_path / "m.safetensors", options)
    model = export_model(tmp_path / "d.pt", tmp_path / "m.safetensors", replace(options, data=shared().data))
    assert model.crossings == tuple(CROSSINGS)


def test_what_is_refused(denoiser: Path, decoder: Path, run: Run, tmp_path: Path) -> None:
    output = tmp_path / "x.safetensors"
    for words, code, cause in (
        ((denoiser, "--decoder", denoiser), 1, "is a codec network, not a pixel decoder"),
        ((denoiser, "--decoder", tmp_path / "none"), 1, "none: no such checkpoint"),
        ((denoiser, "--decoder", decoder, "--float"), 1, "a model with a pixel decoder is exact"),
        ((denoiser, "--decoder", decoder, "--steps", 17), 1, "steps = 17: must be between 1 and 16"),
        ((denoiser, "--crossing", 8.2), 1, "crossing = 8.2: needs a pixel decoder"),
        ((denoiser, "--progressive-steps", 8), 1, "progressive steps = 8: needs a pixel decoder"),
        ((decoder, "--decoder", decoder), 2, "--decoder is only for denoisers"),
    ):
        found, out, err = run("export", words[0], "-o", output, *words[1:])
        assert (found, out) == (code, "")
        assert cause in err
        assert code == 2 or err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_crossing_that_the_decoder_lacks(denoiser: Path, decoder: Path, few_crops: None, tmp_path: Path) -> None:
    options = ExportOptions("m", decoder=decoder, limit=1, crossing=8.2)
    with pytest.raises(InputError, match=r"\Acrossing 8.2: [^\n]* was trained at 3.2, 20 grey levels\Z"):
        export_model(denoiser, tmp_path / "m.safetensors", options)


def test_on_the_command_line(denoiser: Path, decoder: Path, few_crops: None, run: Run, tmp_path: Path) -> None:
    output = tmp_path / "own.safetensors"
    code, out, _ = run("export", denoiser, "-o", output, "--decoder", decoder, "--limit", 2, "--steps", 2, "--json")
    assert code == 0
    row = json.loads(out)
    assert (row["name"], row["steps"], row["crossings"]) == ("own", 2, CROSSINGS)
    assert row["decoder_macs_per_pixel"] > 0


def test_a_decoder_with_broken_weights(denoiser: Path, decoder: Path, few_crops: None, tmp_path: Path) -> None:
    saved = load_checkpoint(decoder)
    saved.ema["parameter_head.conv.weight"] = torch.zeros(3, 3)
    save_checkpoint(saved, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match=r"\A[^\n]*bad\.pt[^\n]*parameter_head[^\n]*\Z"):
        export_model(denoiser, tmp_path / "m.safetensors", ExportOptions("m", decoder=tmp_path / "bad.pt", limit=1))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]
