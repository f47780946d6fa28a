"""Compiled functions: kept, made anew when a part of them has changed, and said when that takes time."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddpm_codec.compilation import compiled, compiles
from ddpm_codec_cli import group

ROOT = Path(__file__).resolve().parents[1]

A = """
from ddpm_codec.compilation import compiled
from pack.b import FACTOR, shifted

@compiled
def scaled(x):
    return shifted(x) * FACTOR
"""
B = """
from ddpm_codec.compilation import inlined

FACTOR = {factor}

@inlined
def shifted(x):
    return x + {shift}
"""
RUN = "from pack.a import scaled; print(scaled(1), sum(scaled.stats.cache_hits.values()))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "a.py").write_text(A)
    return tmp_path


def python(code: str, folder: Path) -> str:
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "cli")])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_change_of_any_part_compiles_anew(folder: Path) -> None:
    part = folder / "pack" / "b.py"
    for factor, shift, wanted in ((2, 3, ["8 0", "8 1"]), (5, 3, ["20 0"]), (5, 4, ["25 0", "25 1"])):
        part.write_text(B.format(factor=factor, shift=shift))
        for line in wanted:
            assert python(RUN, folder) == line


def test_what_is_compiled_is_told_once_and_what_is_kept_is_not(folder: Path) -> None:
    (folder / "f.py").write_text(
        "import ddpm_codec.compilation as c\n"
        "def one(x): return x + 1\n"
        "def two(x): return x + 2\n"
        "one.__module__ = two.__module__ = 'ddpm_codec.compilation'\n"
        "one, two = c.compiled(one), c.compiled(two)\n"
    )
    code = (
        "from ddpm_codec.compilation import when_compiling\n"
        "import sys\n"
        "assert 'numba' not in sys.modules\n"
        "when_compiling(lambda kept: print('told', kept))\n"
        "from f import one, two\n"
        "import numba\n"
        "numba.njit(lambda x: x)(1)\n"
        "print(one(1), two(1))\n"
    )
    assert python(code, folder).splitlines() == ["told True", "2 3"]
    assert python(code, folder).splitlines() == ["2 3"]


def test_where_nothing_can_be_kept_functions_compile_all_the_same() -> None:
    names: dict[str, Any] = {"__name__": __name__}
    exec("def doubled(x):\n    return 2 * x\n", names)  # has no file, and so no folder beside it
    function = compiled(names["doubled"])
    assert function(4) == 8
    assert hasattr(function, "py_func") == compiles()


def test_it_is_told_where_nothing_can_be_kept(folder: Path) -> None:
    code = (
        "from ddpm_codec.compilation import compiled, when_compiling\n"
        "names = {'__name__': 'ddpm_codec.nowhere'}\n"
        "exec('def doubled(x): return 2 * x', names)\n"
        "when_compiling(lambda kept: print('told', kept))\n"
        "print(compiled(names['doubled'])(4))\n"
    )
    assert python(code, folder).splitlines() == ["told False", "8"]


@pytest.mark.parametrize(
    ("kept", "how_often"), [(True, "once;"), (False, "as every run does where none of the folders")]
)
def test_people_at_a_terminal_read_what_is_compiled_and_how_often(
    kept: bool, how_often: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group._say_compiling(kept)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    group._say_compiling(kept)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "compiling the codec's loops for this processor" in err
    assert how_often in err


def test_neither_the_package_nor_help_loads_numba(tmp_path: Path) -> None:
    for code in (
        "import ddpm_codec",
        "import ddpm_codec.api",
        "from ddpm_codec_cli.main import main; main(['--help'])",
        "from ddpm_codec_cli.main import main; main(['encode', '--help'])",
        "from ddpm_codec.codecs.pixels import coder",
    ):
        assert python(f"{code}\nimport sys\nprint('numba' in sys.modules)", tmp_path).splitlines()[-1] == "False"
