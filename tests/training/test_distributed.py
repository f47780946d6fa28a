"""Two processes over gloo do what one does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_codec.device import pick_device
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.distributed import mean_over_processes, process_group, same_everywhere
from ddpm_codec.training.run import train
from tests.training.distributed_worker import CODEC, KINDS, RUN, STEPS, changed, observe
from tests.training.unfit import UNFIT

Make = Callable[..., TrainConfig]


def test_alone() -> None:
    with process_group(torch.device("cpu")) as place:
        assert place == (0, 1)
    values = torch.ones(2)
    assert mean_over_processes(values) is values
    assert same_everywhere(3, torch.device("cpu"))
    assert pick_device("cpu") == torch.device("cpu")


def test_the_averaged_gradient_is_that_of_one_process(shared: Make, pair: Path) -> None:
    """Three clean images of eight: the processes have two and one of them."""
    for name, values in CODEC.items():
        alone = observe(changed(shared(), values), 0, 1)
        first, second = (torch.load(pair / f"{name}-{rank}.pt", weights_only=True) for rank in range(2))
        assert first["gradient"].keys() == second["gradient"].keys() == alone["gradient"].keys()
        for key, value in alone["gradient"].items():
            assert torch.equal(first["gradient"][key], second["gradient"][key])
            torch.testing.assert_close(first["gradient"][key], value, rtol=1e-3, atol=1e-6)
        assert all(torch.equal(value, second["weights"][key]) for key, value in first["weights"].items())


def test_every_kind_of_network_trains_in_two_processes_as_in_one(shared: Make, pair: Path) -> None:
    """Gradient, weights, and what both must share: the history of importance sampling, squared errors of a pixel decoder."""
    for kind, values in KINDS.items():
        alone = observe(changed(shared(), values), 0, 1)
        first, second = (torch.load(pair / f"{kind}-{rank}.pt", weights_only=True) for rank in range(2))
        for part in ("gradient", "weights", "task"):
            assert first[part].keys() == second[part].keys() == alone[part].keys()
            for key, value in first[part].items():
                assert torch.equal(value, second[part][key]), (kind, part, key)
        for key, value in alone["gradient"].items():
            torch.testing.assert_close(first["gradient"][key], value, rtol=1e-3, atol=1e-5)
        for key, value in alone["weights"].items():
            torch.testing.assert_close(first["weights"][key], value, rtol=0, atol=2e-4)
        assert bool(alone["task"]) == (kind in ("vlb", "decoder"))
        if kind == "decoder":
            torch.testing.assert_close(first["task"]["squares"], alone["task"]["squares"], rtol=1e-3, atol=0)
        if kind == "vlb":
            assert alone["task"]["seen"].sum().item() == (1 + STEPS) * 8
            assert torch.equal(first["task"]["seen"], alone["task"]["seen"])
            torch.testing.assert_close(first["task"]["losses"], alone["task"]["losses"], rtol=1e-2, atol=1e-4)


def test_the_first_process_calibrates_for_all(pair: Path) -> None:
    """Steps and rounded weights are the same everywhere; it refuses for all as well, each in one line: none waits for it."""
    expected, other = (torch.load(pair / f"steps-{rank}.pt", weights_only=True) for rank in range(2))
    assert expected["raw"]["net.outer_offset"].all()
    for key, value in expected["raw"].items():
        for found in (expected["average"], other["raw"], other["average"]):
            assert torch.equal(found[key], value)
    first, second = ((pair / f"refusal-{rank}.txt").read_text() for rank in range(2))
    assert first == second == UNFIT


def test_two_processes_follow_the_curve_of_one(tiny: Make, pair: Path) -> None:
    """By the command line; the log holds means over both, and the first process alone prints."""
    alone = Path(tiny(**RUN).output)
    train(tiny(**RUN), progress=False)
    assert sorted(path.name for path in (pair / "run").iterdir()) == sorted(path.name for path in alone.iterdir())
    assert json.loads((pair / "output-0.txt").read_text())["checkpoint"] == str(pair / "run" / "last.pt")
    assert (pair / "output-1.txt").read_text() == ""
    logs = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (alone, pair / "run")
    ]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]] == [3, 6, 6, 9, 12, 12]
    for one, two in zip(*logs, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"images_per_second", "seconds", "preparing_share"}:
            assert two[key] == pytest.approx(one[key], rel=1e-3)
    ours, theirs = (load_checkpoint(run).ema for run in (alone, pair / "run"))
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=0, atol=2e-3)
