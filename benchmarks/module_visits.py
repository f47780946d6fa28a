"""Question: through how many modules does the encoding of a picture pass, and how often does it come back to one?

Run: python -m benchmarks.module_visits [--model FILE|NAME] [--photo FILE] [--side 72] [--json FILE]
One picture, a centre crop of SIDE x SIDE, is encoded by the command line in this process, progressively and losslessly. Every
function of ddpm_codec is noted once, at its first call, in order of time; consecutive functions of one module are one stay.
A stay in a module that was left before is a return: returns = stays - modules. A straight way has none.

Counted are functions, methods, lambdas and generators written in a file of ddpm_codec, of all threads. Not counted: what
dataclasses generate, bodies of modules and classes, the command line, and what runs while modules are imported (all are
imported before). Functions that numba or C runs are not seen. sys.settrace is asked for calls alone, and not sys.setprofile,
which also stops at every call of a C function: minutes in place of seconds, for the same list.
"""

import argparse
import contextlib
import importlib
import inspect
import io
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType

from PIL import Image

import ddpm_codec
from benchmarks.common import need, table, write_json
from ddpm_codec_cli.group import COMMANDS
from ddpm_codec_cli.main import main

TESTS = Path(__file__).resolve().parents[1] / "tests"
PHOTO, MODEL = TESTS / "data" / "shutters_128x128.png", TESTS / "golden" / "tiny.safetensors"
ROOT = Path(ddpm_codec.__file__).parent
SCOPES = {
    "all": ("ddpm_codec",),
    "codecs, files, container": ("ddpm_codec.codecs", "ddpm_codec.files", "ddpm_codec.container"),
    "codecs": ("ddpm_codec.codecs",),
}


def import_everything() -> None:
    """Import every module, so that none is imported while calls are noted."""
    for module in pkgutil.walk_packages(ddpm_codec.__path__, "ddpm_codec."):
        # Plugins need the libraries that they plug into.
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
    for command in COMMANDS.values():
        importlib.import_module(command.target.partition(":")[0])


@contextlib.contextmanager
def first_calls() -> Iterator[list[str]]:
    """Collect the module of every function of ddpm_codec, in the order of first calls."""
    seen: set[CodeType] = set()
    modules: list[str] = []

    def note(frame: FrameType, _event: str, _argument: object) -> None:
        code = frame.f_code
        if code in seen:
            return
        seen.add(code)
        # Bodies of modules and classes have no fast locals.
        if code.co_flags & inspect.CO_OPTIMIZED and Path(code.co_filename).is_relative_to(ROOT):
            modules.append(frame.f_globals["__name__"])

    threading.settrace(note)
    sys.settrace(note)
    try:
        yield modules
    finally:
        sys.settrace(None)
        threading.settrace(None)


def visits(modules: list[str], scope: tuple[str, ...]) -> dict[str, int]:
    """Return functions, stays, modules and returns of those modules that lie in the packages of ``scope``."""
    inside = [name for name in modules if any(name == root or name.startswith(f"{root}.") for root in scope)]
    stays, distinct = sum(1 for _ in groupby(inside)), len(set(inside))
    return {"functions": len(inside), "stays": stays, "modules": distinct, "returns": stays - distinct}


def encode(picture: Path, model: str, *words: str) -> list[str]:
    """Return the modules that encoding a picture passes."""
    output = str(picture.with_suffix(".ddpm"))
    with first_calls() as modules, contextlib.redirect_stdout(io.StringIO()):
        code = main(["encode", str(picture), "-o", output, "--model", model, "--overwrite", "--json", *words])
    if code:
        raise SystemExit(code)
    return modules


def run() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL), help="'photo' for the model that ships; slower, the same way")
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--side", type=int, default=72, help="more than 64: smaller pictures take the fallback")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import_everything()
    figures, ways = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        photo = Image.open(need(options.photo)).convert("RGB")
        left, top = (photo.width - options.side) // 2, (photo.height - options.side) // 2
        photo.crop((left, top, left + options.side, top + options.side)).save(picture)
        for kind, words in {"progressive": ["--progressive"], "lossless": []}.items():
            modules = encode(picture, options.model, *words)
            ways[kind] = [name for name, _ in groupby(modules)]
            figures[kind] = {name: visits(modules, scope) for name, scope in SCOPES.items()}
    rows = [[kind, scope, *counts.values()] for kind, scopes in figures.items() for scope, counts in scopes.items()]
    print(table(["encoding", "packages", "functions", "stays", "modules", "returns"], rows))
    write_json({"model": options.model, "side": options.side, "visits": figures, "ways": ways}, options.json)


if __name__ == "__main__":
    run()
