"""The scripts in ``examples`` run as they stand, and what they print of themselves is true."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import PHOTO

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run_example(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Run a script and return its variables."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_example("api.py", monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert np.array_equal(found["back"], found["array"])
    assert found["facts"].coded_by == ("model",)
    assert len(found["data"]) < PHOTO.stat().st_size
    assert found["restored"].info["icc_profile"] == found["indexed"].info["icc_profile"]
    assert len(lines) == 3
    assert "False" not in "".join(lines)


def test_archive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_example("archive.py", monkeypatch, str(PHOTO))
    lines = capsys.readouterr().out.splitlines()
    together, alone = (int(figure.replace(",", "")) for figure in re.findall(r"([\d,]+) (?:bytes|in files)", lines[0]))
    assert together < alone
    assert "4 blocks" in lines[1]
    assert found["name"] == "row3/tile3.png"
    assert lines[2].endswith("equal: True")
    assert lines[3].endswith("equal: True")


def test_progressive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_example("progressive.py", monkeypatch)
    out = capsys.readouterr().out
    psnr = [float(figure) for figure in re.findall(r"PSNR ([\d.]+) dB", out)]
    assert len(psnr) >= 2
    assert psnr == sorted(psnr)
    assert found["decoder"].lossless
    assert out.splitlines()[-1] == "equal at the end: True"


def test_bound(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terms = run_example("bound.py", monkeypatch)["terms"]
    lines = capsys.readouterr().out.splitlines()
    columns = np.array([[float(figure) for figure in line.split()[-2:]] for line in lines[1:-1]])
    assert columns.shape == (terms.chain.steps + 3, 2)
    # Printed terms, of three decimals each, add up to the printed bound.
    assert np.allclose(columns[:-1].sum(axis=0), columns[-1], rtol=0, atol=0.0005 * len(columns))
    assert np.allclose(columns[-1], terms.total_bpd, rtol=0, atol=0.0005)
