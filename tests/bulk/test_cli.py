"""The command line of bulk: exit codes, lines, JSON."""

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpm_codec.bulk import Standing
from ddpm_codec_cli.bulk import progress_bar
from tests.helpers import Run

pytestmark = pytest.mark.usefixtures("here")


def test_encode_verify_decode_and_bpd(run: Run, pictures: Path, tmp_path: Path) -> None:
    words = ("bulk", "encode", pictures, tmp_path / "out", "--model", "none", "--shard-images", "5")
    code, out, err = run(*words)
    assert code == 0
    assert re.search(r"^pictures +12$", out, re.MULTILINE)
    assert f"note: left out: {pictures / 'a' / 'notes.txt'}" in err
    code, out, _ = run(*words, "--json")
    facts = json.loads(out)
    assert (code, facts["pictures"], facts["kept_shards"], facts["failures"]) == (0, 12, 3, [])
    assert facts["file_bpd"] == pytest.approx(8 * facts["file_bytes"] / facts["dims"])
    code, out, err = run("bulk", "verify", tmp_path / "out", "--json")
    assert (code, json.loads(out)["pictures"], err) == (0, 12, "")
    assert run("bulk", "decode", tmp_path / "out", tmp_path / "back")[0] == 0
    assert run("bulk", "decode", tmp_path / "out", tmp_path / "tars", "--to", "tar")[0] == 0
    assert len(list((tmp_path / "tars").glob("*.tar"))) == 3
    code, out, _ = run("bulk", "bpd", pictures, "--model", "cifar10", "--steps", "2", "--limit", "2", "--json")
    plain = json.loads(run("bpd", pictures, "--model", "cifar10", "--steps", "2", "--limit", "2", "--json")[1])
    assert code == 0
    assert json.loads(out)["total_bpd"] == pytest.approx(plain["total_bpd"], rel=1e-12)


def test_failures_are_the_last_lines_and_the_exit_code(run: Run, pictures: Path, tmp_path: Path) -> None:
    for number in range(12):
        (pictures / f"bad{number:02d}.png").write_bytes(b"nothing")
    code, out, err = run("bulk", "encode", pictures, tmp_path / "out", "--model", "none")
    assert code == 1
    assert re.search(r"^pictures that failed +12$", out, re.MULTILINE)
    lines = err.splitlines()[-11:]
    assert all(line.startswith("ddpm-codec: failed: ") for line in lines)
    assert lines[-1] == "ddpm-codec: failed: 2 more (the manifest names all)"
    code, out, err = run("bulk", "bpd", pictures, "--model", "cifar10", "--steps", "2")
    assert code == 1
    assert "bad00.png" in err


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["encode", "{src}", "{dst}", "--shard-images", "0"], 2, "0 is not in the range"),
        (["encode", "{src}", "{dst}", "--shard-images", "2", "--shard-pixels", "9"], 2, "give one of"),
        (["encode", "{src}", ""], 2, "empty"),
        (["encode", "{src}/absent", "{dst}"], 1, "no such file or folder"),
        (["encode", "{src}", "{dst}", "--model", "absent"], 1, "no such model"),
        (["encode", "{src}", "{dst}", "--strict", "--model", "none"], 1, "notes.txt: is no picture"),
        (["encode", "{src}", "{src}/a/01.png", "--model", "none"], 1, "01.png"),
        (["encode", "nowhere://x", "{dst}", "--model", "none"], 1, "nowhere://x"),
        (["verify", "{src}"], 1, "has no plan.json"),
        (["decode", "{src}", "{dst}"], 1, "has no plan.json"),
        (["bpd", "{src}", "--keep", "{src}/a", "--model", "cifar10"], 1, "choose an empty folder"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Run, pictures: Path, tmp_path: Path, words: list[str], code: int, line: str
) -> None:
    before = sorted(pictures.rglob("*"))
    found, out, err = run("bulk", *(word.format(src=pictures, dst=tmp_path / "out") for word in words))
    assert (found, out) == (code, "")
    assert line in err.splitlines()[-1]
    assert sorted(pictures.rglob("*")) == before


def test_help_loads_neither_ray_nor_torch() -> None:
    script = (
        "import sys; from ddpm_codec_cli.main import main; code = main(['bulk', 'encode', '--help'])\n"
        "print(code, sorted({'ray', 'torch', 'pyarrow', 'fsspec'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_coding_by_the_fallback_loads_no_torch(pictures: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom ddpm_codec.bulk.shard_encoder import *\nfrom ddpm_codec.bulk.plan import Plan\n"
        f"source = Source({str(pictures)!r})\n"
        "plan = Plan.of(source.listing().table, {'shard_images': 20, 'shard_pixels': None})\n"
        f"setting = Setting({str(pictures)!r}, {str(tmp_path / 'out')!r}, plan.identity, 'none')\n"
        "ShardEncoder(setting).run(Task('shard', plan.entries(0)))\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert (tmp_path / "out" / "shard.ddpm").exists()


def test_a_bar_says_that_it_starts_until_a_picture_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress_bar() as progress:
        progress(Standing(0, 20))
        assert "starting" in shown.last()
        progress(Standing(5, 20, dims=10**6))
        # Redrawn at most ten times a second.
        time.sleep(0.2)
        progress(Standing(10, 20, dims=2 * 10**6, coded_bytes=500_000, coded_dims=10**6))
        assert "starting" not in shown.last()
        assert "10.0/20.0" in shown.last()
        assert "4.000 bits/dim" in shown.last()


class Terminal(io.StringIO):
    """What a terminal was sent."""

    def isatty(self) -> bool:
        """Say so."""
        return True

    def last(self) -> str:
        """Return what was drawn last on the line."""
        return self.getvalue().rsplit("\r", 1)[-1]
