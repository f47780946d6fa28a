"""Files that several tests read: coded once a worker with the model that ships."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_codec.codecs.lossless import single
from ddpm_codec.files import encode_files
from ddpm_codec_cli.main import main
from tests.golden.regenerate import FLOAT, noisy_picture
from tests.helpers import PHOTO, Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; return exit code, standard output and standard error."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Fresh layers draw their weights from this generator: a test that fails once fails again."""
    torch.manual_seed(0)


@pytest.fixture
def without_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code lone pictures by bits-back alone: with the tiny model, a bad one, indices take seconds and are never chosen."""
    monkeypatch.setattr(single, "_suits_indices", lambda *_: False)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Sixteen tiles of a photo, [16, 32, 32, 3] uint8."""
    photo = np.asarray(Image.open(PHOTO))
    cut = photo.reshape(4, 32, 4, 32, 3).transpose(0, 2, 1, 3, 4).reshape(16, 32, 32, 3)
    np.save(tmp_path / "tiles.npy", cut)
    return tmp_path / "tiles.npy"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        choices=["photo", "progressive", "files", "all"],
        help="write tests/golden anew: the file of the model that ships, the progressive ones, all, or the tiny models too",
    )


@pytest.fixture(scope="session")
def float_model() -> Path:
    """A tiny model in floating point, which is good at heavy noise."""
    return FLOAT


@pytest.fixture(scope="session")
def float_file(float_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of one picture coded in floating point."""
    folder = tmp_path_factory.mktemp("coded")
    Image.fromarray(noisy_picture(100, 128, 192)).save(folder / "noise.png")
    assert encode_files([folder / "noise.png"], folder / "float.ddpm", model=str(float_model)).net_dims > 0
    return folder / "float.ddpm"


@pytest.fixture(scope="session")
def photo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model-coded file of one picture."""
    path = tmp_path_factory.mktemp("coded") / "photo.ddpm"
    report = encode_files([PHOTO], path)
    assert report.model == "photo"
    assert report.net_dims > 0
    return path


@pytest.fixture(scope="session")
def blocks_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of pictures, and its archive in several model-coded blocks and one of the fallback."""
    folder = tmp_path_factory.mktemp("pictures")
    photo = Image.open(PHOTO)
    for index in range(4):
        photo.rotate(90 * index).save(folder / f"turn{index}.png")
    photo.convert("L").save(folder / "grey.png")
    big = Image.new("RGB", (256, 256))
    for index in range(4):
        big.paste(photo.rotate(90 * index), (index % 2 * 128, index // 2 * 128))
    big.putalpha(Image.linear_gradient("L"))
    big.save(folder / "big.png")
    path = folder / "set.ddpm"
    encode_files([folder], path, block_pixels=2 * 128 * 128, tile=64)
    return folder, path
