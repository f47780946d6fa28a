"""Where decoded pictures go: complete or not at all, whatever goes wrong on the way."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from ddpm_codec.errors import InputError, OutputError, OutputExistsError
from ddpm_codec.files.output import PictureSink
from ddpm_codec.picture import Picture, PictureInfo

NAMES = ["a.png", "sub/b.png", "sub/deep/c.png"]


def pictures(names: list[str] = NAMES, mode: str = "L") -> list[Picture]:
    """Pictures of one pixel, whose value is their index."""
    return [Picture(PictureInfo(name, mode, (1, 1)), bytes([index])) for index, name in enumerate(names)]


def put(output: Path, content: list[Picture], *, overwrite: bool = False, output_format: str | None = None) -> None:
    infos = [picture.info for picture in content]
    with PictureSink(output, infos, overwrite=overwrite, output_format=output_format) as sink:
        for index, picture in enumerate(content):
            sink.write(index, picture)
        sink.commit()


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def value(path: Path) -> object:
    with Image.open(path) as image:
        return image.getpixel((0, 0))


def test_a_folder_appears_with_its_sub_folders(tmp_path: Path) -> None:
    put(tmp_path / "out", pictures())
    assert [value(tmp_path / "out" / name) for name in NAMES] == [0, 1, 2]
    assert tree(tmp_path) == ["out", "out/a.png", "out/sub", "out/sub/b.png", "out/sub/deep", "out/sub/deep/c.png"]


def test_nothing_appears_without_commit(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for output in (tmp_path / "out", tmp_path / "there", tmp_path / "x.png"):
        content = pictures(NAMES[:1]) if output.suffix else pictures()
        with PictureSink(output, [one.info for one in content], overwrite=False, output_format=None) as sink:
            for index, picture in enumerate(content):
                sink.write(index, picture)
    assert tree(tmp_path) == ["there"]


def test_one_picture_is_a_file_or_goes_into_a_folder(tmp_path: Path) -> None:
    put(tmp_path / "x.bmp", pictures(["a.png"]))
    put(tmp_path / "folder", pictures(["a.png"]))
    (tmp_path / "v1.0").mkdir()
    put(tmp_path / "v1.0", pictures(["a.png"]), output_format="tiff")
    assert tree(tmp_path) == ["folder", "folder/a.png", "v1.0", "v1.0/a.tiff", "x.bmp"]


def test_several_pictures_do_not_go_into_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.png: is one picture file; with 3 pictures"):
        put(tmp_path / "x.png", pictures())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; the output must be a folder"):
        put(tmp_path / "file", pictures())
    assert tree(tmp_path) == ["file"]


def test_a_format_that_cannot_hold_a_picture_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    infos = [one.info for one in [*pictures(), Picture(PictureInfo("d.png", "RGBA", (1, 1)), bytes(4))]]
    with (
        pytest.raises(InputError, match=r"d\.ppm: ppm cannot hold mode RGBA"),
        PictureSink(tmp_path / "out", infos, overwrite=False, output_format="ppm"),
    ):
        pass
    assert tree(tmp_path) == []


def test_a_link_is_followed_and_only_its_target_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.png").write_bytes(b"mine")
    (tmp_path / "x.png").symlink_to(tmp_path / "elsewhere" / "real.png")
    with pytest.raises(OutputExistsError):
        put(tmp_path / "x.png", pictures(["a.png"]))
    put(tmp_path / "x.png", pictures(["a.png"]), overwrite=True)
    assert (tmp_path / "x.png").is_symlink()
    assert value(tmp_path / "elsewhere" / "real.png") == 0
    assert tree(tmp_path) == ["elsewhere", "elsewhere/real.png", "x.png"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    content = pictures(["a.png"])
    with PictureSink(tmp_path / "x.png", [content[0].info], overwrite=False, output_format=None) as sink:
        sink.write(0, content[0])
        (tmp_path / "x.png").write_bytes(b"mine")
        with pytest.raises(OutputExistsError, match=r"x\.png: already exists"):
            sink.commit()
    assert (tmp_path / "x.png").read_bytes() == b"mine"
    assert tree(tmp_path) == ["x.png"]


@pytest.mark.parametrize("output", ["x.png", "out", "there"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    content = pictures(["a.png"]) if output == "x.png" else pictures()
    with pytest.raises(OutputError, match="cannot be written") as caught:
        put(tmp_path / output, content)
    assert str(caught.value).startswith(str(tmp_path / output))
    assert "No space left on device" in str(caught.value)
    assert ".tmp" not in str(caught.value)
    assert tree(tmp_path) == ["there"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_move_that_fails_half_way_is_undone(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == "c.png" and path.parent.parent.parent.name == "new":
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        put(out, pictures(), overwrite=True)
    assert tree(out) == ["a.png"]
    assert (out / "a.png").read_bytes() == b"mine"


def test_places_that_are_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"sub: is a file, but sub/b\.png needs a folder"):
        put(out, pictures(), overwrite=True)
    assert tree(out) == ["sub"]
    with pytest.raises(OutputError, match="does not exist"):
        put(tmp_path / "missing" / "out", pictures())
    with pytest.raises(OutputError, match="does not exist"):
        put(tmp_path / "missing" / "x.png", pictures(["a.png"]))


def test_what_appears_has_the_permissions_of_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        put(tmp_path / "x.png", pictures(["a.png"]))
    finally:
        os.umask(before)
    assert (tmp_path / "x.png").stat().st_mode & 0o777 == 0o640
