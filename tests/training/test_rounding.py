"""Runs with rounding: what they may begin from and go on with, and that one that could not be exported does not begin."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_codec.errors import ModelError
from ddpm_codec.nn.denoiser import CodecDenoiser
from ddpm_codec.nn.exact.freeze import freeze
from ddpm_codec.training import codec_task
from ddpm_codec.training.calibration import calibrate, measure_reach, run_at_levels
from ddpm_codec.training.checkpoint import load_checkpoint, save_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.rounding import begin_rounding
from ddpm_codec.training.run import train
from tests.training.unfit import UNFIT, make_unfit

Make = Callable[..., TrainConfig]

pytestmark = pytest.mark.usefixtures("few_crops")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the preparations of runs with rounding, as they happen."""
    made: list[str] = []

    def watch(name: str) -> None:
        original = getattr(codec_task, name)

        def noted(*args: object) -> object:
            made.append(name)
            return original(*args)

        monkeypatch.setattr(codec_task, name, noted)

    watch("calibrate_on")
    watch("check_freezes")
    return made


def test_a_run_begins_with_a_calibration_and_a_trial_and_resumes_with_neither(tiny: Make, calls: list[str]) -> None:
    train(tiny(quantize=True, train_steps=2), progress=False)
    assert calls == ["calibrate_on", "check_freezes"]
    train(tiny(quantize=True, train_steps=3), progress=False)
    assert calls == ["calibrate_on", "check_freezes"]


def test_rounding_starts_from_float_with_a_calibration_and_from_rounding_with_that_of_the_checkpoint(
    tiny: Make, float_run: Path, rounded_run: Path, tmp_path: Path, calls: list[str]
) -> None:
    assert not load_checkpoint(float_run).ema["net.outer_offset"].any()
    values = {"quantize": True, "train_steps": 1}
    train(tiny(**values, init_from=str(float_run)), progress=False)
    assert calls == ["calibrate_on", "check_freezes"]
    other = train(tiny(**values, init_from=str(rounded_run), output=str(tmp_path / "other"), seed=5), progress=False)
    assert calls == ["calibrate_on", "check_freezes", "check_freezes"]
    before, after = load_checkpoint(rounded_run).ema, load_checkpoint(other).ema
    assert all(torch.equal(after[key], before[key]) for key in before if key.endswith(("step", "wide", "offset")))


@pytest.mark.parametrize("quantize", [False, True])
def test_a_run_does_not_go_on_with_rounding_begun_or_ended(
    quantize: bool, tiny: Make, float_run: Path, rounded_run: Path
) -> None:
    path = rounded_run if quantize else float_run
    before = path.read_bytes()
    cause = rf"was trained with quantize = {quantize}, this run has quantize = {not quantize}"
    with pytest.raises(ModelError, match=rf"\A[^\n]*last\.pt: {cause}\Z"):
        train(tiny(quantize=not quantize, train_steps=14, output=str(path.parent)), progress=False)
    assert path.read_bytes() == before
    assert TrainConfig.from_sources(path.with_name("config.toml"), {}).quantize == quantize


def test_weights_of_rounding_do_not_start_a_run_without(tiny: Make, rounded_run: Path) -> None:
    config = tiny(init_from=str(rounded_run))
    with pytest.raises(ModelError, match=r"\A[^\n]*last\.pt: was trained with rounding, [^\n]*set quantize\Z"):
        train(config, progress=False)
    assert not Path(config.output).exists()


def test_the_average_begins_with_the_rounded_weights_and_later_keeps_its_own(alive: CodecDenoiser) -> None:
    net = alive.net
    average = copy.deepcopy(net)

    def calibrate() -> None:
        if not net.calibrated:
            for stream in net.streams():
                net.get_buffer(f"{stream}_offset").fill_(64.0)
            net.stem.conv.weight.mul_(1.01)

    begin_rounding(net, average, calibrate)
    assert average.calibrated
    assert torch.equal(average.stem.conv.weight, net.stem.conv.weight)
    net.stem.conv.weight.mul_(1.01)
    kept = average.stem.conv.weight.clone()
    begin_rounding(net, average, calibrate)
    assert torch.equal(average.stem.conv.weight, kept)


def test_a_network_that_cannot_be_exported_is_not_trained_with_rounding(
    tiny: Make, float_run: Path, tmp_path: Path
) -> None:
    saved = load_checkpoint(float_run)
    make_unfit(saved.ema)
    save_checkpoint(dataclasses.replace(saved, weights=None, optimizer=None), tmp_path / "bad.pt")
    config = tiny(quantize=True, init_from=str(tmp_path / "bad.pt"))
    with pytest.raises(ModelError, match=rf"\A{UNFIT}\Z"):
        train(config, progress=False)
    assert not Path(config.output).exists()


def test_activations_of_any_size_fit_into_integers(alive: CodecDenoiser) -> None:
    """Large ones have few integers between 0 and 4, and an even number of them may be the next larger one."""
    first, second = alive.net.variance_first.conv, alive.net.variance_second.conv
    sizes = torch.logspace(4.0, 6.0, len(first.weight))
    first.weight.mul_(sizes[:, None, None, None])
    second.weight.div_(sizes[:, None, None])
    generator, levels = torch.Generator().manual_seed(0), torch.tensor([8.0, 2.0, -2.0])
    x_0 = torch.rand((6, 3, 16, 16), generator=generator) - 0.5
    calibrate(alive, x_0, levels, lambda: 0.0)
    reach = measure_reach(alive.net, lambda: run_at_levels(alive, x_0, levels))
    frozen = freeze(alive, levels.double().numpy(), reach)
    assert frozen.layers["variance_second"].reading.half.min() < 50
