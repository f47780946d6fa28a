"""The real command line on real files, in processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers import PHOTO, SMALL, same


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "ddpm_codec_cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_line_encodes_and_decodes(tmp_path: Path) -> None:
    done = cli("encode", PHOTO, SMALL, "-o", tmp_path / "x.ddpm", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    keys = ("images", "dims", "pixels", "file_bytes", "file_bpd", "net_bpd", "seconds", "model", "device")
    assert all(key in report for key in keys)
    assert report["file_bytes"] == (tmp_path / "x.ddpm").stat().st_size
    done = cli("decode", tmp_path / "x.ddpm", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 2
    assert same(PHOTO, tmp_path / "out" / PHOTO.name)
    data = bytearray((tmp_path / "x.ddpm").read_bytes())
    data[-40] ^= 1
    (tmp_path / "bad.ddpm").write_bytes(data)
    done = cli("decode", tmp_path / "bad.ddpm", "-o", tmp_path / "none")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("ddpm-codec: error: ")
    assert done.stderr.count("\n") == 1


def test_light_commands_do_not_load_torch(photo_file: Path) -> None:
    script = (
        "import sys; from ddpm_codec_cli.main import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules and 77))"
    )
    for words in (["info", str(photo_file), "--json"], ["models", "--json"], ["--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
