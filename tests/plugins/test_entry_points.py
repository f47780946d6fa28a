"""numcodecs and zarr find the codecs by themselves where the package is installed; the package needs neither of them."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ddpm_codec.numcodecs_plugin import Ddpm
from ddpm_codec.zarr_plugin import DdpmCodec

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"numcodecs.codecs": Ddpm, "zarr.codecs": DdpmCodec}


def declared() -> dict[str, dict[str, str]]:
    """Return the entry points in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, dict[str, str]] = project["entry-points"]
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in which the package looks installed, to whoever looks for its entry points."""
    folder = tmp_path / "site" / "ddpm_codec-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: ddpm-codec\nVersion: 0\n", encoding="utf-8")
    lines = [
        line
        for group, values in declared().items()
        for line in (f"[{group}]", *(f"{k} = {v}" for k, v in values.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder.parent


def run(code: str, *folders: Path) -> str:
    path = os.pathsep.join([*map(str, folders), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_entry_points_name_the_codecs(group: str) -> None:
    assert EntryPoint("ddpm", declared()[group]["ddpm"], group).load() is GROUPS[group]


def test_arrays_are_read_where_nobody_has_imported_the_package(tmp_path: Path, installed: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    options: dict[str, Any] = {"shape": values.shape, "chunks": values.shape, "dtype": "uint8"}
    old = zarr.create_array(tmp_path / "2.zarr", zarr_format=2, compressors=Ddpm(model="none"), **options)
    new = zarr.create_array(tmp_path / "3.zarr", serializer=DdpmCodec(model="none"), compressors=None, **options)
    old[...], new[...] = values, values
    for name, other in (("2.zarr", "zarr_plugin"), ("3.zarr", "numcodecs_plugin")):
        code = f"""
import json, sys, zarr
found = zarr.open_array({str(tmp_path / name)!r}, mode="r")[...]
assert "ddpm_codec.{other}" not in sys.modules
print(json.dumps(found.tolist()))
"""
        np.testing.assert_array_equal(np.array(json.loads(run(code, installed))), values)


def test_the_package_imports_no_library_of_a_plugin() -> None:
    run("""
import sys
import ddpm_codec.api
import ddpm_codec.pillow_plugin
assert not {"imageio", "numcodecs", "torch", "zarr"} & set(sys.modules)
import ddpm_codec.numcodecs_plugin
assert not {"imageio", "torch", "zarr"} & set(sys.modules)
import ddpm_codec.zarr_plugin
assert not {"imageio", "torch"} & set(sys.modules)
""")


def test_only_the_plugins_import_what_they_are_for() -> None:
    allowed = {
        "numcodecs_plugin.py": {"numcodecs"},
        "zarr_plugin.py": {"zarr"},
    }
    for path in (ROOT / "ddpm_codec").rglob("*.py"):
        found = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert found & {"zarr", "numcodecs", "imageio"} == allowed.get(path.name, set()), path
