"""Checkpoints: read back as written, never executed, refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_codec.errors import ModelError, OutputError
from ddpm_codec.training.checkpoint import Checkpoint, build_denoiser, load_checkpoint, load_weights, save_checkpoint
from ddpm_codec.training.config import TrainConfig

Make = Callable[..., TrainConfig]


def checkpoint(config: TrainConfig) -> Checkpoint:
    weights = build_denoiser(config).state_dict()
    return Checkpoint(config, 7, weights, dict(weights), {"state": {0: {"step": 3}}, "param_groups": []}, 1.5)


def test_round_trip(tiny: Make, tmp_path: Path) -> None:
    written = checkpoint(tiny())
    save_checkpoint(written, tmp_path / "sub" / "last.pt")
    for path in (tmp_path / "sub" / "last.pt", tmp_path / "sub"):
        read = load_checkpoint(path)
        assert (read.config, read.step, read.seconds, read.window) == (written.config, 7, 1.5, None)
        assert read.optimizer == written.optimizer
        assert all(torch.equal(value, written.ema[key]) for key, value in read.ema.items())
    assert os.listdir(tmp_path / "sub") == ["last.pt"]


def test_a_checkpoint_of_before_the_window_was_saved(tiny: Make, tmp_path: Path) -> None:
    save_checkpoint(checkpoint(tiny()), tmp_path / "last.pt")
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["window"]
    torch.save(content, tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt").window is None


def test_cut_or_bent_files_are_one_line(tiny: Make, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(checkpoint(tiny()), path)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:100], whole[: len(whole) // 2], whole[:-1], b"garbage" * 99, b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"\A[^\n]*last\.pt: not a readable checkpoint \([^\n]+\)\Z"):
            load_checkpoint(path)


@pytest.mark.parametrize("change", ["format", "ema", "config", "step", "optimizer", "unknown"])
def test_foreign_content_is_refused(change: str, tiny: Make, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(checkpoint(tiny()), path)
    content = torch.load(path, weights_only=True)
    if change == "format":
        content["format"] = 99
    elif change == "ema":
        content["ema"] = {"a": 3}
    elif change == "unknown":
        content["config"]["nonsense"] = 1
    elif change == "config":
        content["config"] = None
    else:
        del content[change]
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"\A[^\n]*last\.pt: [^\n]+\Z"):
        load_checkpoint(path)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_is_refused_and_nothing_runs(legacy: bool, tmp_path: Path) -> None:
    path, target = tmp_path / "last.pt", tmp_path / "executed"
    torch.save({"format": 2, "config": Hostile(target)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=r"\A[^\n]*not a readable checkpoint[^\n]*\Z"):
        load_checkpoint(path)
    assert not target.exists()


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_folder_that_cannot_be_made(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"\A[^\n]*last\.pt: cannot write the checkpoint[^\n]*\Z"):
        save_checkpoint(checkpoint(tiny()), tmp_path / "file" / "last.pt")


def test_a_full_disk_leaves_the_last_checkpoint(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(checkpoint(tiny()), tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()

    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file: No space left\nframe 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"\A[^\n]*No space left\)\Z"):
        save_checkpoint(checkpoint(tiny(seed=1)), tmp_path / "last.pt")
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".npy"] == ["last.pt"]


def test_the_seed_decides_the_first_weights_and_leaves_other_random_numbers_alone(tiny: Make) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build_denoiser(tiny(seed=seed)).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["net.stem.conv.weight"], other["net.stem.conv.weight"])


def test_weights_that_do_not_fit_are_named(tiny: Make) -> None:
    denoiser = build_denoiser(tiny())
    weights = denoiser.state_dict()
    halves = {key: value.half() for key, value in weights.items()}
    load_weights(denoiser, halves, "x")
    cases = [
        (
            {key: value for key, value in weights.items() if key != "net.stem.conv.bias"},
            "'net.stem.conv.bias' is missing",
        ),
        (weights | {"extra": torch.zeros(1)}, "unexpected weight 'extra'"),
        (weights | {"net.stem.conv.bias": torch.zeros(3)}, r"'net.stem.conv.bias' has shape \(3,\), expected \(16,\)"),
    ]
    for bad, cause in cases:
        with pytest.raises(ModelError, match=rf"\Ax: [^\n]*{cause}\Z"):
            load_weights(denoiser, bad, "x")
