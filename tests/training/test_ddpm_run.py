"""Runs of DDPM training: they learn, resume exactly, and agree over processes; what is refused."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from ddpm_codec.errors import InputError, ModelError
from ddpm_codec.nn.ddpm_unet import UNet
from ddpm_codec.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.ddpm_task import DdpmTask
from ddpm_codec.training.run import train
from ddpm_codec.training.task import Batch
from ddpm_codec.training.trainer import Trainer, task_of
from tests.training.test_run import assert_same_state, log_lines, stop_at

Make = Callable[..., TrainConfig]
CPU = torch.device("cpu")
OUTPUTS = ("eps", "x0", "v", "previous")
BOTH = ("linear", "cosine", "linear", "cosine")
NEW_KEYS = ("objective", "prediction", "variance", "schedule", "timesteps", "dropout", "time_features", "conditioning")


@pytest.fixture
def ddpm(tiny: Make) -> Make:
    """Make the configuration of a U-Net's run of seconds; keywords replace its values."""
    return lambda **values: tiny(**{"size": "ddpm-tiny", "timesteps": 8, "optimizer": "adam", "lr": 2e-3} | values)


def measured(config: TrainConfig, network: nn.Module, sampler: Trainer) -> float:
    """Return the objective over 32 crops, timesteps spread evenly, the same for the same configuration."""
    x_0 = torch.from_numpy(sampler.sampler.batch(10**6, 32, slice(None))).float() / 127.5 - 1.0
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = DdpmTask(config).loss(network, Batch(x_0, noise, torch.Generator().manual_seed(2), 0, 1))
    return loss.total.item()


KINDS_OF_RUN = [
    *[("simple", output, "linear", "beta") for output in OUTPUTS],
    ("simple", "v", "cosine", "beta-tilde"),
    *[("vlb", output, schedule, "learned-range") for output, schedule in zip(OUTPUTS, BOTH, strict=True)],
    ("vlb", "eps", "cosine", "beta-tilde"),
    ("vlb", "v", "linear", "beta"),
    *[("hybrid", output, schedule, "learned-range") for output, schedule in zip(OUTPUTS, BOTH[::-1], strict=True)],
]


@pytest.mark.parametrize(("objective", "prediction", "schedule", "variance"), KINDS_OF_RUN)
def test_a_run_learns(objective: str, prediction: str, schedule: str, variance: str, ddpm: Make) -> None:
    """Each kind brings its objective down, and the averaged weights as well."""
    values = {"objective": objective, "prediction": prediction, "schedule": schedule, "variance": variance}
    config = ddpm(**values, train_steps=20, lr=5e-3, timesteps=20, ema=0.7, decay=0.0)
    trainer = Trainer(config, CPU, 0, 1)
    before = measured(config, trainer.denoiser, trainer)
    for _ in range(config.train_steps):
        trainer.advance()
    assert int(trainer.window[2].item()) == 20
    for network in (trainer.denoiser, trainer.average):
        after = measured(config, network, trainer)
        assert math.isfinite(after)
        assert after < before - 0.05 * abs(before), (before, after)


def test_the_log_of_a_run(ddpm: Make) -> None:
    config = ddpm(objective="hybrid", variance="learned-range")
    train(config, progress=False)
    lines = log_lines(config)
    training = [line for line in lines if "validation_bpd" not in line]
    assert [line["step"] for line in training] == [3, 6, 9, 12]
    assert all(line.keys() == {"step", "simple_loss", "train_bpd", "lr"} for line in training)
    # With an output of zero, L_simple is the power of the noise.
    assert training[0]["simple_loss"] == pytest.approx(1.0, abs=0.15)
    assert [line["step"] for line in lines if "validation_bpd" in line] == [6, 12]


