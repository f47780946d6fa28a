"""Mutated picture files: what comes back is what a second library sees in them, or they are refused in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.pictures import seed_pictures

MEBIBYTES = 1024
ROOT = Path(__file__).resolve().parents[2]


def _check(first: int, last: int) -> dict[str, int]:
    words = [sys.executable, "-m", "tests.fuzz.encode_many", f"{first}-{last}"]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60 + 10 * (last - first)
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["faults"], json.dumps(found["faults"], indent=1)[:4000]
    assert found["mebibytes"] < MEBIBYTES
    outcomes: dict[str, int] = found["outcomes"]
    return outcomes


def test_every_seed_comes_back_and_a_few_mutations_are_refused_or_come_back() -> None:
    count = len(seed_pictures())
    assert _check(0, count)["refused"] == 0
    assert _check(count, 5 * count)["refused"] > count


@pytest.mark.slow
def test_two_thousand() -> None:
    outcomes = _check(10_000, 12_000)
    assert min(outcomes.values()) > 100
