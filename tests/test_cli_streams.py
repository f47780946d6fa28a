"""Standard streams that are closed, full, or cannot show a character."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_codec.json_text import json_text
from ddpm_codec_cli.group import COMMANDS
from tests.helpers import TINY, Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="streams as POSIX has them")

ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CP1252 = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = f"{sys.executable} -m ddpm_codec_cli"
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("PROGRAM", program)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_a_standard_error_that_takes_nothing_changes_nothing(closed: str, tmp_path: Path) -> None:
    if "full" in closed and not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    wide = np.zeros((4, 6), np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.tiff", xmp=b"<x/>")
    usual = shell(f"PROGRAM encode {TINY} wide.tiff -o a.ddpm --model none", tmp_path)
    done = shell(f"PROGRAM encode {TINY} wide.tiff -o b.ddpm --model none {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (usual.returncode, b"")
    assert (tmp_path / "a.ddpm").read_bytes() == (tmp_path / "b.ddpm").read_bytes()
    # Notes: TIFF to PPM loses metadata.
    for number, redirection in enumerate(("", closed)):
        done = shell(f"PROGRAM decode a.ddpm -o out{number} {redirection}", tmp_path)
        assert done.returncode == 0
    first, second = (sorted(path.name for path in (tmp_path / f"out{number}").iterdir()) for number in range(2))
    assert first == second


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(("words", "code"), [("frob", 2), ("info missing.ddpm", 1), ("encode", 2)])
def test_errors_keep_their_exit_code(closed: str, words: str, code: int, tmp_path: Path) -> None:
    if "full" in closed and not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    done = shell(f"PROGRAM {words} {closed}", tmp_path)
    assert (done.returncode, done.stdout) == (code, b"")


def test_a_closed_standard_output_is_one_line(tmp_path: Path) -> None:
    done = shell("PROGRAM models --json >&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"ddpm-codec: error: standard output cannot be written")
    assert done.stderr.count(b"\n") == 1


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from ddpm_codec_cli.process import safe_streams\n"
        "safe_streams()\n"
        "number = os.open('x', os.O_CREAT | os.O_WRONLY)\n"
        "os._exit(number)\n"
    )
    line = f'exec {sys.executable} -c "{program}" <&- >&- 2>&-'
    assert shell(line, tmp_path).returncode > 2


@pytest.mark.parametrize("environment", [ASCII, C_LOCALE, CP1252], ids=["ascii", "C", "cp1252"])
def test_names_that_the_terminal_cannot_show_are_escaped(environment: dict[str, str], tmp_path: Path) -> None:
    names = ["日本é.png", os.fsdecode(b"\xff.png")]
    pixels = Image.open(TINY)
    for name in names[:1]:
        pixels.save(os.fsencode(tmp_path / name))
    encoding = environment.get("PYTHONIOENCODING", "ascii")
    done = shell("PROGRAM encode *.png -o a.ddpm --model none", tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = shell("PROGRAM info a.ddpm", tmp_path, **environment)
    assert (shown.returncode, shown.stderr) == (0, b"")
    text = shown.stdout.decode(encoding)
    assert "\\u65e5\\u672c" in text or r"\udce6" in text
    for words in ("info", "encode", "info --frobé"):
        failed = shell(f"PROGRAM {words} {names[0]}2", tmp_path, **environment)
        assert failed.returncode in (1, 2)
        assert b"Traceback" not in failed.stderr
        failed.stderr.decode(encoding)
    values = json.loads(shell("PROGRAM info a.ddpm --json", tmp_path, **environment).stdout.decode("ascii"))
    json.dumps(values, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_ascii(name: str, run: Run) -> None:
    code, out, _ = run(*filter(None, [name, "--help"]))
    assert code == 0
    assert out.isascii()


def test_json_has_no_lone_surrogates() -> None:
    text = json_text({"a\udcff": ["\udc80", ("é", 1.5, None, True)]})
    assert text == r'{"a\\udcff": ["\\udc80", ["\u00e9", 1.5, null, true]]}'
    with pytest.raises(ValueError, match="JSON"):
        json_text({"x": float("nan")})


def test_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    name = tmp_path / os.fsdecode(b"a\xff.ddpm")
    try:
        name.write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert (
        shell(f"PROGRAM encode {TINY} -o \"$(printf 'a\\377.ddpm')\" --overwrite --model none", tmp_path).returncode
        == 0
    )
    done = shell("PROGRAM info a*.ddpm --json", tmp_path)
    values = json.loads(done.stdout)
    json.dumps(values, ensure_ascii=False).encode("utf-8")
    assert "\\udcff.ddpm" in json.dumps(values, ensure_ascii=False).replace("\\\\", "\\")


def test_names_that_the_locale_cannot_write_are_one_line(tmp_path: Path) -> None:
    picture = tmp_path / "\u65e5\u672c.png"
    picture.write_bytes(TINY.read_bytes())
    assert shell(f"PROGRAM encode {TINY} '{picture.name}' -o a.ddpm --model none", tmp_path).returncode == 0
    done = shell("PROGRAM decode a.ddpm -o back", tmp_path, **C_LOCALE)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"ddpm-codec: error: \\u65e5\\u672c.png: no file can have this name under a locale of ascii\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ddpm", picture.name]
    assert shell("PROGRAM decode a.ddpm -o back", tmp_path).returncode == 0
