"""``-`` is standard input and standard output: pipes of real processes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.files import encode_files
from ddpm_codec.files.streams import read_stream
from tests.golden.regenerate import EXACT
from tests.helpers import SMALL, TINY, Run, same

PROGRAM = [sys.executable, "-m", "ddpm_codec_cli"]


def piped(data: bytes, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PROGRAM, *map(str, words)], input=data, capture_output=True, check=False, timeout=120)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_picture_goes_through_a_pipe(here: Path) -> None:
    program = " ".join(PROGRAM)
    line = f"cat {TINY} | {program} encode - -o - --model none | {program} decode - -o out.png"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert same(TINY, here / "out.png")
    assert os.listdir(here) == ["out.png"]


def test_standard_output_holds_the_file_and_nothing_else(here: Path) -> None:
    encoded = piped(TINY.read_bytes(), "encode", "-", SMALL, "-o", "-", "--model", "none", "--verify")
    assert (encoded.returncode, encoded.stderr) == (0, b"")
    described = piped(encoded.stdout, "info", "-", "--json")
    found = json.loads(described.stdout)
    assert [row["name"] for row in found["pictures"]] == [SMALL.name, "picture.png"]
    assert found["file_bytes"] == len(encoded.stdout)
    (here / "x.ddpm").write_bytes(encoded.stdout)
    several = piped(encoded.stdout, "decode", "-", "-o", "-", "--format", "png")
    assert (several.returncode, several.stdout) == (1, b"")
    assert several.stderr.startswith(b"ddpm-codec: error: standard output: is one picture file")
    assert piped(encoded.stdout, "decode", "-", "-o", "out", "--json").returncode == 0
    assert same(TINY, here / "out/picture.png")
    assert sorted(os.listdir(here)) == ["out", "x.ddpm"]


@pytest.mark.parametrize("format", ["png", "tiff", "ppm"])
def test_a_picture_is_decoded_to_standard_output(format: str, here: Path) -> None:
    with Image.open(TINY) as image:
        image.save(here / "a.png", icc_profile=b"profile" * 30)
    encode_files([here / "a.png"], here / "x.ddpm", model="none")
    done = piped(b"", "decode", "x.ddpm", "-o", "-", "--format", format)
    assert done.returncode == 0
    with Image.open(io.BytesIO(done.stdout)) as image, Image.open(TINY) as expected:
        assert image.format == format.upper()
        assert image.tobytes() == expected.tobytes()
    note = b"ddpm-codec: note: standard output: ppm does not hold ICC metadata; it is left out\n"
    assert done.stderr == (note if format == "ppm" else b"")
    assert sorted(os.listdir(here)) == ["a.png", "x.ddpm"]


def test_a_progressive_file_goes_through_a_pipe(here: Path) -> None:
    Image.effect_noise((8, 8), 90).convert("RGB").save(here / "a.png")
    done = piped((here / "a.png").read_bytes(), "encode", "-", "-o", "-", "--progressive", "--model", EXACT)
    assert (done.returncode, done.stderr) == (0, b"")
    back = piped(done.stdout, "decode", "-", "-o", "-", "--format", "png", "--model", EXACT)
    assert (back.returncode, back.stderr) == (0, b"")
    (here / "out.png").write_bytes(back.stdout)
    assert same(here / "a.png", here / "out.png")
    assert sorted(os.listdir(here)) == ["a.png", "out.png"]


@pytest.mark.parametrize(
    ("data", "words", "line"),
    [
        (b"", ["encode", "-", "-o", "x.ddpm"], "standard input: is empty"),
        (b"text", ["encode", "-", "-o", "x.ddpm"], "standard input: is not an image"),
        (TINY.read_bytes()[:300], ["encode", "-", "-o", "-"], "standard input: "),
        (b"", ["decode", "-", "-o", "x.png"], "standard input: is empty"),
        (b"text", ["decode", "-", "-o", "x.png"], "standard input: "),
        (b"text", ["info", "-"], "standard input: "),
        (b"text", ["encode", "missing.png", "-o", "-"], "missing.png: No such file"),
    ],
)
def test_an_error_names_standard_input(
    data: bytes, words: list[str], line: str, here: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"ddpm-codec: error: {line}")
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["encode", "-", "-", "-o", "x.ddpm"], "standard input (-) holds one picture and can be given once"),
        (["encode", "a.png", "-o", "-", "--json"], "standard output takes the file or --json, not both"),
        (["decode", "x.ddpm", "-o", "-", "--json", "--format", "png"], "standard output takes the file or --json"),
        (["decode", "x.ddpm", "-o", "-"], "standard output needs --format"),
        (["progressive", "-", "-o", "x.png"], "standard input and output are not used here"),
        (["progressive", "x.ddpm", "-o", "-"], "standard input and output are not used here"),
        (["bpd", "-"], "standard input and output are not used here"),
        (["rd", "a.png", "-o", "-"], "standard input and output are not used here"),
        (["sample", "-o", "-"], "standard input and output are not used here"),
        (["export", "run", "-o", "-"], "standard input and output are not used here"),
        (["train", "-", "-o", "run"], "standard input and output are not used here"),
        (["encode", "a.png", "-o", "x.ddpm", "--model", "-"], "standard input and output are not used here"),
    ],
)
def test_where_a_stream_makes_no_sense_it_is_refused(words: list[str], line: str, here: Path, run: Run) -> None:
    (here / "a.png").write_bytes(TINY.read_bytes())
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert line in err
    assert os.listdir(here) == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["encode", str(TINY), "-o", "-"], "standard output is a terminal"),
        (["decode", "x.ddpm", "-o", "-", "--format", "png"], "standard output is a terminal"),
        (["info", "-"], "standard input is a terminal"),
    ],
)
def test_a_terminal_is_not_sent_bytes(words: list[str], line: str, here: Path) -> None:
    outer, inner = os.openpty()
    try:
        done = subprocess.run(
            [*PROGRAM, *words], stdin=inner, stdout=inner, stderr=subprocess.PIPE, check=False, timeout=120
        )
    finally:
        os.close(inner)
        os.close(outer)
    assert done.returncode == 2
    assert line in done.stderr.decode()


def test_a_closed_standard_input(here: Path) -> None:
    line = f"{' '.join(PROGRAM)} info - <&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"ddpm-codec: error: standard input: is empty\n"


def test_a_reader_that_goes_away_ends_the_work_quietly(here: Path) -> None:
    """As with ``| head -c 1``: more bytes than a pipe holds, and nobody who takes them."""
    Image.effect_noise((600, 600), 90).save(here / "a.png")
    line = f"{' '.join(PROGRAM)} encode a.png -o - --model none | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (1, b"")
    assert os.listdir(here) == ["a.png"]


def test_a_stream_has_a_limit() -> None:
    assert read_stream(io.BytesIO(b"12345"), max_bytes=5) == b"12345"
    with pytest.raises(InputError, match=r"^standard input: has more than 4 bytes"):
        read_stream(io.BytesIO(b"12345"), max_bytes=4)
