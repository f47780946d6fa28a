"""The loop: schedules, averages, logs, and a resume that changes nothing."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_codec.errors import InputError, ModelError, OutputError
from ddpm_codec.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.log import RunLog
from ddpm_codec.training.run import train
from ddpm_codec.training.task import Loss
from ddpm_codec.training.trainer import Trainer, learning_rate

Make = Callable[..., TrainConfig]
TIMES = {"images_per_second", "seconds", "preparing_share"}


def log_lines(config: TrainConfig) -> list[dict[str, Any]]:
    """Return the log without what depends on the clock."""
    lines = (Path(config.output) / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def assert_same_state(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.step == expected.step
    for name in ("weights", "ema"):
        left, right = getattr(found, name), getattr(expected, name)
        assert left.keys() == right.keys()
        assert all(torch.equal(value, right[key]) for key, value in left.items())
    assert found.optimizer is not None
    assert expected.optimizer is not None
    for key, state in expected.optimizer["state"].items():
        for name, value in state.items():
            other = found.optimizer["state"][key][name]
            assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Break the run off, as a kill would, when ``step`` steps are taken."""
    advance = Trainer.advance

    def broken(self: Trainer) -> None:
        if self.step == step:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(Trainer, "advance", broken)


def test_learning_rate() -> None:
    config = TrainConfig(lr=2.0, warmup=10, train_steps=100, decay=0.4)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:61] == [2.0] * 52
    assert rates[80] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(2.0 / 40)
    assert all(a <= b for a, b in itertools.pairwise(rates[:10]))
    assert all(a > b for a, b in itertools.pairwise(rates[60:]))
    flat = TrainConfig(lr=2.0, warmup=0, train_steps=100, decay=0.0)
    assert {learning_rate(flat, step) for step in range(100)} == {2.0}


def test_average_of_the_weights(tiny: Make) -> None:
    """It keeps step / (step + 9) of itself while that is below ``ema``, up to step 13 here, then ``ema``."""
    trainer = Trainer(tiny(ema=0.6), torch.device("cpu"), 0, 1)
    average, weights = (
        dict(network.named_parameters())["net.pixel_head.conv.weight"]
        for network in (trainer.average, trainer.denoiser)
    )
    kept = []
    for _ in range(15):
        before = average.detach().double().clone()
        trainer.advance()
        now = weights.detach().double()
        kept.append(((average.double() - now).norm() / (before - now).norm()).item())
        torch.testing.assert_close(average.double(), kept[-1] * before + (1.0 - kept[-1]) * now, rtol=1e-5, atol=1e-6)
    assert kept == pytest.approx([step / (step + 9) for step in range(1, 14)] + [0.6, 0.6], rel=1e-3)


