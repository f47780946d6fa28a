"""Training of a pixel decoder: what it descends, where it starts, that it resumes exactly, forks."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_codec.device import preferred_dtype
from ddpm_codec.diffusion.crossing import log_snr_at
from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.models import find_model
from ddpm_codec.models.opening import open_model
from ddpm_codec.nn.pixel_decoder import PixelDecoder
from ddpm_codec.training.checkpoint import Checkpoint, build_denoiser, load_checkpoint, load_weights, save_checkpoint
from ddpm_codec.training.config import CROSSINGS, TrainConfig
from ddpm_codec.training.export_checkpoint import export_checkpoint
from ddpm_codec.training.objective import draw_levels
from ddpm_codec.training.pixel_decoder_task import PixelDecoderTask
from ddpm_codec.training.run import forked_config, train
from ddpm_codec.training.task import Batch
from ddpm_codec.training.trainer import Trainer, learning_rate
from ddpm_codec_cli.main import main
from tests.training.test_run import assert_same_state, log_lines, stop_at

Make = Callable[..., TrainConfig]


@pytest.fixture
def decoder(tiny: Make) -> Make:
    def make(**values: Any) -> TrainConfig:  # noqa: ANN401
        return tiny(**({"size": "decoder-tiny", "crossings": [3.2, 20.0]} | values))

    return make


def batch_of(config: TrainConfig, world: int = 1, rank: int = 0) -> Batch:
    x_0 = torch.randint(0, 256, (config.batch, 3, 16, 16), generator=torch.Generator().manual_seed(1)) / 127.5 - 1.0
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(2))
    return Batch(x_0[rank::world], noise[rank::world], torch.Generator().manual_seed(3), rank, world)


def test_a_run_learns_and_logs_every_crossing(decoder: Make) -> None:
    config = decoder(train_steps=80, log_every=20, validate_every=40, lr=2e-2, warmup=10)
    train(config, progress=False)
    lines = log_lines(config)
    losses = [line["train_bpd"] for line in lines if "train_bpd" in line]
    checks = [line for line in lines if "validation_bpd" in line]
    assert losses[-1] < losses[0] - 0.1
    assert [line["step"] for line in checks] == [40, 80]
    for line in checks:
        assert line["validation_bpd"] == pytest.approx((line["crossing_3.2_bpd"] + line["crossing_20_bpd"]) / 2)
        assert 0 < line["crossing_3.2_mse"] < line["crossing_20_mse"]
    logged = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    assert all(0 < line["preparing_share"] < 1 for line in logged if "train_bpd" in line)


def test_the_loss_is_likelihood_and_squared_error(decoder: Make) -> None:
    """From the formulas, at the levels of the crossings, each of which comes equally often."""
    config = decoder(mean_weight=0.4)
    task = PixelDecoderTask(config)
    network = task.build(torch.device("cpu"))
    assert isinstance(network, PixelDecoder)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)))
    levels: list[torch.Tensor] = []

    def forward(z_0: torch.Tensor, log_snr: torch.Tensor, x_0: torch.Tensor) -> Any:  # noqa: ANN401
        levels.append(log_snr)
        return network(z_0, log_snr, x_0)

    batch = batch_of(config)
    loss = task.loss(forward, batch)
    found = sorted({round(value, 4) for value in levels[0].tolist()})
    assert found == sorted(round(log_snr_at(grey), 4) for grey in (3.2, 20.0))
    assert levels[0].tolist().count(levels[0][0].item()) == config.batch // 2
    sigma = torch.exp(-0.5 * levels[0])[:, None, None, None]
    parameters, maps = network(batch.x_0 + sigma * batch.noise, levels[0], batch.x_0)
    log_p = parameters.log_likelihood(batch.x_0, torch.float64)
    mse = (batch.x_0 - maps.mean).square().mean(dim=(1, 2, 3))
    same = levels[0][:, None] == levels[0]
    # At the first step the running mean at a crossing is that of the batch.
    auxiliary = 0.5 * (mse / ((same * mse).sum(dim=1) / same.sum(dim=1))).mean()
    expected = (-log_p.mean() + 0.4 * auxiliary) / math.log(2)
    torch.testing.assert_close(loss.total.double(), expected.double(), rtol=1e-4, atol=1e-5)
    assert task.figures((loss.parts[0].item(), loss.parts[1].item()))["mean_rmse"] == pytest.approx(
        127.5 * (batch.x_0 - maps.mean).square().mean().sqrt().item(), rel=1e-4
    )


def test_the_variance_of_the_mean_is_that_of_earlier_steps(decoder: Make) -> None:
    task = PixelDecoderTask(decoder(batch=2))
    log_snr = task.log_snr.clone()
    batch = batch_of(decoder(batch=2))
    assert task._variances(log_snr, torch.tensor([4.0, 9.0]), batch).tolist() == [4.0, 9.0]
    assert task._variances(log_snr, torch.tensor([40.0, 9.0]), batch).tolist() == [4.0, 9.0]
    assert task._variances(log_snr, torch.tensor([4.0, 9.0]), batch).tolist() == pytest.approx([4.72, 9.0])
    # A crossing that a batch does not have keeps its own, and one without a finite error as well.
    assert task._variances(log_snr[1:], torch.tensor([9.0]), batch).tolist() == [9.0]
    kept = task.state()["squares"].clone()
    task._variances(log_snr, torch.tensor([math.nan, 9.0]), batch)
    assert task.state()["squares"][0] == kept[0]
    other = PixelDecoderTask(decoder(batch=2))
    other.load_state(task.state())
    assert torch.equal(other.state()["squares"], task.state()["squares"])
    other.load_state({})
    assert not other.state()["squares"].any()
    with pytest.raises(ModelError, match="those of other crossings"):
        other.load_state({"squares": torch.ones(3)})


def test_the_mean_is_the_posterior_mean_where_that_is_not_a_mode() -> None:
    """Pictures of x = +-0.1 that z tells nothing about: the term on m_0 alone is least at 0, not at one of the two."""
    config = TrainConfig(size="decoder-tiny", crossings=(20.0,), crop=16, batch=64, dtype="float32", mean_weight=1e6)
    task = PixelDecoderTask(config)
    signs = 2.0 * torch.randint(0, 2, (64, 1, 1, 1), generator=torch.Generator().manual_seed(0)) - 1.0
    x_0 = (torch.round((0.1 * signs + 1.0) * 127.5) / 127.5 - 1.0).expand(64, 3, 16, 16).contiguous()
    batch = Batch(x_0, torch.zeros_like(x_0), torch.Generator().manual_seed(0), 0, 1)
    losses = []
    for value in (0.0, 0.05, 0.1):
        network = task.build(torch.device("cpu"))

        def forward(z_0: torch.Tensor, log_snr: torch.Tensor, x: torch.Tensor, value: float = value) -> Any:  # noqa: ANN401
            parameters, maps = network(z_0, log_snr, x)  # noqa: B023 - called in the same turn
            return parameters, dataclasses.replace(maps, mean=torch.full_like(x, value))

        task.load_state({"squares": torch.tensor([0.01], dtype=torch.float64)})
        losses.append(task.loss(forward, batch).total.item())
    assert losses == sorted(losses)


def fixed(self: PixelDecoderTask, log_snr: torch.Tensor, squares: torch.Tensor, batch: Batch) -> torch.Tensor:
    return torch.tensor([1e-3, 4e-3])[(log_snr[:, None] == self.log_snr).int().argmax(dim=1)]


def test_parts_of_a_batch_make_the_whole(decoder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = decoder()
    task = PixelDecoderTask(config)
    network = task.build(torch.device("cpu"))
    task.load_state({"squares": torch.tensor([1e-3, 4e-3], dtype=torch.float64)})
    whole = task.loss(network, batch_of(config)).total
    # A process alone cannot gather what the others have, so each begins with the same running means.
    monkeypatch.setattr(PixelDecoderTask, "_variances", fixed)
    parts = [task.loss(network, batch_of(config, world=2, rank=rank)).total for rank in range(2)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_a_resumed_run_is_the_same_bit_for_bit(decoder: Make, tmp_path: Path) -> None:
    values = {"augment": 0.7, "augment_vertical_flip": 0.5, "validate_every": 5}
    whole, broken = (decoder(output=str(tmp_path / name), **values) for name in ("whole", "broken"))
    train(whole, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            train(broken, progress=False)
    train(broken, progress=False)
    assert_same_state(load_checkpoint(tmp_path / "broken"), load_checkpoint(tmp_path / "whole"))
    assert log_lines(broken) == log_lines(whole)


def test_a_fork_goes_on_as_the_run_does_until_its_schedule_differs(decoder: Make, tmp_path: Path) -> None:
    run = decoder(train_steps=100, decay=0.0)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            train(run, progress=False)
    assert load_checkpoint(Path(run.output)).step == 8
    same = forked_config(Path(run.output), {"output": str(tmp_path / "same"), "train_steps": 12})
    falling = forked_config(Path(run.output), {"output": str(tmp_path / "falling"), "train_steps": 12, "decay": 0.3})
    assert dataclasses.replace(same, train_steps=100, output=run.output, fork_from="") == run
    assert learning_rate(same, 11) == run.lr
    assert learning_rate(falling, 11) < run.lr / 3
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            train(same, progress=False)
    assert load_checkpoint(tmp_path / "same").step == 8, "a fork keeps where it began, before its first step"
    for config in (same, falling):
        train(config, progress=False)
    assert load_checkpoint(Path(run.output)).step == 8, "the run itself is as it was"
    train(dataclasses.replace(run, train_steps=12), progress=False)
    went_on, forked, decayed = (load_checkpoint(Path(config.output)) for config in (run, same, falling))
    assert_same_state(forked, went_on)
    assert any(not torch.equal(value, decayed.ema[key]) for key, value in forked.ema.items())
    # Killed and started again, a fork goes on from its own checkpoint.
    train(same, progress=False)
    assert load_checkpoint(tmp_path / "same").step == 12


def test_forks_that_are_none(decoder: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = decoder(train_steps=4)
    last = train(run, progress=False)
    assert forked_config(Path(run.output), {"output": str(Path(run.output).parent)}).fork_from == run.output
    export_checkpoint(last, tmp_path / "small.pt")
    with pytest.raises(ModelError, match="holds averaged weights only"):
        forked_config(tmp_path / "small.pt", {"output": "x"})
    for output in ("", run.output):
        with pytest.raises(InputError, match="needs its own output folder"):
            forked_config(Path(run.output), {"output": output})
    with pytest.raises(InputError, match=r"train_steps = 4: .* has taken 4 already"):
        train(forked_config(last, {"output": str(tmp_path / "fork")}), progress=False)
    with pytest.raises(InputError, match="fork_from: continues a run, init_from starts one"):
        decoder(fork_from="a", init_from="b")
    words = [
        "train",
        "--fork",
        run.output,
        "-o",
        str(tmp_path / "fork"),
        "--train-steps",
        "6",
        "--decay",
        "0.4",
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == str(tmp_path / "fork" / "last.pt")
    assert load_checkpoint(tmp_path / "fork").config.fork_from == run.output
    assert main(["train", "--fork", str(tmp_path / "none"), "-o", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["train", "--fork", run.output, "--config", "x.toml", "-o", str(tmp_path / "x")]) == 2


def some_denoiser(tiny: Make, path: Path, size: str = "tiny") -> Path:
    """Write the checkpoint of a codec network with no zero weights."""
    config = tiny(size=size)
    denoiser = build_denoiser(config)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    save_checkpoint(Checkpoint(config, 5, None, denoiser.state_dict(), None, 0.0), path)
    return path


def test_it_starts_with_the_mean_of_a_trained_denoiser(tiny: Make, decoder: Make, tmp_path: Path) -> None:
    config = decoder()
    task = PixelDecoderTask(config)
    source = some_denoiser(tiny, tmp_path / "denoiser.pt")
    network = task.build(torch.device("cpu"))
    assert isinstance(network, PixelDecoder)
    load_weights(network, task.first_weights(source), "source")
    denoiser = build_denoiser(tiny(size="tiny"))
    load_weights(denoiser, load_checkpoint(source).ema, "source")
    z_0, level = torch.randn(2, 3, 16, 16), torch.full((2,), log_snr_at(8.2))
    with torch.no_grad():
        torch.testing.assert_close(
            network.trunk(z_0, level).mean,
            denoiser.predict_scaled(z_0, level).x0_mean,
        )


def test_of_another_masked_network_the_trunk_is_taken_over(decoder: Make, tmp_path: Path) -> None:
    train(decoder(train_steps=4), progress=False)
    source = Path(decoder().output) / "last.pt"
    given = load_checkpoint(source).ema
    same_task = PixelDecoderTask(decoder())
    same = same_task.first_weights(source)
    assert same_task.note == ""
    assert all(torch.equal(value, given[key]) for key, value in same.items())
    other_task = PixelDecoderTask(decoder(tail="gaussian", seed=5))
    other, fresh = other_task.first_weights(source), other_task.build(torch.device("cpu")).state_dict()
    assert other_task.note == f"{source}: only its trunk is used, the masked network starts from scratch"
    assert torch.equal(other["trunk_head.conv.weight"], given["trunk_head.conv.weight"])
    assert torch.equal(other["middle.0.first.conv.weight"], given["middle.0.first.conv.weight"])
    assert torch.equal(other["masked_stem.conv.weight"], fresh["masked_stem.conv.weight"])
    export_checkpoint(source, tmp_path / "small.pt")
    train(decoder(output=str(tmp_path / "next"), init_from=str(tmp_path / "small.pt"), train_steps=1), progress=False)


def lacking(path: Path, key: str) -> Path:
    """Take a weight out of a checkpoint."""
    checkpoint = load_checkpoint(path)
    del checkpoint.ema[key]
    save_checkpoint(checkpoint, path)
    return path


def test_what_a_decoder_cannot_start_from(tiny: Make, decoder: Make, tmp_path: Path) -> None:
    unet = tiny(size="ddpm-tiny", timesteps=12, output=str(tmp_path / "unet"), train_steps=1)
    for source, cause in (
        (train(unet, progress=False), "is a U-Net"),
        (some_denoiser(tiny, tmp_path / "small.pt", size="small"), "has shape"),
        (lacking(some_denoiser(tiny, tmp_path / "lacking.pt"), "net.pixel_head.conv.weight"), "trunk is missing"),
    ):
        with pytest.raises(ModelError, match=cause):
            train(decoder(init_from=str(source)), progress=False)
    rounded = load_checkpoint(some_denoiser(tiny, tmp_path / "x.pt"))
    rounded.config = dataclasses.replace(rounded.config, quantize=True)
    save_checkpoint(rounded, tmp_path / "rounded.pt")
    with pytest.raises(ModelError, match="was trained with rounding"):
        train(decoder(init_from=str(tmp_path / "rounded.pt")), progress=False)


def test_keys_that_belong_to_decoders(tiny: Make, decoder: Make) -> None:
    assert decoder(crossings=[]).crossings == CROSSINGS
    assert decoder().objective == "likelihood"
    for key, value in (("crossings", [3.0]), ("mean_weight", 0.7), ("tail", "gaussian")):
        with pytest.raises(InputError, match=f"{key}: belongs to pixel decoders, tiny is a codec network"):
            tiny(**{key: value})
    for values, cause in (
        (
            {"quantize": True, "tail": "gaussian"},
            'quantize: a pixel decoder with tail = "gaussian" has no integer form',
        ),
        ({"timesteps": 5}, "timesteps: belongs to U-Nets, decoder-tiny is a pixel decoder"),
        ({"objective": "bound"}, "decoder-tiny trains with likelihood"),
        ({"crossings": [8.2, 3.2]}, r"crossings = \[8.2, 3.2\]: crossings must be increasing noise levels"),
    ):
        with pytest.raises(InputError, match=cause):
            decoder(**values)


def test_a_denoiser_above_a_crossing_is_validated_without_its_own_last_message(tiny: Make) -> None:
    """Such a run never trains L_0; the bound that it is judged by has the steps alone."""
    values = {"clean_share": 0.0, "log_snr_max": 7.4, "train_steps": 2}
    trainer = Trainer(tiny(**values), torch.device("cpu"), 0, 1)
    without = trainer.validate()["validation_bpd"]
    trainer.task.config = tiny(**(values | {"clean_share": 0.2}))
    assert trainer.validate()["validation_bpd"] > without + 1.0
    trainer.advance()
    assert np.isfinite(trainer.window.numpy()).all()


def test_auto_is_what_the_processor_computes_in(decoder: Make) -> None:
    trainer = Trainer(decoder(dtype="auto"), torch.device("cpu"), 0, 1)
    assert trainer.config.dtype == trainer.state().config.dtype == preferred_dtype(torch.device("cpu"))


def test_no_step_below_the_crossing_is_left_untrained() -> None:
    """The steps that a denoiser's run prices reach to the first level above the crossing of every short chain."""
    root = Path(__file__).resolve().parents[2]
    for name in ("photo", "cifar10"):
        config = TrainConfig.from_sources(root / "models" / f"{name}_denoiser_int.toml", {})
        drawn = torch.cat([draw_levels(config, 64, torch.Generator().manual_seed(k)).log_snr for k in range(20)])
        model = open_model(find_model(name))
        for grey_levels in CROSSINGS:
            for steps in range(1, 9):
                chain = model.bound_setting(steps, None, None, crossing_log_snr=log_snr_at(grey_levels)).chain
                assert chain.log_snr[1] < drawn.max(), (name, grey_levels, steps)
