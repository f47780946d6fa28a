"""The tutorial's commands, typed as they stand, on a tiny model in a folder that diffusers wrote."""

import glob
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import PHOTO, Run, pixels

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "TUTORIAL.md"
FENCE = "`" * 3
SIDE = 8
"""Of the pictures: the tutorial's thousand levels are no fewer for small ones, but cheaper."""


def examples(language: str) -> list[str]:
    """Return the examples in a language."""
    text = TUTORIAL.read_text(encoding="utf-8")
    return re.findall(rf"^{FENCE}{language}\n(.*?)^{FENCE}$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the lines of all shell examples."""
    return [line for block in examples("sh") for line in block.splitlines()]


def save_with_diffusers(folder: Path) -> None:
    """Let diffusers write a folder of a tiny network."""
    diffusers = pytest.importorskip("diffusers")
    network = diffusers.UNet2DModel(
        sample_size=SIDE,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    network.save_pretrained(folder)
    diffusers.DDPMScheduler(num_train_timesteps=1000, variance_type="fixed_large").save_pretrained(folder)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``ddpm``, ``train`` and ``test``, as the tutorial has them."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_with_diffusers(tmp_path / "ddpm")
    photo = np.asarray(Image.open(PHOTO))[: 4 * SIDE, : 4 * SIDE]
    tiles = photo.reshape(4, SIDE, 4, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(16, SIDE, SIDE, 3)
    for name, part in (("train", tiles[:12]), ("test", tiles[12:])):
        (tmp_path / name).mkdir()
        for index, tile in enumerate(part):
            Image.fromarray(tile).save(tmp_path / name / f"{index}.png")
    return tmp_path


def words_of(line: str) -> list[str]:
    """Return a command as a shell passes it on: quotes taken away, names of files filled in."""
    return [name for word in shlex.split(line) for name in (sorted(glob.glob(word)) if "*" in word else [word])]


def test_the_commands_of_the_tutorial(workplace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    lines = commands()
    assert len(lines) == 7
    for line in lines:
        program, *words = words_of(line)
        assert program == "ddpm-codec"
        code, _, err = run(*words)
        assert code == 0, f"{line}\n{err}"
    names = sorted(path.name for path in (workplace / "test").iterdir())
    assert [path.name for path in sorted((workplace / "back").iterdir())] == names
    assert all(pixels(workplace / "back" / name) == pixels(workplace / "test" / name) for name in names)
    assert (workplace / "curves" / "index.html").stat().st_size > 1000
    with Image.open(workplace / "samples.png") as samples:
        assert min(samples.size) >= 2 * SIDE


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_python_of_the_tutorial(workplace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    (line,) = (line for line in commands() if "--block-pixels" in line)
    assert run(*words_of(line)[1:])[0] == 0
    (example,) = examples("python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["dataset"].names == tuple(sorted(path.name for path in (workplace / "train").iterdir()))
    assert names["x"].shape == (4, 3, SIDE, SIDE)
    assert len(names["loader"]) == 3
    found = sorted(batch.numpy().tobytes() for pictures in names["loader"] for batch in pictures)
    assert found == sorted(Image.open(path).tobytes() for path in (workplace / "train").iterdir())
