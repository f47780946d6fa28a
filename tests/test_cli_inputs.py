"""What ``encode`` takes of the files and folders that it is given: all of it comes back, or is named."""

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.errors import InputError, LeftOutError, RefusedInputsError
from ddpm_codec.files import EncodeOptions, StreamPicture, describe_file, encode, encode_files
from tests.golden.regenerate import EXACT
from tests.helpers import PHOTO, SMALL, TINY, Run, pixels

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def save(path: Path, colour: int = 0, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (colour, 7, 9)).save(path, kind)
    return path


def names(path: Path) -> list[str]:
    return [row["name"] for row in describe_file(path).to_json()["pictures"]]


def left_out(out: str) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in json.loads(out)["left_out"]}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cut(path: Path) -> Path:
    """Write a PNG with a sound header whose pixels end early."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PHOTO.read_bytes()[:3000])
    return path


def test_pictures_in_a_folder_are_found_by_extension_or_content(run: Run, here: Path) -> None:
    expected = ["a.JFIF", "b.apng", "c.mpo", "d", "e.dat", "photo.heic", "sub/f.Png"]
    for name, kind in zip(expected, ("JPEG", "PNG", "MPO", "TIFF", "WEBP", "JPEG", "PNG"), strict=True):
        save(here / "in" / name, kind=kind)
    code, out, err = run("encode", "in", "-o", "x.ddpm", "--model", "none", "--json")
    assert (code, err) == (0, "")
    assert (json.loads(out)["left_out"], json.loads(out)["refused"]) == ([], [])
    assert names(here / "x.ddpm") == expected
    assert run("encode", "in", "-o", "y.ddpm", "--model", "none", "--strict")[0] == 0
    assert (here / "x.ddpm").read_bytes() == (here / "y.ddpm").read_bytes()


def others(folder: Path) -> dict[str, str]:
    """Put a picture and all that is none into a folder; return what is left out, and why."""
    save(folder / "a.png")
    for name, data in {
        "notes.txt": b"BM is not always a bitmap",
        "none": b"",
        "b.heic": HEIC,
        "c.bin": HEIC,
        "d.jxl": b"\xff\x0a" + bytes(20),
        "old.ddpm": b"anything",
        ".hidden.png": b"",
    }.items():
        (folder / name).write_bytes(data)
    save(folder / "raw.dng", kind="TIFF")
    save(folder / ".git/x.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "round.png").symlink_to("round.png")
    os.mkfifo(folder / "pipe.png")
    return {
        "notes.txt": "is no picture of a format that is read",
        "none": "is no picture of a format that is read",
        "b.heic": "HEIC is a format that cannot be read",
        "c.bin": "HEIC is a format that cannot be read",
        "d.jxl": "JPEG XL is a format that cannot be read",
        "old.ddpm": "is a .ddpm file",
        ".hidden.png": "is hidden",
        "raw.dng": "is a camera raw file, of which only the preview could be read",
        ".git": "is hidden",
        "gone.png": "is a broken link",
        "round.png": "cannot be read (Too many levels of symbolic links)",
        "pipe.png": "is not a regular file",
    }


def test_what_is_left_out_of_a_folder_is_named(run: Run, here: Path) -> None:
    (here / "in").mkdir()
    expected = {f"in/{name}": why for name, why in others(here / "in").items()}
    code, out, err = run("encode", "in", "-o", "in/old.ddpm", "--overwrite", "--model", "none", "--json")
    # The output may lie in the folder.
    del expected["in/old.ddpm"]
    assert code == 0
    assert left_out(out) == expected
    lines = err.splitlines()
    assert lines == [
        *(f"ddpm-codec: note: left out: {name}: {expected[name]}" for name in sorted(expected)[:10]),
        "ddpm-codec: note: left out: 1 more (--json lists them all)",
    ]
    assert names(here / "in/old.ddpm") == ["a.png"]


def test_strict_refuses_to_leave_anything_out(run: Run, here: Path) -> None:
    (here / "in").mkdir()
    expected = {f"in/{name}": why for name, why in others(here / "in").items()}
    code, out, err = run("encode", "in", SMALL, "-o", "x.ddpm", "--strict", "--model", "none", "--json")
    assert code == 1
    assert left_out(out) == expected
    assert err.splitlines()[-1] == "ddpm-codec: error: 12 files would be left out; nothing was written"
    assert err.splitlines()[-2] == "ddpm-codec: note: left out: 2 more (--json lists them all)"
    assert not (here / "x.ddpm").exists()
    save(here / "one/a.png")
    (here / "one/Thumbs.db").write_bytes(b"1")
    code, out, err = run("encode", "one", "-o", "x.ddpm", "--strict", "--model", "none")
    assert (code, out) == (1, "")
    assert err == "ddpm-codec: error: one/Thumbs.db: is no picture of a format that is read; nothing may be left out\n"
    with pytest.raises(LeftOutError) as caught:
        encode_files([Path("one")], here / "x.ddpm", model="none", strict=True)
    assert caught.value.left_out == (("one/Thumbs.db", "is no picture of a format that is read"),)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets in the file system")
def test_a_socket_is_left_out(run: Run, here: Path) -> None:
    save(here / "in/a.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("in/s.png")
        code, out, _ = run("encode", "in", "-o", "x.ddpm", "--model", "none", "--json")
    assert (code, left_out(out)) == (0, {"in/s.png": "is not a regular file"})


def test_a_folder_without_pictures_says_what_it_has(run: Run, here: Path) -> None:
    (here / "in").mkdir()
    (here / "in/a.heic").write_bytes(HEIC)
    code, _, err = run("encode", "in", "-o", "x.ddpm")
    assert (code, err.splitlines()) == (
        1,
        [
            "ddpm-codec: note: left out: in/a.heic: HEIC is a format that cannot be read",
            "ddpm-codec: error: in: the folder has no pictures",
        ],
    )


def test_linked_folders_are_followed_once(run: Run, here: Path) -> None:
    save(here / "elsewhere/deep/b.png", 1)
    save(here / "in/a.png", 2)
    save(here / "in/z/c.png", 3)
    for name, target in {"in/link": "../elsewhere", "in/up": "..", "in/z/again": "../../in", "in/0z": "z"}.items():
        (here / name).symlink_to(target)
    (here / "elsewhere/back").symlink_to("../in")
    code, out, _ = run("encode", "in", "-o", "x.ddpm", "--model", "none", "--json")
    assert code == 0
    assert names(here / "x.ddpm") == ["a.png", "link/deep/b.png", "z/c.png"]
    reasons = {
        "in/0z": "in/z",
        "in/link/back": "in",
        "in/up/elsewhere": "in/link",
        "in/up/in": "in",
        "in/z/again": "in",
    }
    assert left_out(out) == {
        path: f"is the folder {before}, which is included already" for path, before in reasons.items()
    }


def test_a_link_is_a_second_name(run: Run, here: Path) -> None:
    save(here / "in/a.png", 5)
    (here / "in/b.png").symlink_to("a.png")
    os.link(here / "in/a.png", here / "in/c.png")
    code, out, err = run("encode", "in", "-o", "x.ddpm", "--model", "none", "--json", "--strict")
    assert (code, err, json.loads(out)["images"]) == (0, "", 3)
    assert names(here / "x.ddpm") == ["a.png", "b.png", "c.png"]
    assert run("encode", "in/a.png", "in/b.png", "-o", "y.ddpm", "--model", "none")[0] == 0
    assert run("decode", "y.ddpm", "-o", "out")[0] == 0
    assert pixels(here / "out/a.png") == pixels(here / "out/b.png") == pixels(here / "in/a.png")


@pytest.mark.parametrize("again", ["a.png", "./a.png", "sub/../a.png", "."])
def test_the_same_path_twice_is_refused(again: str, run: Run, here: Path) -> None:
    save(here / "a.png")
    (here / "sub").mkdir()
    code, _, err = run("encode", "a.png", again, "-o", "x.ddpm", "--model", "none")
    assert (code, err.count("\n")) == (1, 1)
    assert "a.png: is given twice" in err


def test_a_file_in_two_given_folders_is_given_twice(run: Run, here: Path) -> None:
    (here / "mix/2020").mkdir(parents=True)
    save(here / "mix/2020/i.png")
    code, _, err = run("encode", "mix/2020", "mix", "-o", "x.ddpm", "--model", "none")
    assert (code, err) == (1, "ddpm-codec: error: mix/2020/i.png: is given twice\n")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["2020/jan/i.png", "2021/jan/i.png"], ["2020/jan/i.png", "2021/jan/i.png"]),
        (["2020", "2021"], ["feb/k.png", "2020/jan/i.png", "2021/jan/i.png"]),
        (["2020/jan/i.png", "feb/jan/i.png", "2020/feb/k.png"], ["2020/jan/i.png", "feb/jan/i.png", "k.png"]),
        (["jan/i.png", "feb/jan/i.png"], ["HERE/jan/i.png", "feb/jan/i.png"]),
        (["2020/feb/../jan/i.png", "2021/jan/i.png"], ["2020/jan/i.png", "2021/jan/i.png"]),
    ],
)
def test_names_keep_what_tells_them_apart(given: list[str], expected: list[str], run: Run, here: Path) -> None:
    for index, name in enumerate(("2020/jan", "2021/jan", "jan", "feb/jan")):
        save(here / name / "i.png", index)
    save(here / "2020/feb/k.png", 9)
    assert run("encode", *given, "-o", "x.ddpm", "--model", "none")[0] == 0
    assert names(here / "x.ddpm") == [name.replace("HERE", here.name) for name in expected]
    assert run("decode", "x.ddpm", "-o", "out")[0] == 0
    if given[0] == "2020":
        assert pixels(here / "out/2021/jan/i.png") == pixels(here / "2021/jan/i.png")


EMPTY = [
    ["encode", "", "-o", "x.ddpm"],
    ["encode", "a.png", "", "-o", "x.ddpm"],
    ["encode", "a.png", "-o", ""],
    ["encode", "a.png", "-o", "x.ddpm", "--model", ""],
    ["decode", "", "-o", "b.png"],
    ["decode", "x.ddpm", "-o", ""],
    ["decode", "x.ddpm", "-o", "b.png", "--model", ""],
    ["info", ""],
    ["progressive", "", "-o", "b.png"],
    ["progressive", "x.ddpm", "-o", ""],
    ["progressive", "x.ddpm", "-o", "b.png", "--reference", ""],
    ["bpd", ""],
    ["bpd", "a.png", "--plot", ""],
    ["bpd", "a.png", "--decoder", ""],
    ["rd", "", "-o", "out"],
    ["rd", "a.png", "-o", ""],
    ["sample", "-o", ""],
    ["sample", "-o", "b.png", "--data", ""],
    ["calibrate", "", "a.png"],
    ["calibrate", ".", ""],
    ["export", "", "-o", "m"],
    ["export", "run", "-o", ""],
    ["export", "run", "-o", "m", "--data", ""],
    ["train", "", "-o", "run"],
    ["train", "a.png", "-o", ""],
    ["train", "a.png", "-o", "run", "--config", ""],
    ["train", "-o", "run", "--fork", ""],
    ["train", "a.png", "-o", "run", "--validation", ""],
    ["train", "a.png", "-o", "run", "--init-from", ""],
]


@pytest.mark.parametrize("words", EMPTY, ids=lambda words: " ".join(word or "EMPTY" for word in words))
def test_an_empty_path_is_no_current_folder(words: list[str], run: Run, here: Path) -> None:
    save(here / "a.png")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert " empty" in err.splitlines()[-1]
    assert sorted(os.listdir(here)) == ["a.png"]


def test_an_empty_path_is_refused_by_the_library(here: Path) -> None:
    import ddpm_codec
    from ddpm_codec.files import decode_file

    save(here / "a.png")
    for call in (
        lambda: ddpm_codec.decode(""),
        lambda: ddpm_codec.open_archive(""),
        lambda: ddpm_codec.info(""),
        lambda: ddpm_codec.open_model(""),
        lambda: encode_files([""], "x.ddpm"),
        lambda: encode_files(["a.png"], ""),
        lambda: decode_file("", "b.png"),
        lambda: decode_file(b"", ""),
    ):
        with pytest.raises(ddpm_codec.DdpmCodecError, match="empty"):
            call()
    assert os.listdir(here) == ["a.png"]


@pytest.mark.parametrize("options", [("--model", "none"), ("--progressive", "--model", EXACT)])
def test_all_refused_pictures_are_named_at_once(options: tuple[str, ...], run: Run, here: Path) -> None:
    save(here / "in/a.png")
    (here / "in/b.png").write_bytes(b"no picture")
    cut(here / "in/c.png")
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(here / "in/d.tiff", save_all=True, append_images=frames[1:])
    shutil.copy(TINY, here / "in/e.png")
    code, out, err = run(
        "encode", "in", "missing.png", "-o", "x.ddpm" if len(options) == 2 else "new", *options, "--json"
    )
    assert code == 1
    assert not (here / "x.ddpm").exists()
    assert not (here / "new").exists()
    # The header of c.png is sound, but once there is something to report, its damage is too.
    expected = ["missing.png", "in/b.png", "in/d.tiff", "in/c.png"]
    assert [entry["path"] for entry in json.loads(out)["refused"]] == expected
    *lines, last = err.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [["ddpm-codec", "refused", name] for name in expected]
    assert last == "ddpm-codec: error: 4 of 6 inputs are refused; nothing was written"


def test_headers_are_checked_before_anything_is_coded(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_codec.codecs.lossless.archive import ArchiveEncoder

    def coded(*_: object) -> None:
        raise AssertionError("coded before all headers were checked")

    save(here / "in/a.png")
    (here / "in/z.png").write_bytes(b"no picture")
    monkeypatch.setattr(ArchiveEncoder, "add", coded)
    code, _, err = run("encode", "in", "-o", "x.ddpm", "--model", "none")
    assert (code, err.count("\n")) == (1, 1)
    assert "in/z.png" in err


@pytest.mark.parametrize("options", [("--model", "none"), ("--progressive", "--model", EXACT)])
def test_damage_that_only_decoding_shows_is_named_too(options: tuple[str, ...], run: Run, here: Path) -> None:
    for name in ("in/b.png", "in/sub/d.png"):
        cut(here / name)
    for name in ("in/a.png", "in/c.png", "in/sub/e.png"):
        save(here / name)
    code, out, err = run("encode", "in", "-o", "new", *options, "--json")
    assert code == 1
    assert os.listdir(here) == ["in"]
    assert [entry["path"] for entry in json.loads(out)["refused"]] == ["in/b.png", "in/sub/d.png"]
    *lines, last = err.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["ddpm-codec", "refused", name] for name in ("in/b.png", "in/sub/d.png")
    ]
    assert last == "ddpm-codec: error: 2 of 5 inputs are refused; nothing was written"


def test_keep_going_packs_the_others(run: Run, here: Path) -> None:
    good = ["in/a.png", "in/d.png"]
    for index, name in enumerate(good):
        save(here / name, index)
    (here / "in/b.png").write_bytes(b"no picture")
    cut(here / "in/c.png")
    words = ("encode", "in", "missing", "-o", "x.ddpm", "--model", "none", "--verify", "--keep-going")
    code, out, err = run(*words, "--json")
    assert code == 1
    refused = json.loads(out)["refused"]
    assert [entry["path"] for entry in refused] == ["missing", "in/b.png", "in/c.png"]
    assert json.loads(out)["images"] == 2
    assert err.splitlines() == [f"ddpm-codec: refused: {entry['path']}: {entry['reason']}" for entry in refused]
    assert names(here / "x.ddpm") == ["a.png", "d.png"]
    assert run("decode", "x.ddpm", "-o", "out")[0] == 0
    assert all(pixels(here / name) == pixels(here / "out" / Path(name).name) for name in good)
    code, out, _ = run(*words, "--overwrite")
    assert code == 1
    assert out.splitlines()[0].split() == ["images", "2"]


def test_keep_going_writes_the_other_progressive_files(run: Run, here: Path) -> None:
    save(here / "in/a.png")
    cut(here / "in/sub/c.png")
    words = ("encode", "in", "-o", "new", "--progressive", "--model", EXACT, "--keep-going")
    code, out, err = run(*words, "--json")
    assert (code, err.count("\n")) == (1, 1)
    found = json.loads(out)
    assert (found["images"], found["file"]) == (1, "new/a.ddpm")
    assert [entry["path"] for entry in found["refused"]] == ["in/sub/c.png"]
    assert [path.as_posix() for path in sorted(Path("new").rglob("*"))] == ["new/a.ddpm"]


def test_keep_going_with_nothing_good_is_an_error(run: Run, here: Path) -> None:
    cut(here / "a.png")
    (here / "b.png").write_bytes(b"no picture")
    code, out, err = run("encode", "a.png", "b.png", "-o", "x.ddpm", "--model", "none", "--keep-going")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "ddpm-codec: error: 2 of 2 inputs are refused; nothing was written"
    assert sorted(os.listdir(here)) == ["a.png", "b.png"]


def test_a_picture_that_cannot_be_cut_is_found_first(run: Run, here: Path) -> None:
    save(here / "in/a.png")
    Image.new("L", (4, 4)).save(here / "in/grey.png")
    words = ("encode", "in", "-o", "new", "--progressive", "--bpp", "1", "--model", EXACT)
    code, _, err = run(*words)
    assert (code, err.count("\n")) == (1, 1)
    assert "in/grey.png: mode L cannot be progressive" in err
    assert os.listdir(here) == ["in"]


def test_the_error_has_the_list(here: Path) -> None:
    cut(here / "a.png")
    data = TINY.read_bytes()[:200]
    with pytest.raises(RefusedInputsError, match=r"^2 of 3 inputs are refused; nothing was written$") as caught:
        encode([SMALL, here / "a.png", StreamPicture(data)], here / "x.ddpm", EncodeOptions(model="none"))
    assert isinstance(caught.value, InputError)
    assert {one.path for one in caught.value.refused} == {"standard input", str(here / "a.png")}
    assert all(one.reason for one in caught.value.refused)


def test_strict_and_refused_lists_are_whole_in_json(run: Run, here: Path) -> None:
    """Beyond the ten that standard error shows."""
    save(here / "in/a.png")
    for index in range(30):
        (here / f"in/{index:02d}.txt").write_bytes(b"text")
    code, out, err = run("encode", "in", "-o", "x.ddpm", "--model", "none", "--json")
    assert (code, len(left_out(out)), err.count("\n")) == (0, 30, 11)


def test_a_name_that_no_archive_can_have_is_refused_by_name(run: Run, here: Path) -> None:
    save(here / "in/a.png")
    save(here / "in/b\\c.png")
    code, _, err = run("encode", "in", "-o", "x.ddpm", "--model", "none")
    assert (code, err.count("\n")) == (1, 1)
    assert "is not a plain relative path" in err
    assert run("encode", "in", "-o", "x.ddpm", "--model", "none", "--keep-going")[0] == 1
    assert names(here / "x.ddpm") == ["a.png"]


def test_pictures_come_back_from_odd_places(run: Run, here: Path) -> None:
    """A file named like standard input, by its path."""
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(here / "-", "PNG")
    assert run("encode", "./-", "-o", "x.ddpm", "--model", "none")[0] == 0
    assert names(here / "x.ddpm") == ["-"]
    assert run("decode", "x.ddpm", "-o", "out.png")[0] == 0
    assert pixels(here / "out.png") == pixels(here / "-")
