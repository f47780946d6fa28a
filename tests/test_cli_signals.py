"""Signals to the real program: one line, exit code 128 and the signal's number, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm_codec
from tests.golden.regenerate import FLOAT
from tests.helpers import PHOTO, TINY, leftovers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
BEFORE_PUBLISHING = """
import sys, time
from ddpm_codec import atomic
def wait(path):
    print("here", flush=True)
    time.sleep(60)
atomic._sync = wait
from ddpm_codec_cli.main import main
sys.exit(main())
"""
"""The program, which stops for a minute where its output is complete and still has a temporary name."""


def start(*words: str | Path, program: str | None = None, **options: object) -> subprocess.Popen[str]:
    how = ["-m", "ddpm_codec_cli"] if program is None else ["-c", program]
    return subprocess.Popen(
        [sys.executable, *how, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"preexec_fn": heed_signals, **options},  # type: ignore[call-overload]
    )


def heed_signals() -> None:
    """Undo what a shell does to programs in the background, which is to let them ignore SIGINT."""
    for number in WORDS:
        signal.signal(number, signal.SIG_DFL)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def until(happened: Callable[[], object], process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.002)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, small pictures, and a progressive file of one."""
    folder = tmp_path_factory.mktemp("signals")
    pixels = np.asarray(Image.open(PHOTO))
    Image.fromarray(pixels[:32, :32]).save(folder / "small.png")
    np.save(folder / "tiles.npy", pixels[None, :32, :32])
    (folder / "small.ddpm").write_bytes(ddpm_codec.encode(pixels[:32, :32], progressive=True, bpp=9.0))
    return folder


COMMANDS = {
    "encode": ("encode", TINY, "-o", "{}/x.ddpm", "--model", "none"),
    "progressive": ("progressive", "small.ddpm", "-o", "{}/x.png"),
    "sample": ("sample", "-o", "{}/x.png", "--model", FLOAT, "--steps", "2", "--count", "1", "--size", "16x16"),
    "bpd": ("bpd", "tiles.npy", "--model", FLOAT, "--steps", "2", "--plot", "{}/x.svg"),
    "rd": ("rd", "small.png", "-o", "{}/x", "--model", FLOAT, "--peers", "none", "--metrics", "psnr"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_leaves_no_temporary_file_and_no_half_output(name: str, folder: Path, tmp_path: Path) -> None:
    words = [str(word).format(tmp_path) for word in COMMANDS[name]]
    process = start(*words, program=BEFORE_PUBLISHING, cwd=folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    number = signal.SIGHUP if name == "progressive" else signal.SIGTERM
    process.send_signal(number)
    code, out, err = end(process)
    assert (code, out, err) == (128 + number, "", f"ddpm-codec: error: {WORDS[number]}\n")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("number", WORDS)
def test_signals_while_a_file_is_decoded(number: signal.Signals, photo_file: Path, tmp_path: Path) -> None:
    process = start("decode", photo_file, "-o", tmp_path / "x.png")
    until(lambda: leftovers(tmp_path), process)
    process.send_signal(number)
    # A second one, as a terminal that closes sends, does not disturb the cleaning up.
    process.send_signal(signal.SIGTERM)
    code, out, err = end(process)
    assert (code, out) == (128 + number, "")
    assert err == f"ddpm-codec: error: {WORDS[number]}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_an_archive_is_verified(tmp_path: Path) -> None:
    old = tmp_path / "x.ddpm"
    old.write_bytes(b"old")
    process = start("encode", PHOTO, "-o", old, "--verify", "--overwrite")
    until(lambda: leftovers(tmp_path), process)
    process.terminate()
    code, _, err = end(process)
    assert (code, err) == (143, "ddpm-codec: error: terminated\n")
    assert content(tmp_path) == {"x.ddpm": b"old"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_is_one_line(number: signal.Signals, tmp_path: Path) -> None:
    """Sent as soon as the program has its handlers, in the middle of the imports that follow."""
    program = (
        "import os, signal, sys\n"
        "from importlib.abc import MetaPathFinder\n"
        "class Finder(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == os.environ['AT']: os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from ddpm_codec_cli.main import main\n"
        "sys.exit(main())\n"
    )
    for module in ("click", "ddpm_codec.errors", "ddpm_codec.codecs.lossless.archive"):
        process = start("encode", TINY, "-o", tmp_path / "x.ddpm", program=program, env=os.environ | {"AT": module})
        code, out, err = end(process)
        assert (module, code, out, err) == (module, 128 + number, "", f"ddpm-codec: error: {WORDS[number]}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As ``nohup`` has it."""
    process = start(
        "encode",
        TINY,
        "-o",
        tmp_path / "x.ddpm",
        "--model",
        "none",
        program=BEFORE_PUBLISHING.replace("time.sleep(60)", "time.sleep(0.5)"),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGHUP)
    code, _, err = end(process)
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ddpm"]


def test_a_signal_lost_in_a_destructor_is_sent_again() -> None:
    program = (
        "import os, signal, sys, time\n"
        "from ddpm_codec_cli import process\n"
        "class Destroyed:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.01)\n"
        "try:\n"
        "    with process.interruptible():\n"
        "        Destroyed()\n"
        "        time.sleep(30)\n"
        "except process.Interrupted as error:\n"
        "    print(error, error.exit_code)\n"
    )
    code, out, err = end(start(program=program))
    assert (code, out, err) == (0, "terminated 143\n", "")


def test_a_signal_ends_the_workers_of_rd(tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(PHOTO))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for turn in range(2):
        Image.fromarray(np.rot90(pixels, turn)).save(pictures / f"{turn}.png")
    process = start("rd", pictures, "-o", tmp_path / "x", "--workers", "2", "--peers", "webp", "--metrics", "psnr")
    until(lambda: list((tmp_path / "x" / "crops").rglob("original.webp")), process)
    process.terminate()
    started = time.monotonic()
    code, _, err = end(process)
    assert code == 143
    assert err.splitlines()[-1] == "ddpm-codec: error: terminated"
    assert "Traceback" not in err
    # A worker would need far longer for the picture it is at.
    assert time.monotonic() - started < 20
    assert [path.name for path in tmp_path.rglob(".*")] == []


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGHUP))],
)
def test_training_writes_a_checkpoint_before_it_goes(number: signal.Signals, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "data.npy", rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8))
    words: list[str | Path] = ["train", tmp_path / "data.npy", "-o", tmp_path / "run", "--size", "tiny"]
    words += [
        "--crop",
        "16",
        "--batch",
        "4",
        "--holdout",
        "4",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--threads",
        "1",
        "--warmup",
        "1",
    ]
    words += ["--checkpoint-every", "100000", "--validate-every", "100000", "--log-every", "1"]
    process = start(*words, "--train-steps", "100000")
    log = tmp_path / "run" / "log.jsonl"
    until(lambda: log.exists() and log.stat().st_size, process)
    process.send_signal(number)
    code, out, err = end(process)
    last = tmp_path / "run" / "last.pt"
    assert (code, out) == (128 + number, "")
    assert err.splitlines()[-1] == (
        f"ddpm-codec: error: {WORDS[number]}; {last} is up to date; the same command continues"
    )
    assert leftovers(tmp_path / "run") == []
    from ddpm_codec.training.checkpoint import load_checkpoint

    logged = [int(step) for step in re.findall(r'"step": (\d+)', log.read_text())]
    assert load_checkpoint(last).step in (logged[-1], logged[-1] + 1)