@pytest.mark.parametrize(
    "values",
    [
        {"objective": "vlb", "timesteps": 2},
        {"objective": "vlb", "timesteps": 2, "variance": "learned-range", "dropout": 0.3},
        {"objective": "simple", "dropout": 0.3},
        {"objective": "hybrid", "variance": "learned-range", "time_features": "fourier", "conditioning": "scale-shift"},
    ],
    ids=["vlb", "vlb-dropout", "dropout", "hybrid-fourier"],
)
def test_a_resumed_run_is_the_same_bit_for_bit(values: dict[str, Any], ddpm: Make, tmp_path: Path) -> None:
    """With the history of importance sampling, and the masks of dropout, which depend on the step alone."""
    whole, broken = (ddpm(**values, train_steps=8, output=str(tmp_path / name)) for name in ("whole", "broken"))
    train(whole, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train(broken, progress=False)
    torch.manual_seed(99)
    train(broken, progress=False)
    found, expected = (load_checkpoint(tmp_path / name) for name in ("broken", "whole"))
    assert_same_state(found, expected)
    assert log_lines(broken) == log_lines(whole)
    assert found.task.keys() == expected.task.keys() == ({"losses", "seen"} if values["objective"] == "vlb" else set())
    assert all(torch.equal(found.task[key], expected.task[key]) for key in found.task)
    if values["objective"] == "vlb":
        # Importance was in force at the break already: after 4 steps of 8 images at 2 timesteps.
        assert expected.task["seen"].sum().item() == 8 * 8
        assert (expected.task["losses"] != 0.0).all()
        task = task_of(whole)
        task.load_state(expected.task)
        assert isinstance(task, DdpmTask)
        assert not torch.allclose(task.sampler.probabilities(), torch.full((2,), 0.5, dtype=torch.float64))


def test_dropout_in_training_alone(ddpm: Make) -> None:
    trainer = Trainer(ddpm(dropout=0.5), CPU, 0, 1)
    rates = {module.p for module in trainer.denoiser.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.5}
    for _ in range(3):
        trainer.advance()
    assert all(module.training for module in trainer.denoiser.modules())
    assert not any(module.training for module in trainer.average.modules())
    assert not any(parameter.requires_grad for parameter in trainer.average.parameters())
    assert trainer.validate() == trainer.validate()
    plain = Trainer(ddpm(dropout=0.0), CPU, 0, 1)
    for _ in range(3):
        plain.advance()
    assert not torch.equal(plain.denoiser.state_dict()["head.weight"], trainer.denoiser.state_dict()["head.weight"])


def drawn_beside(rank: int, trainer: Trainer) -> tuple[Batch, Tensor]:
    """Return a process's batch, and what a network would then draw by itself, in the shape of an image."""
    part = Trainer.__new__(Trainer)
    part.__dict__.update(trainer.__dict__, rank=rank, world=2)
    batch = part._batch()
    return batch, torch.randn(batch.noise.shape[1:])


def test_dropout_repeats_neither_the_noise_nor_that_of_another_process(ddpm: Make) -> None:
    trainer = Trainer(ddpm(dropout=0.5), CPU, 0, 1)
    (first, drawn), (second, other) = (drawn_beside(rank, trainer) for rank in range(2))
    assert not torch.equal(drawn, other)
    assert torch.equal(drawn_beside(0, trainer)[1], drawn)
    for noise in [*first.noise, *second.noise]:
        assert not torch.equal(noise, drawn)
        assert not torch.equal(noise, other)


def test_the_caller_keeps_its_random_state(ddpm: Make) -> None:
    """No run, seeded as it is, decides what its caller draws afterwards."""
    torch.manual_seed(123)
    expected = torch.rand(4)
    torch.manual_seed(123)
    train(ddpm(train_steps=1), progress=False)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_validation_bound(output: str, ddpm: Make) -> None:
    """A network that says zero, as all do at the start: L_0 and half a log of each step, at the best variances."""
    task = DdpmTask(ddpm(timesteps=6, prediction=output, seed=5))
    network = task.build(CPU).eval()
    # No grey level of an open bin.
    x_0 = torch.randint(1, 255, (4, 3, 16, 16), generator=torch.Generator().manual_seed(1)) / 127.5 - 1.0
    generator = torch.Generator().manual_seed(5)
    kept = np.cumprod(1.0 - np.linspace(0.1 / 6, 0.999, 6))
    snr, nats = kept / (1.0 - kept), 0.0
    for t in range(6):
        noise = torch.randn(x_0.shape, generator=generator).double().numpy()
        x_t = math.sqrt(kept[t]) * x_0.double().numpy() + math.sqrt(1.0 - kept[t]) * noise
        before = kept[t - 1] if t else 1.0
        # -a / c of the step to the level before.
        back = -math.sqrt(kept[t]) * (1.0 - before) / (before - kept[t])
        says = {"eps": x_t / math.sqrt(kept[t]), "x0": 0.0 * x_t, "v": math.sqrt(kept[t]) * x_t, "previous": back * x_t}
        error = np.abs(x_0.double().numpy() - says[output].clip(-1.0, 1.0))
        power = np.mean(error**2)
        if t == 0:
            edges = [stats.norm.cdf((half - error) / math.sqrt(power)) for half in (1.0 / 255.0, -1.0 / 255.0)]
            nats -= np.log(edges[0] - edges[1]).mean()
        else:
            nats += 0.5 * math.log1p((snr[t - 1] - snr[t]) * power)
    found = task.validation_bpd(network, x_0)
    assert found == pytest.approx(nats / math.log(2.0), rel=1e-4)
    assert found == task.validation_bpd(network, x_0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "simple", "variance": "learned-range"}, "objective = 'simple'"),
        ({"objective": "", "variance": "learned-range"}, "objective = 'simple'"),
        *[
            ({"objective": "hybrid", "variance": variance}, "objective = 'hybrid'")
            for variance in ("beta", "beta-tilde")
        ],
        ({"quantize": True}, "quantize"),
        ({"objective": "bound"}, "objective = 'bound'"),
        *[({"size": "small", "objective": objective}, "objective") for objective in ("simple", "vlb", "hybrid")],
        ({"objective": "elbo"}, "objective"),
        ({"timesteps": 1}, "timesteps = 1"),
        ({"timesteps": 0}, "timesteps = 0"),
        *[({"dropout": value}, "dropout") for value in (1.0, -0.1)],
        *[({key: "other"}, key) for key in ("prediction", "variance", "schedule", "time_features", "conditioning")],
        ({"size": "ddpm-256", "crop": 16}, "crop = 16: ddpm-256 needs a multiple of 32"),
    ],
)
def test_refusals_are_one_line(values: dict[str, Any], message: str, ddpm: Make) -> None:
    with pytest.raises(InputError, match=rf"\A{message}[^\n]*\Z"):
        train(ddpm(**values), progress=False)


