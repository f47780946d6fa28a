"""``ddpm-codec decode``: formats, outputs, damage, and one line for whatever is refused."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ddpm_codec.container import Head, ImageEntry
from ddpm_codec.errors import FormatError
from ddpm_codec.models import find_model
from ddpm_codec.picture import PictureInfo
from tests.containers import archive_writer, read_archive, write_again
from tests.golden.regenerate import EXACT, FOLDER
from tests.helpers import PHOTO, Run, pixels

SMALL = PHOTO.with_name("lighthouse_33x17.png")


def check_refused(result: tuple[int, str, str], cause: str) -> None:
    """One line on standard error that says why, nothing on standard output, exit code 1."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("ddpm-codec: error: ")
    assert cause in err


@pytest.mark.parametrize("extension", ["png", "webp", "tiff", "ppm", "bmp"])
def test_every_format_that_is_offered_is_exact(extension: str, photo_file: Path, run: Run, tmp_path: Path) -> None:
    output = tmp_path / f"x.{extension}"
    assert run("decode", photo_file, "-o", output)[0] == 0
    assert pixels(output) == pixels(PHOTO)
    assert run("decode", photo_file, "-o", tmp_path / "folder", "--format", extension)[0] == 0
    assert pixels(tmp_path / "folder" / f"{PHOTO.stem}.{extension}") == pixels(PHOTO)


def test_the_format_and_the_name_of_a_picture_must_agree(photo_file: Path, run: Run, tmp_path: Path) -> None:
    refused = run("decode", photo_file, "-o", tmp_path / "x.png", "--format", "tiff")
    check_refused(refused, "x.png: has the extension of png, but --format is tiff")
    assert list(tmp_path.iterdir()) == []
    assert run("decode", photo_file, "-o", tmp_path / "x.tif", "--format", "tiff")[0] == 0
    assert pixels(tmp_path / "x.tif") == pixels(PHOTO)


