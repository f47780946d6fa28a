"""Coding in a process that was forked after torch has used its threads, which do not survive."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddpm_codec import device, forked
from ddpm_codec.errors import InputError
from tests.helpers import DATA

ROOT = DATA.parent.parent
SPAWN = "needs 2 threads of torch, which do not survive a fork; start processes by spawn or forkserver"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_code_with_one_thread_or_say_how_to_start_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.forked_children", str(tmp_path)],
        cwd=ROOT,
        env=os.environ
        | {
            "OMP_NUM_THREADS": "2",
            "OMP_WAIT_POLICY": "passive",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")]),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("floating point, two threads") == SPAWN
    assert found.pop("os.fork") == 0
    assert len(found) > 10
    assert {name for name, answer in found.items() if answer is not True} == set(), found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_without_torch_needs_nothing() -> None:
    program = (
        "import os, sys, ddpm_codec\n"
        "from ddpm_codec.forked import forked_with_torch\n"
        "assert 'torch' not in sys.modules\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(forked_with_torch())\n"
        "first = os.waitpid(child, 0)[1]\n"
        "import torch\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(forked_with_torch())\n"
        "print(first, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), forked_with_torch())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0 1 False\n"


def test_cuda_does_not_survive_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match="spawn"):
        device.pick_device("cuda")
    with pytest.raises(InputError, match="spawn"):
        device.check_forked(torch.device("cuda"))
    assert device.pick_device("auto") == torch.device("cpu")
    assert not forked.forked_with_torch()