def test_a_run_writes_weights_logs_and_its_configuration(tiny: Make) -> None:
    config = tiny(train_steps=60, log_every=10, lr=1e-2, output=tiny().output + "-é\x7f\U0001f600")
    path = train(config, progress=False)
    folder = Path(config.output)
    assert path == folder / "last.pt"
    assert load_checkpoint(path).step == 60
    assert TrainConfig.from_sources(folder / "config.toml", {}) == config
    lines = log_lines(config)
    assert [line["step"] for line in lines if "train_bpd" in line] == [10, 20, 30, 40, 50, 60]
    assert [line["step"] for line in lines if "validation_bpd" in line] == list(range(6, 61, 6))
    losses = [line["steps_bpd"] for line in lines if "steps_bpd" in line]
    bounds = [line["validation_bpd"] for line in lines if "validation_bpd" in line]
    assert losses[-1] < losses[0] - 1.0
    assert bounds[-1] < bounds[0] - 0.5
    assert math.isclose(lines[-2]["train_bpd"], lines[-2]["steps_bpd"] + lines[-2]["reconstruction_bpd"])
    pytest.importorskip("tensorboard")
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.parametrize(("kill", "log_every"), [(4, 3), (5, 3), (7, 4), (11, 100)])
def test_a_resumed_run_is_the_same_bit_for_bit(kill: int, log_every: int, tiny: Make, tmp_path: Path) -> None:
    """Killed at a checkpoint and between two, with lines of the log that reach over a checkpoint."""
    whole = tiny(output=str(tmp_path / "whole"), log_every=log_every)
    broken = tiny(output=str(tmp_path / "broken"), log_every=log_every)
    train(whole, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, kill)
        with pytest.raises(KeyboardInterrupt):
            train(broken, progress=False)
    with (tmp_path / "broken" / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "trai')
    train(broken, progress=False)
    assert_same_state(load_checkpoint(tmp_path / "broken"), load_checkpoint(tmp_path / "whole"))
    assert log_lines(broken) == log_lines(whole)


def test_a_finished_run_stays_as_it_is(tiny: Make) -> None:
    path = train(tiny(), progress=False)
    before, lines = path.read_bytes(), log_lines(tiny())
    train(tiny(), progress=False)
    assert path.read_bytes() == before
    assert log_lines(tiny()) == lines


def test_a_run_does_not_go_on_as_another_network(tiny: Make) -> None:
    path = train(tiny(train_steps=2), progress=False)
    for key, value in (("size", "base"), ("transform", "identity"), ("optimizer", "adamw")):
        with pytest.raises(ModelError, match=rf"\A[^\n]*last\.pt: was trained with {key} = [^\n]*{value}'\Z"):
            train(tiny(**{key: value}), progress=False)
    reduced = dataclasses.replace(load_checkpoint(path), weights=None, optimizer=None)
    save_checkpoint(reduced, path)
    with pytest.raises(ModelError, match="averaged weights only; start from it with init_from"):
        train(tiny(), progress=False)


def test_an_optimiser_state_that_does_not_fit(tiny: Make) -> None:
    path = train(tiny(train_steps=2), progress=False)
    saved = load_checkpoint(path)
    save_checkpoint(dataclasses.replace(saved, optimizer={"state": {}, "param_groups": []}), path)
    with pytest.raises(ModelError, match=r"\A[^\n]*last\.pt: the optimiser's state does not fit[^\n]*\Z"):
        train(tiny(), progress=False)


def test_init_from_takes_the_averaged_weights(tiny: Make, tmp_path: Path) -> None:
    first = train(tiny(train_steps=4), progress=False)
    config = tiny(init_from=str(first), output=str(tmp_path / "second"), train_steps=1, warmup=0, lr=1e-30)
    second = load_checkpoint(train(config, progress=False))
    expected = load_checkpoint(first).ema
    assert second.weights is not None
    for key, value in second.weights.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-7)
    with pytest.raises(ModelError, match="no such checkpoint"):
        train(tiny(init_from=str(tmp_path / "none.pt"), output=str(tmp_path / "third")), progress=False)


def test_a_run_without_validation_images(tiny: Make) -> None:
    config = tiny(holdout=0, train_steps=2)
    train(config, progress=False)
    assert not [line for line in log_lines(config) if "validation_bpd" in line]


def test_bad_runs_are_one_line(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="name a folder"):
        train(tiny(output=""), progress=False)
    with pytest.raises(InputError, match="no such file"):
        train(tiny(data="missing"), progress=False)
    with pytest.raises(InputError, match="smaller than the crop of 64"):
        train(tiny(crop=64), progress=False)
    with pytest.raises(OutputError, match=r"\A[^\n]*file: cannot write there[^\n]*\Z"):
        train(tiny(output=str(tmp_path / "file")), progress=False)
    with pytest.raises(InputError, match="batch = 8 does not divide over 3 processes"):
        Trainer(tiny(), torch.device("cpu"), 0, 3)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            train(tiny(device="cuda"), progress=False)


