"""Question: how long does the very first run compile, of each command?

Run: python -m benchmarks.first_run [--model photo] [--photo FILE] [--repeat 3] [--threads N] [--json FILE]
`encode` and `decode` of a small photo, each as a command in a process of its own, start included: with an empty cache of
compiled functions (NUMBA_CACHE_DIR), and again with what that run left there; so are their progressive counterparts.
Bytecode of Python and pages of the disk are warm in both cases. Medians of wall and processor time, the latter nearly the
same on a busy machine; the difference is the compilation.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import need, table, write_json
from benchmarks.processes import Seconds, command_seconds, own_environment

PHOTO = Path(__file__).resolve().parents[1] / "tests" / "data" / "shutters_128x128.png"
COMMANDS = ("encode", "decode", "encode --progressive", "decode of it")


def words_of(command: str, photo: Path, model: str, folder: Path, threads: int | None) -> list[str]:
    """Return the words of a command."""
    kind = "progressive" if command in COMMANDS[2:] else "plain"
    coded = str(folder / f"{kind}.ddpm")
    limit = [] if threads is None else ["--threads", str(threads)]
    if command.startswith("encode"):
        progressive = ["--progressive"] if kind == "progressive" else []
        return ["encode", str(photo), "-o", coded, "--model", model, "--overwrite", *progressive, *limit]
    return ["decode", coded, "-o", str(folder / f"{kind}.png"), "--model", model, "--overwrite", *limit]


def with_cache(words: list[str], cache: Path) -> Seconds:
    """Return the seconds of a command that keeps what it compiles in a folder."""
    return command_seconds(words, own_environment() | {"NUMBA_CACHE_DIR": str(cache)})


def measure(photo: Path, model: str, folder: Path, threads: int | None) -> dict[str, tuple[Seconds, Seconds]]:
    """Return the seconds of each command without and with a cache."""
    found = {}
    for command in COMMANDS:
        words = words_of(command, photo, model, folder, threads)
        with tempfile.TemporaryDirectory() as cache:
            found[command] = with_cache(words, Path(cache)), with_cache(words, Path(cache))
        print(f"{command}: {found[command][0].wall:.2f} s, then {found[command][1].wall:.2f} s", flush=True)
    for name in ("plain.png", "progressive.png"):
        with Image.open(photo) as before, Image.open(folder / name) as after:
            if not np.array_equal(np.asarray(before), np.asarray(after)):
                raise SystemExit(f"{name}: the pixels did not come back")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    photo = need(options.photo).resolve()
    with tempfile.TemporaryDirectory() as folder:
        # Bytecode, and pages of the disk.
        command_seconds(words_of(COMMANDS[0], photo, options.model, Path(folder), options.threads))
        runs = [measure(photo, options.model, Path(folder), options.threads) for _ in range(options.repeat)]
    values: dict[str, dict[str, Any]] = {}
    for command in COMMANDS:
        for kind in Seconds._fields:
            empty, warm = (statistics.median(getattr(run[command][place], kind) for run in runs) for place in (0, 1))
            values[f"{command}, {kind}"] = {"empty_s": empty, "warm_s": warm, "compilation_s": empty - warm}
    print(f"{photo.name}, model {options.model}, medians of {options.repeat}")
    print(
        table(
            ["command", "empty cache, s", "warm cache, s", "difference, s"],
            [[c, *v.values()] for c, v in values.items()],
        )
    )
    write_json({"photo": photo.name, "model": options.model, "repeat": options.repeat, "seconds": values}, options.json)


if __name__ == "__main__":
    main()
