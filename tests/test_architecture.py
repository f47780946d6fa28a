"""The shape of the code: who imports whom, what stays light, and that no module is a splinter of another."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import grimp

import ddpm_codec

ROOT = Path(__file__).resolve().parents[1]
MIN_CODE_LINES = 40
"""Of a module with one importer, docstrings, comments and empty lines not counted."""


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


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the top-level names that a file imports anywhere in it, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return frozenset(names)


def code_lines(path: Path) -> int:
    """Count the lines of a file that hold code."""
    text = path.read_text(encoding="utf-8")
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate((line.strip() for line in text.splitlines()), 1)
    return sum(bool(line) and not line.startswith("#") and number not in prose for number, line in lines)


def source_of(module: str) -> Path:
    """Return the file of a module; of a package its ``__init__.py``."""
    path = ROOT / ("cli" if module.startswith("ddpm_codec_cli") else "") / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def looked_up() -> set[str]:
    """Return what stands for a module in a string of its own: ``module`` or ``module:attribute``, entry points included."""
    nodes = (node for path in sources("ddpm_codec", "cli") for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    project = pyproject()["project"]
    for entries in (project.get("scripts", {}), *project.get("entry-points", {}).values()):
        strings += entries.values()
    return {string.partition(":")[0] for string in strings}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def contract_layers() -> list[str]:
    """Return the floors of the contract, as docs/ARCHITECTURE.md writes them."""
    (contract,) = (c for c in pyproject()["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [re.sub(r"ddpm_codec\.|[()]", "", layer) for layer in contract["layers"]]


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


def test_stays_without_torch() -> None:
    done = python(
        "import importlib, sys\n"
        "for name in ('ddpm_codec', 'ddpm_codec.coding', 'ddpm_codec.container', 'ddpm_codec.models'):\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} imports torch')\n"
    )
    assert done.returncode == 0, done.stderr


def test_pickle_is_read_in_one_place_alone() -> None:
    """CIFAR-10 comes as pickles; its reader refuses every global but those of numpy arrays."""
    users = [path.relative_to(ROOT).as_posix() for path in sources("ddpm_codec", "cli") if "pickle" in imported(path)]
    assert users in ([], ["ddpm_codec/image_sets/arrays.py"])


def test_no_module_is_a_splinter() -> None:
    """A few lines that one module of the same distribution imports belong into that module.

    Not meant: packages' own files, what an ``__init__`` shows to others, and what is looked up by name (commands, plugins).
    """
    graph = grimp.build_graph("ddpm_codec", "ddpm_codec_cli", cache_dir=None)
    named = looked_up()
    splinters = {}
    for module in graph.modules:
        importers = graph.find_modules_that_directly_import(module)
        path = source_of(module)
        if len(importers) != 1 or path.stem.startswith("__") or module in named:
            continue
        (importer,) = importers
        same_root = importer.partition(".")[0] == module.partition(".")[0]
        if same_root and source_of(importer).stem != "__init__" and code_lines(path) < MIN_CODE_LINES:
            splinters[module] = f"{code_lines(path)} lines of code, imported by {importer} alone"
    assert splinters == {}


def test_the_architecture_says_what_the_contract_holds() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\w*\n# layers\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block.splitlines() == contract_layers()


def test_every_part_of_the_library_has_a_floor() -> None:
    names = {path.stem for path in (ROOT / "ddpm_codec").glob("*.py")} - {"__init__"}
    names |= {path.parent.name for path in (ROOT / "ddpm_codec").glob("*/__init__.py")}
    assert names | {"ddpm_codec_cli"} == set(re.findall(r"\w+", " ".join(contract_layers())))


def test_the_version_stands_in_one_place() -> None:
    """As a literal: building reads it without importing anything."""
    settings = pyproject()
    assert settings["project"]["dynamic"] == ["version"]
    assert "version" not in settings["project"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ddpm_codec.__version__"}
    body = ast.parse((ROOT / "ddpm_codec" / "__init__.py").read_text(encoding="utf-8")).body
    values = [
        node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    ]
    assert [ast.literal_eval(value) for value in values] == [ddpm_codec.__version__]