def test_the_parts_of_a_batch_are_the_batch(tiny: Make) -> None:
    """Two processes see, between them, the images, levels and noise of one."""
    whole = Trainer(tiny(), torch.device("cpu"), 0, 1)
    whole.step = 5
    batch = whole._batch()
    for rank in range(2):
        part = Trainer.__new__(Trainer)
        part.__dict__.update(whole.__dict__, rank=rank, world=2)
        own = part._batch()
        assert torch.equal(own.x_0, batch.x_0[rank::2])
        assert torch.equal(own.noise, batch.noise[rank::2])
        assert torch.equal(own.generator.get_state(), batch.generator.get_state())
        assert (own.rank, own.world) == (rank, 2)
    assert len({value.item() for value in batch.noise[:, 0, 0, 0]}) == 8


def test_the_log_drops_what_will_come_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, value=step / 2)
    log.close()
    with (tmp_path / "log.jsonl").open("ab") as stream:
        stream.write(b'[]\n{"step": "x"}\n\xff\n{"step": 1')
    log = RunLog(tmp_path, 2)
    log.write(3, value=np.float64(9.0))
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "value": 0.5}, {"step": 2, "value": 1.0}, {"step": 3, "value": 9.0}]


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"\A[^\n]*log\.jsonl: cannot write the log[^\n]*\Z"):
        RunLog(tmp_path)


def poison(monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Make the gradient of the given steps NaN in one entry."""
    backward = Trainer.backward

    def poisoned(self: Trainer) -> Loss:
        loss = backward(self)
        if self.step in steps:
            gradient = self.denoiser.get_parameter("net.stem.conv.weight").grad
            assert gradient is not None
            gradient[3, 0, 1, 1] = math.nan
        return loss

    monkeypatch.setattr(Trainer, "backward", poisoned)


def test_a_step_without_a_finite_gradient_is_left_out(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One NaN would otherwise stay in every weight and overwrite the last good checkpoint."""
    poison(monkeypatch, range(3, 7))
    path = train(tiny(), progress=False)
    saved = load_checkpoint(path)
    assert saved.weights is not None
    assert saved.step == 12
    assert all(torch.isfinite(value).all() for value in [*saved.weights.values(), *saved.ema.values()])
    lines = [line for line in log_lines(tiny()) if "validation_bpd" not in line]
    assert [(line["step"], "train_bpd" in line) for line in lines] == [(3, True), (6, False), (9, True), (12, True)]
    assert all(math.isfinite(line["train_bpd"]) for line in lines if "train_bpd" in line)


def test_a_run_that_diverged_stops_and_keeps_its_last_checkpoint(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, range(5, 1000))
    with pytest.raises(ModelError, match=r"\Atraining diverged at step 25: no finite gradient for 20 steps[^\n]*\Z"):
        train(tiny(train_steps=40, checkpoint_every=100), progress=False)
    # Written before the first validation, at step 6.
    assert load_checkpoint(Path(tiny().output)).step == 5


def test_weights_that_are_not_finite_are_not_gone_on_from(tiny: Make) -> None:
    path = train(tiny(train_steps=2), progress=False)
    saved = load_checkpoint(path)
    saved.ema["net.stem.conv.bias"][0] = math.nan
    save_checkpoint(saved, path)
    with pytest.raises(ModelError, match=r"last\.pt: weight 'net\.stem\.conv\.bias' is not finite"):
        train(tiny(), progress=False)


@pytest.mark.parametrize("values", [{"dtype": "bf16"}, {"transform": "identity"}, {"optimizer": "adamw"}])
def test_other_runs(values: dict[str, str], tiny: Make) -> None:
    config = tiny(**values, train_steps=3)
    train(config, progress=False)
    figures = [line["train_bpd"] if "train_bpd" in line else line["validation_bpd"] for line in log_lines(config)]
    assert len(figures) == 2
    assert all(0.0 < figure < 20.0 for figure in figures)


def test_the_progress_bar_shows_rate_and_bits(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny(train_steps=3))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "bits/dim" in captured.err
    assert "images/s" in captured.err
