"""The example of the plugins runs, and says what it should."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugin.py"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Pillow: DDPM, RGB, 256x128, ")
    assert lines[2] == "raw:    98,304 bytes"
    pillow, zarr = (int(re.findall(r"([\d,]+)(?= bytes| of)", line)[0].replace(",", "")) for line in lines[:2])
    assert pillow < 98_304 * 0.6
    assert zarr < 98_304 * 0.6
