"""Tasks on Ray itself: results, workers that die, errors of every kind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.processes import descendants
from ddpm_codec.bulk import BulkOptions, Cluster, bulk_encode
from ddpm_codec.bulk.engine import ATTEMPTS, Board, Failed, Worker, connected, job, raise_fatal
from ddpm_codec.bulk.tally import Tally
from ddpm_codec.errors import InputError, ModelError, OutputError
from tests.bulk.conftest import Told
from tests.bulk.jobs import Echo

pytest.importorskip("ray")


def test_what_becomes_of_tasks(tmp_path: Path) -> None:
    tasks = ["damaged", "dies", *(f"task {n}" for n in range(20)), "defect", "dies once"]
    seen: list[Tally] = []
    with connected(Cluster(workers=2)) as pool:
        outcomes = dict(pool.run(job(Echo, str(tmp_path)), tasks, seen.append))
        attempts = len(list(tmp_path.iterdir()))
        # What no other task can succeed after ends a run at once.
        with pytest.raises(OutputError, match="No space left on device"):
            list(pool.run(job(Echo, str(tmp_path)), ["disk full", *["later"] * 20], lambda _: None))
    assert outcomes.keys() == set(tasks)
    good = {task: result for task, result in outcomes.items() if not isinstance(result, Failed)}
    assert good.keys() == {*(f"task {n}" for n in range(20)), "dies once"}
    assert all(result[0] == task for task, result in good.items())
    assert {result[2] for result in good.values()} == {"1"}
    # Two workers, and one more for each that died.
    assert 2 <= len({result[1] for result in good.values()}) <= 2 + ATTEMPTS + 1
    assert outcomes["damaged"] == Failed("is damaged")
    assert outcomes["defect"] == Failed("ZeroDivisionError: by zero")
    died = outcomes["dies"]
    assert isinstance(died, Failed)
    assert died.fatal is None
    assert died.reason.startswith(f"its worker died {ATTEMPTS} times (")
    assert died.reason.endswith("); there may not be enough memory")
    # One attempt each, but for those whose worker died.
    assert attempts == len(tasks) + (ATTEMPTS - 1) + 1
    assert len(list(tmp_path.glob("later.*"))) < 20
    assert seen
    assert all(one.dims == 10 * one.pictures <= 10 * len(tasks) for one in seen)


def test_a_job_that_cannot_be_made_is_fatal() -> None:
    result = Worker(job(Echo, "no model"), Told()).run(0, "a")
    assert result == Failed("no such model", ModelError)
    with pytest.raises(ModelError, match="no such model"):
        raise_fatal(result)


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray finds whatever runs on this machine, so that nothing running is not sure.
    def init(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify another one.")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(InputError) as refusal, connected(Cluster("auto")):
        pass
    assert str(refusal.value) == "Ray at auto: cannot be reached (Could not find any running Ray instance.)"


def test_the_board_counts_a_task_once() -> None:
    board = Board()
    for done in (Tally(1, 5), Tally(2, 10), Tally(0), Tally(1, 5)):
        board.tell(1, done)
    board.tell(2, Tally(3, 30, 7), ended=True)
    assert board.total() == Tally(4, 35, 7)
    board.tell(1, Tally(2, 10), ended=True)
    assert board.total() == Tally(5, 40, 7)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "ray://[::1]:1"])
def test_an_address_where_nobody_listens_is_one_line_at_once(address: str) -> None:
    with pytest.raises(InputError, match="cannot be reached") as refusal, connected(Cluster(address)):
        pass
    assert "\n" not in str(refusal.value)


def test_a_token_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        # As Ray 2.60 has it.
        reason = RuntimeError("Failed to connect to GCS. Last: ray.exceptions.AuthenticationError: InvalidAuthToken")
        raise ConnectionError("Failed to connect to Ray cluster") from reason

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(InputError, match="asks for a token: set RAY_AUTH_MODE=token"), connected(Cluster("auto")):
        pass


@pytest.mark.slow
def test_workers_of_a_cluster_that_runs_write_the_same_shards(pictures: Path, tmp_path: Path) -> None:
    how = BulkOptions(model="none", shard_images=4)
    with running_cluster(tmp_path) as port:
        report = bulk_encode(str(pictures), str(tmp_path / "there"), how, Cluster(f"127.0.0.1:{port}"))
    assert (report.pictures, report.shards) == (12, 3)
    bulk_encode(str(pictures), str(tmp_path / "here"), how, Cluster(workers=1))
    for shard in (tmp_path / "here").glob("*.ddpm"):
        assert shard.read_bytes() == (tmp_path / "there" / shard.name).read_bytes()


@contextmanager
def running_cluster(folder: Path) -> Iterator[int]:
    """Start Ray as an administrator does; give its port."""
    port = free_port()
    program = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus", "2"]
    options = {"port": port, "ray-client-server-port": free_port(port + 1), "include-dashboard": "false"}
    words = [*map(str, program), *(f"--{name}={value}" for name, value in options.items())]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        with (folder / "ray.log").open("wb") as log:
            process = subprocess.Popen([*words, f"--temp-dir={place}"], stdout=log, stderr=log, env=environment)
        try:
            limit = time.monotonic() + 60
            while "Ray runtime started" not in (folder / "ray.log").read_text():
                assert process.poll() is None, (folder / "ray.log").read_text()
                assert time.monotonic() < limit
                time.sleep(0.1)
            yield port
        finally:
            started = descendants(process.pid)
            process.terminate()
            process.wait()
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def free_port(first: int = 20000) -> int:
    """Return a port that nobody listens on, outside the range that Ray gives to workers."""
    for port in range(first, 30000):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
