"""The shape of the code: who imports whom, what stays light, and how long a file may be."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ddpm_codec", "cli", "benchmarks", "examples", "tests")
MAX_LINES = 400


def python(code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere in it, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_imports_go_one_way() -> None:
    done = python("from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_imports_neither_its_command_line_nor_its_benchmarks() -> None:
    above = {"ddpm_codec_cli", "cli", "benchmarks", "examples", "tests"}
    assert {path: imported(path) & above for path in sources("ddpm_codec") if imported(path) & above} == {}


def test_coding_is_numpy_and_constriction_alone() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "constriction", "ddpm_codec"}
    files = sources("ddpm_codec/coding")
    assert files
    assert {path: imported(path) - allowed for path in files if imported(path) - allowed} == {}


@pytest.mark.parametrize("module", ["ddpm_codec", "ddpm_codec.coding", "ddpm_codec.container", "ddpm_codec.models"])
def test_stays_without_torch(module: str) -> None:
    done = python(f"import sys, {module}; sys.exit('torch was imported' if 'torch' in sys.modules else 0)")
    assert done.returncode == 0, done.stderr


def test_pickle_is_read_in_one_place_alone() -> None:
    """CIFAR-10 comes as pickles; its reader refuses every global but those of numpy arrays."""
    users = [path.relative_to(ROOT).as_posix() for path in sources("ddpm_codec", "cli") if "pickle" in imported(path)]
    assert users in ([], ["ddpm_codec/datasets.py"])


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources(*FOLDERS)}
    assert {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
