"""Processes that benchmarks measure, or keep a core busy with."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ddpm_codec

SCRIPT = Path(__file__).with_name("coding_process.py")


def own_environment() -> dict[str, str]:
    """Return the environment in which another process finds this package and its command line."""
    root = Path(ddpm_codec.__file__).parents[1]
    paths = [str(root), str(root / "cli"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def coding_seconds(
    photo: Path, model: str, threads: int | None = None, interpreter: Path | None = None
) -> dict[str, Any]:
    """Return what `benchmarks.coding_process` prints.

    Args:
        photo: the picture.
        model: name or file of the model.
        threads: None: the default.
        interpreter: the package is the one installed there; None: this package and interpreter.
    """
    environment = own_environment()
    if interpreter is not None:
        # An installed package comes after what the path names.
        del environment["PYTHONPATH"]
    words = [str(interpreter or sys.executable), "-P", str(SCRIPT), str(photo), model]
    words += [] if threads is None else [str(threads)]
    found: dict[str, Any] = json.loads(_output_of(words, environment).splitlines()[-1])
    return found


class Seconds(NamedTuple):
    """What a process took.

    Attributes:
        wall: from start to end.
        processor: of all its threads, which other processes hardly change.
    """

    wall: float
    processor: float


def command_seconds(words: list[str], environment: dict[str, str] | None = None) -> Seconds:
    """Run the command line in a process of its own, start included."""
    before, started = _processor_seconds(), time.perf_counter()
    _output_of([sys.executable, "-m", "ddpm_codec_cli", *words], environment or own_environment())
    return Seconds(time.perf_counter() - started, _processor_seconds() - before)


def _processor_seconds() -> float:
    """Return those of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _output_of(words: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr}")
    return done.stdout


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy while the block runs; which one, the system decides."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken so far, in seconds."""
    # Behind the name, which may contain anything, in brackets.
    facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            number = int(entry.name)
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(number)
    found, pending = list[int](), [pid]
    while pending:
        children = parents.get(pending.pop(), [])
        found += children
        pending += children
    return found
