"""Two processes over gloo do what one does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_codec.device import pick_device
from ddpm_codec.training.checkpoint import load_checkpoint
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.distributed import mean_over_processes, process_group, same_everywhere
from ddpm_codec.training.run import train
from ddpm_codec.training.trainer import Trainer

Make = Callable[..., TrainConfig]
ROOT = Path(__file__).resolve().parents[2]


def launch(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run under torchrun; --standalone takes a free port."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [*(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"), *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_alone() -> None:
    with process_group(torch.device("cpu")) as place:
        assert place == (0, 1)
    values = torch.ones(2)
    assert mean_over_processes(values) is values
    assert same_everywhere(3, torch.device("cpu"))
    assert pick_device("cpu") == torch.device("cpu")


def test_the_averaged_gradient_is_that_of_one_process(tiny: Make, tmp_path: Path) -> None:
    """Three clean images of eight: the processes have two and one of them."""
    config = tiny(clean_share=0.375)
    (tmp_path / "config.toml").write_text(config.to_toml())
    worker = Path(__file__).with_name("distributed_worker.py")
    done = launch(str(worker), str(tmp_path / "config.toml"), str(tmp_path))
    assert done.returncode == 0, done.stderr
    for transform in ("colour-8x8", "identity"):
        trainer = Trainer(tiny(clean_share=0.375, transform=transform), torch.device("cpu"), 0, 1)
        trainer.backward()
        found = [torch.load(tmp_path / f"gradient-{transform}-{rank}.pt", weights_only=True) for rank in range(2)]
        for key, parameter in trainer.denoiser.named_parameters():
            if parameter.grad is None:
                assert found[0][key] is None
                continue
            assert torch.equal(found[0][key], found[1][key])
            torch.testing.assert_close(found[0][key], parameter.grad, rtol=1e-3, atol=1e-6)
        weights = [torch.load(tmp_path / f"weights-{transform}-{rank}.pt", weights_only=True) for rank in range(2)]
        assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_the_first_process_calibrates_for_all(tiny: Make, tmp_path: Path) -> None:
    """And refuses for all, each in one line: none waits for it."""
    (tmp_path / "config.toml").write_text(tiny(quantize=True, size="tiny").to_toml())
    worker = Path(__file__).with_name("quantized_worker.py")
    done = launch(str(worker), str(tmp_path / "config.toml"), str(tmp_path))
    assert done.returncode == 0, done.stderr
    expected, other = (torch.load(tmp_path / f"steps-{rank}.pt", weights_only=True) for rank in range(2))
    assert expected["raw"]["net.outer_offset"].all()
    for key, value in expected["raw"].items():
        for found in (expected["average"], other["raw"], other["average"]):
            assert torch.equal(found[key], value)
    first, second = ((tmp_path / f"refusal-{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert first.startswith("cannot train with rounding, the network does not fit into integers: layer middle.0.first")


def test_two_processes_follow_the_curve_of_one(tiny: Make, tmp_path: Path) -> None:
    """By the command line; the log holds means over both."""
    values = {"optimizer": "adamw", "log_every": 3}
    alone, pair = tiny(output=str(tmp_path / "alone"), **values), tiny(output=str(tmp_path / "pair"), **values)
    train(alone, progress=False)
    (tmp_path / "config.toml").write_text(pair.to_toml())
    done = launch("-m", "ddpm_codec_cli", "train", "--config", str(tmp_path / "config.toml"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "pair").iterdir()) == [
        *("config.toml", "last.pt", "log.jsonl"),
        *(["tensorboard"] if (tmp_path / "alone" / "tensorboard").exists() else []),
    ]
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("alone", "pair")
    ]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]] == [3, 6, 6, 9, 12, 12]
    for one, two in zip(*logs, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"images_per_second", "seconds", "preparing_share"}:
            assert two[key] == pytest.approx(one[key], rel=1e-3)
    ours, theirs = (load_checkpoint(tmp_path / name).ema for name in ("alone", "pair"))
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=0, atol=2e-3)