def test_a_batch_of_one_picture(ddpm: Make) -> None:
    """``clean_share`` is of codec networks, and asks nothing of a U-Net."""
    assert load_checkpoint(train(ddpm(batch=1, train_steps=1), progress=False)).step == 1


def test_a_run_does_not_go_on_as_another(ddpm: Make) -> None:
    path = train(ddpm(train_steps=1), progress=False)
    changes = {
        "prediction": "v",
        "schedule": "cosine",
        "timesteps": 9,
        "variance": "beta-tilde",
        "objective": "vlb",
        "time_features": "fourier",
        "conditioning": "scale-shift",
        "optimizer": "muon",
    }
    for key, value in changes.items():
        with pytest.raises(ModelError, match=rf"\A[^\n]*last\.pt: was trained with {key} = [^\n]*{value}'?\Z"):
            train(ddpm(**{key: value}), progress=False)
    assert load_checkpoint(path).step == 1


@pytest.mark.parametrize("task", [{}, {"losses": torch.zeros(3, 10), "seen": torch.zeros(8)}, {"losses": 1, "seen": 2}])
def test_a_history_that_does_not_fit_is_one_line(task: dict[str, Any], ddpm: Make) -> None:
    path = train(ddpm(objective="vlb", train_steps=1), progress=False)
    save_checkpoint(dataclasses.replace(load_checkpoint(path), task=task), path)
    with pytest.raises(ModelError, match=r"\A[^\n]*last\.pt: [^\n]+\Z"):
        train(ddpm(objective="vlb", train_steps=2), progress=False)


def test_older_configurations_and_checkpoints(tiny: Make, tmp_path: Path) -> None:
    """Those of codec networks, written before there were U-Nets."""
    new = dataclasses.asdict(tiny())
    old = {key: value for key, value in new.items() if key not in NEW_KEYS}
    assert len(new) == len(old) + len(NEW_KEYS)
    assert TrainConfig.from_dict(old) == tiny()
    assert TrainConfig.from_dict(old).objective == "bound"
    whole = train(tiny(train_steps=4, decay=0.0), progress=False)
    content = torch.load(whole, weights_only=True)
    del content["task"]
    content["config"] = {key: value for key, value in content["config"].items() if key not in NEW_KEYS}
    torch.save(content, whole)
    loaded = load_checkpoint(whole)
    assert isinstance(loaded, Checkpoint)
    assert loaded.task == {}
    assert load_checkpoint(train(tiny(train_steps=5, decay=0.0), progress=False)).step == 5


@pytest.mark.parametrize("conditioning", ["add", "scale-shift"])
@pytest.mark.parametrize("features", ["sinusoidal", "fourier"])
def test_the_network_of_a_run(features: str, conditioning: str, ddpm: Make) -> None:
    """Every choice reaches the architecture; the seed alone decides the weights."""
    choices = {"time_features": features, "conditioning": conditioning, "dropout": 0.25}
    plain = task_of(ddpm(**choices)).build(CPU)
    learned = task_of(ddpm(**choices, objective="hybrid", variance="learned-range")).build(CPU)
    for network, channels in ((plain, 3), (learned, 6)):
        assert isinstance(network, UNet)
        assert network.head.out_channels == channels
        assert dataclasses.asdict(network.config).items() >= choices.items()
    first, again, other = (task_of(ddpm(**choices, seed=seed)).build(CPU).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["stem.weight"], other["stem.weight"])
