"""Runs that are killed, and go on: every picture there once, no finished shard coded twice, nothing half-written.

The program and Ray are real, the model is not: the fallback codes the same way and loads no torch.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.processes import descendants
from ddpm_codec.bulk import BulkOptions, bulk_encode, bulk_verify
from ddpm_codec.bulk.places import Place
from ddpm_codec.bulk.rows import read_facts
from tests.helpers import leftovers

PICTURES = 1200
PER_SHARD = 20
SHARDS = PICTURES // PER_SHARD


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, a few of them broken."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        path = folder / f"{number:05d}.png"
        Image.fromarray(pixels).save(path)
        if number % 400 == 7:
            path.write_bytes(path.read_bytes()[:50])
    return folder


def command(many: Path, out: Path) -> list[str]:
    words = ["bulk", "encode", many, out, "--model", "none", "--shard-images", PER_SHARD, "--workers", 2, "--json"]
    return [sys.executable, "-m", "ddpm_codec_cli", *map(str, words)]


def workers_of(pid: int) -> list[int]:
    """Return the processes in which a run's workers are."""
    found = []
    for number in descendants(pid):
        with suppress(OSError):
            if Path(f"/proc/{number}/cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(number)
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program, and leave none of its processes behind."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    everything: list[int] = []
    try:
        yield process
        everything = descendants(process.pid)
    finally:
        everything += descendants(process.pid)
        process.kill()
        process.communicate()
        kill(everything)


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return the finished shards, with what a second writing would change."""
    done = {}
    for sidecar in out.glob("*.rows.parquet"):
        shard = sidecar.with_name(sidecar.name.replace(".rows.parquet", ".ddpm")).stat()
        done[sidecar.name] = shard.st_ino, shard.st_mtime_ns
    return done


def wait_for(out: Path, shards: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until so many shards are finished, or the run is."""
    limit = time.monotonic() + 120
    while len(list(out.glob("*.rows.parquet"))) < shards and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.01)


def check_finished(out: Path) -> None:
    """Check that what sidecars say of their shards is so, whatever was killed."""
    place = Place(str(out))
    for sidecar in out.glob("*.rows.parquet"):
        facts = read_facts(place, sidecar.name.removesuffix(".rows.parquet"))
        data = (out / f"{facts.shard}.ddpm").read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (facts.file_bytes, facts.sha256)


def check_whole(many: Path, out: Path) -> None:
    """Check that the run is finished, and that everything is there once; where ``here`` does the decoding."""
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert [row["name"] for row in rows] == sorted(path.name for path in many.iterdir())
    assert sum(bool(row["failure"]) for row in rows) == 3
    assert sorted(path.name for path in out.glob("*.ddpm")) == [f"shard-{n:06d}.ddpm" for n in range(SHARDS)]
    assert not leftovers(out)
    report = bulk_verify(str(out))
    assert (report.pictures, report.failures, report.wrong) == (PICTURES - 3, 3, [])
    # One worker, in this process and never killed, writes the same bytes.
    calm = out.with_name("calm")
    bulk_encode(str(many), str(calm), BulkOptions(model="none", shard_images=PER_SHARD))
    for shard in calm.glob("*.ddpm"):
        assert shard.read_bytes() == (out / shard.name).read_bytes()


def go_on(many: Path, out: Path) -> None:
    """Start the run again, and let it end."""
    before = finished(out)
    done = subprocess.run(command(many, out), capture_output=True, check=False, timeout=280)
    # Three pictures are broken.
    assert done.returncode == 1, done.stderr.decode()
    assert done.stderr.count(b"failed: ") == 3
    assert before.items() <= finished(out).items(), "a finished shard was written again"


def driver(pid: int) -> list[int]:
    return [pid]


def everything(pid: int) -> list[int]:
    return [pid, *descendants(pid)]


@pytest.mark.usefixtures("here")
def test_a_run_whose_workers_and_then_driver_are_killed_goes_on(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(command(many, out)) as process:
        wait_for(out, 3, process)
        first = finished(out)
        kill(workers_of(process.pid))
        # New workers take their shards.
        wait_for(out, len(first) + 5, process)
        assert process.poll() is None
        before = finished(out)
        kill([process.pid])
    assert first.items() <= before.items() <= finished(out).items(), "a finished shard was written again"
    assert len(first) < len(finished(out)) < SHARDS
    check_finished(out)
    go_on(many, out)
    check_whole(many, out)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("victims", [workers_of, driver, everything])
def test_ten_kills_at_random_times(many: Path, tmp_path: Path, victims: Callable[[int], list[int]]) -> None:
    out = tmp_path / "out"
    times = random.Random(victims.__name__)
    kills = 0
    shards = times.sample([0, 0, 1, 1, 1, 2, 2, 3, 5, 8], 10)
    for more in shards:
        for sidecar in sorted(out.glob("*.rows.parquet")) if len(finished(out)) > SHARDS // 3 else []:
            # The fallback is fast: so that there is something to kill in every round.
            if times.random() < 0.9:
                sidecar.unlink()
        with running(command(many, out)) as process:
            wait_for(out, len(finished(out)) + more, process)
            # At the very start, when Ray has hardly begun, or a moment after some shard.
            time.sleep(times.uniform(0, 0.1))
            before = finished(out)
            found = victims(process.pid)
            kills += bool(found) and process.poll() is None
            kill(found)
            if victims is workers_of:
                time.sleep(times.uniform(0, 2))
        assert before.items() <= finished(out).items(), "a finished shard was written again"
        check_finished(out)
    # A few come before a worker is there, or after the end.
    assert kills >= 5
    go_on(many, out)
    check_whole(many, out)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_one_line(many: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    out = tmp_path / "out"
    with running(command(many, out)) as process:
        wait_for(out, 2, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.decode().splitlines()[-1].startswith("ddpm-codec: error: ")
    assert len(errors.splitlines()) == 1
    check_finished(out)
    assert not leftovers(out)
