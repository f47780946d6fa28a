"""The real command line on real files, in processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers import SMALL, TINY, same


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "ddpm_codec_cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_line_encodes_and_decodes(tmp_path: Path) -> None:
    done = cli("encode", TINY, SMALL, "-o", tmp_path / "x.ddpm", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    keys = ("images", "dims", "pixels", "file_bytes", "file_bpd", "net_bpd", "seconds", "model", "device")
    assert all(key in report for key in keys)
    assert report["file_bytes"] == (tmp_path / "x.ddpm").stat().st_size
    done = cli("decode", tmp_path / "x.ddpm", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 2
    assert all(same(path, tmp_path / "out" / path.name) for path in (TINY, SMALL))
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
        "import sys; from ddpm_codec_cli.main import main; codes = main(sys.argv[1:]), main(['models', '--json']); "
        "sys.exit(any(codes) or ('torch' in sys.modules and 77))"
    )
    words = [sys.executable, "-c", script, "info", str(photo_file), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    info, models = map(json.loads, done.stdout.splitlines())
    assert (info["model"], info["images"]) == ("photo", 1)
    assert "photo" in [model["name"] for model in models["models"]]
