"""Writing files: complete or not at all, on full disks and over existing files."""

import errno
import os
from pathlib import Path

import pytest

from ddpm_codec.container import Head, ImageEntry
from ddpm_codec.errors import OutputError, OutputExistsError
from ddpm_codec.picture import PictureInfo
from tests.containers import archive_writer, read_archive

IMAGES = [ImageEntry(PictureInfo("a.png", "RGB", (32, 16)))]
PAYLOAD = b"payload"


def write(path: Path, *, overwrite: bool = False) -> Path:
    with archive_writer(path, overwrite=overwrite) as writer:
        writer.add_block(PAYLOAD)
        writer.finish(Head(), IMAGES)
    return path


def payload(path: Path) -> bytes:
    return read_archive(path).read_block(0)


def test_an_existing_output_is_refused_at_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"x\.ddpm"), archive_writer(path):
        pass
    assert path.read_text() == "mine"
    assert payload(write(path, overwrite=True)) == PAYLOAD


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.ddpm"
    with archive_writer(path) as writer:
        path.write_text("mine")
        with pytest.raises(OutputExistsError):
            writer.finish(Head(), IMAGES)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["x.ddpm"]


def test_without_hard_links_the_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert payload(write(tmp_path / "x.ddpm")) == PAYLOAD
    assert os.listdir(tmp_path) == ["x.ddpm"]


def test_nothing_is_left_behind_by_an_exception(tmp_path: Path) -> None:
    def work() -> None:
        with archive_writer(tmp_path / "x.ddpm") as writer:
            writer.add_block(PAYLOAD)
            raise KeyError("stop")

    with pytest.raises(KeyError):
        work()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_full_disk_at_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match=r"x\.ddpm: cannot be written \(No space left on device\)"):
        write(tmp_path / "x.ddpm")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_while_blocks_are_added_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def work() -> None:
        with archive_writer(tmp_path / "x.ddpm") as writer:
            monkeypatch.setattr(writer.writer, "_spool", Full())
            writer.add_block(PAYLOAD)

    with pytest.raises(OutputError, match="No space left"):
        work()
    assert os.listdir(tmp_path) == []


def test_a_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own ENOSPC, which comes when buffers are flushed."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r": opened(Path("/dev/full") if mode == "wb" else path, mode))
    with pytest.raises(OutputError, match="No space left"):
        write(tmp_path / "x.ddpm")
    assert os.listdir(tmp_path) == []


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "x.ddpm", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError), archive_writer(path) as writer:
            writer.finish(Head(), IMAGES)
    with pytest.raises(OutputError), archive_writer(Path("/dev/null"), overwrite=True):
        pass