def test_a_model_that_is_named_is_the_one_that_is_used(photo_file: Path, run: Run, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    for other, cause in (("cifar10", "cifar10 is another model"), (PHOTO, f"{PHOTO} is another model")):
        check_refused(run("decode", photo_file, "-o", output, "--model", other), cause)
    check_refused(run("decode", photo_file, "-o", output, "--model", "nonesuch"), "nonesuch: no such model or file")
    assert list(tmp_path.iterdir()) == []
    for same in ("photo", find_model("photo")):
        assert run("decode", photo_file, "-o", output, "--model", same, "--overwrite")[::2] == (0, "")
    assert pixels(output) == pixels(PHOTO)


def test_a_model_that_is_not_needed_is_a_note(run: Run, tmp_path: Path) -> None:
    path, output = tmp_path / "a.ddpm", tmp_path / "x.png"
    assert run("encode", PHOTO, "-o", path, "--model", "none")[0] == 0
    code, _, err = run("decode", path, "-o", output, "--model", "photo")
    assert (code, err) == (0, f"ddpm-codec: note: {path}: needs no model; photo was ignored\n")
    assert pixels(output) == pixels(PHOTO)


def with_parameters(source: Path, target: Path, size: tuple[int, int], **parameters: int | str) -> Path:
    """Write the first block of ``source`` again, as one of another picture with other coding parameters."""
    opened = read_archive(source)
    head = replace(opened.head, parameters=opened.head.parameters | parameters)
    return write_again(opened, target, head=head, info=PictureInfo("a.png", "RGB", size))


def test_absurd_numbers_of_tiles_are_refused(run: Run, tmp_path: Path) -> None:
    coded = FOLDER / "noise.ddpm"
    words = ("-o", tmp_path / "x.png", "--model", EXACT)
    whole = with_parameters(coded, tmp_path / "a.ddpm", (1 << 15, 1 << 15), tile=8)
    check_refused(run("decode", whole, *words), "its coding parameters are damaged (block of 1073741824")
    sliver = with_parameters(coded, tmp_path / "b.ddpm", (1 << 24, 1), tile=8)
    check_refused(run("decode", sliver, *words), "b.ddpm: cannot be decoded: it has 2097152 tiles, more")
    assert not (tmp_path / "x.png").exists()


def test_json_is_one_object_with_the_common_keys(photo_file: Path, run: Run, tmp_path: Path) -> None:
    code, out, err = run("decode", photo_file, "-o", tmp_path / "x.png", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    report = json.loads(out)
    assert (report["images"], report["pixels"], report["dims"]) == (1, 128 * 128, 3 * 128 * 128)
    assert (report["model"], report["damaged"], report["notes"]) == ("photo", [], [])
    assert report["file_bytes"] == photo_file.stat().st_size
    assert report["file_bpd"] == pytest.approx(8 * report["file_bytes"] / report["dims"])
    assert report["seconds"] >= report["network_seconds"] > 0


def test_keep_going_writes_the_rest_and_is_exit_1(blocks_file: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    _, path = blocks_file
    opened = read_archive(path)
    block = opened.blocks[0]
    assert block is not None
    data = bytearray(path.read_bytes())
    data[block.offset + 40] ^= 16
    bad = tmp_path / "bad.ddpm"
    bad.write_bytes(data)
    check_refused(run("decode", bad, "-o", tmp_path / "none"), f"{bad}: block 0 is damaged")
    assert [item.name for item in tmp_path.iterdir()] == ["bad.ddpm"]
    code, out, err = run("decode", bad, "-o", tmp_path / "some", "--keep-going", "--json")
    report = json.loads(out)
    lost = [line.removesuffix(": lost") for line in report["damaged"] if line.endswith(": lost")]
    assert code == 1
    assert lost
    assert err.splitlines() == [f"ddpm-codec: damaged: {line}" for line in report["damaged"]]
    assert "block 0 is damaged" in err
    written = {item.name for item in (tmp_path / "some").iterdir()}
    assert written == {entry.info.name for entry in opened.images} - set(lost)
    assert report["images"] == len(written)


def test_keep_going_with_nothing_to_recover_is_an_error(photo_file: Path, run: Run, tmp_path: Path) -> None:
    data = bytearray(photo_file.read_bytes())
    data[-50] ^= 1
    (tmp_path / "bad.ddpm").write_bytes(data)
    check_refused(
        run("decode", tmp_path / "bad.ddpm", "-o", tmp_path / "x.png", "--keep-going"),
        "bad.ddpm: is cut short or damaged",
    )
    assert [item.name for item in tmp_path.iterdir()] == ["bad.ddpm"]


def test_foreign_files(photo_file: Path, run: Run, tmp_path: Path) -> None:
    good = photo_file.read_bytes()
    files = {
        "empty.ddpm": (b"", "is not a .ddpm file"),
        "text.ddpm": (b"no such thing at all", "is not a .ddpm file"),
        "photo.png": (PHOTO.read_bytes(), "is not a .ddpm file"),
        "newer.ddpm": (good[:8] + b"\x09" + good[9:], "has format version 9, this program reads 2"),
        "older.ddpm": (good[:8] + b"\x01" + good[9:], "pre-release of ddpm-codec (format version 1)"),
        "codec.ddpm": (good[:9] + b"\x09" + good[10:], "codec 9 is unknown"),
        "cut.ddpm": (good[: len(good) // 2], "is cut short"),
        "long.ddpm": (good + b"x", "is cut short or damaged"),
    }
    for name, (data, cause) in files.items():
        (tmp_path / name).write_bytes(data)
        check_refused(run("decode", tmp_path / name, "-o", tmp_path / "x.png"), f"{tmp_path / name}: ")
        check_refused(run("decode", tmp_path / name, "-o", tmp_path / "x.png"), cause)
    check_refused(run("decode", tmp_path / "missing.ddpm", "-o", tmp_path / "x.png"), "missing.ddpm: ")
    check_refused(run("decode", tmp_path, "-o", tmp_path / "x.png"), "is a folder")
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted(files)


def test_max_pixels(photo_file: Path, run: Run, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    check_refused(run("decode", photo_file, "-o", output, "--max-pixels", 128 * 128 - 1), "pixels")
    assert run("decode", photo_file, "-o", output, "--max-pixels", 128 * 128)[0] == 0


def test_a_claim_of_two_to_the_31_pixels(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "huge.ddpm"
    with archive_writer(path) as writer:
        writer.add_block(b"\0\0\1\0\1abc")
        writer.finish(Head(), [ImageEntry(PictureInfo("a.png", "RGB", (1 << 16, 1 << 15)))])
    check_refused(run("decode", path, "-o", tmp_path / "x.png"), "pixels")
    # Asked for, it is refused for what its block holds, before anything of that size is allocated.
    check_refused(run("decode", path, "-o", tmp_path / "x.png", "--max-pixels", 1 << 40), "block 0 cannot be decoded")
    assert [item.name for item in tmp_path.iterdir()] == ["huge.ddpm"]


def test_a_second_block_that_is_foreign_takes_the_first_with_it(run: Run, tmp_path: Path) -> None:
    """A picture that is complete does not appear either while the file turns out to be wrong."""
    assert run("encode", PHOTO, SMALL, "-o", tmp_path / "a.ddpm", "--model", "none")[0] == 0
    opened = read_archive(tmp_path / "a.ddpm")
    with archive_writer(tmp_path / "b.ddpm") as writer:
        writer.add_block(opened.read_block(0))
        writer.add_block(b"\7")
        writer.finish(opened.head, opened.images)
    check_refused(run("decode", tmp_path / "b.ddpm", "-o", tmp_path / "x"), "block 1 cannot be decoded")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.ddpm", "b.ddpm"]


@pytest.mark.parametrize(("extension", "why"), [("jpg", "would lose pixel values"), ("xyz", "is not a format")])
def test_lossy_and_unknown_targets(extension: str, why: str, photo_file: Path, run: Run, tmp_path: Path) -> None:
    check_refused(run("decode", photo_file, "-o", tmp_path / f"x.{extension}"), why)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_there(photo_file: Path, blocks_file: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    single, folder = tmp_path / "x.png", tmp_path / "out"
    single.write_bytes(b"mine")
    folder.mkdir()
    (folder / "grey.png").write_bytes(b"mine")
    for path, output in ((photo_file, single), (blocks_file[1], folder)):
        check_refused(run("decode", path, "-o", output), "already exists (use --overwrite to replace it)")
    assert single.read_bytes() == (folder / "grey.png").read_bytes() == b"mine"
    for path, output in ((photo_file, single), (blocks_file[1], folder)):
        assert run("decode", path, "-o", output, "--overwrite")[0] == 0
    assert pixels(single) == pixels(PHOTO)
    assert pixels(folder / "grey.png") == pixels(blocks_file[0] / "grey.png")
    assert not list(tmp_path.rglob(".*"))


def test_a_full_disk(photo_file: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for output in (tmp_path / "x.png", tmp_path / "out"):
        check_refused(run("decode", photo_file, "-o", output), f"{output}")
        check_refused(run("decode", photo_file, "-o", output), "No space left on device")
    output = tmp_path / "x.ddpm"
    check_refused(run("encode", PHOTO, "-o", output, "--model", "none"), f"{output}: cannot be written")
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_the_format_lacks_is_a_note(run: Run, tmp_path: Path) -> None:
    Image.open(PHOTO).save(tmp_path / "a.png", icc_profile=b"profile" * 9)
    assert run("encode", tmp_path / "a.png", "-o", tmp_path / "a.ddpm", "--model", "none")[0] == 0
    code, _, err = run("decode", tmp_path / "a.ddpm", "-o", tmp_path / "b.ppm")
    assert code == 0
    assert err == f"ddpm-codec: note: {tmp_path / 'b.ppm'}: ppm does not hold ICC metadata; it is left out\n"


def read_everything(path: Path) -> None:
    opened = read_archive(path)
    for index in range(len(opened.blocks)):
        opened.read_block(index)


@pytest.mark.slow
def test_every_byte_flipped_and_every_cut(photo_file: Path, tmp_path: Path) -> None:
    good = photo_file.read_bytes()
    bad = tmp_path / "bad.ddpm"
    for at in range(len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 1 << at * 5 % 8
        for data in (bytes(damaged), good[:at]):
            bad.write_bytes(data)
            with pytest.raises(FormatError, match=r"bad\.ddpm: "):
                read_everything(bad)
