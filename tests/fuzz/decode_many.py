"""Decodes mutated files in a process of its own, and prints what went wrong as JSON: ``decode_many SEED_FILE MODEL RANGE``.

Run by tests, so that a crash, a hang inside a library or a flood of memory ends this process and not theirs.
"""

import contextlib
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from ddpm_codec_cli.main import main
from tests.fuzz.mutation import damaged, damaged_inside
from tests.helpers import leftovers

SECONDS = 10.0
COMMANDS = (("decode",), ("decode", "--keep-going"), ("info",))


def attempt(data: bytes, model: str, command: tuple[str, ...], folder: Path) -> str:
    """Run a command on a file; return what is wrong with the outcome, or nothing."""
    path, output = folder / "x.ddpm", folder / "out"
    path.write_bytes(data)
    words = [command[0], str(path), *command[1:]]
    if command[0] == "decode":
        words += ["-o", str(output), "--model", model]
    out, err = io.StringIO(), io.StringIO()
    started = time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    except BaseException:
        return traceback.format_exc()
    lines = err.getvalue().splitlines()
    faults = []
    if time.process_time() - started > SECONDS:
        faults.append(f"took {time.process_time() - started:.1f} s")
    if code not in (0, 1):
        faults.append(f"exit code {code}")
    heads = ("ddpm-codec: error: ", "ddpm-codec: damaged: ") if "--keep-going" in command else "ddpm-codec: error: "
    if code == 1 and not any(line.startswith(heads) for line in lines):
        faults.append(f"no error line in {lines}")
    if code == 1 and command == ("decode",) and (len(lines) != 1 or output.exists()):
        faults.append(f"{len(lines)} lines, output {output.exists()}")
    if leftovers(folder):
        faults.append(f"left behind {leftovers(folder)}")
    return "; ".join(faults)


def run(seed_file: Path, model: str, seeds: range) -> dict[str, object]:
    """Try mutations of one file; every second one has right checksums."""
    good = seed_file.read_bytes()
    faults, codes = {}, {"damaged": 0, "inside": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # What is imported and mapped once does not count as memory of a file.
        assert not attempt(good, model, ("decode",), folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in seeds:
            rng = random.Random(f"{seed_file.name} {seed}")
            kind = "inside" if seed % 2 else "damaged"
            data = (damaged_inside if seed % 2 else damaged)(good, rng)
            codes[kind] += 1
            for entry in folder.iterdir():
                _remove(entry)
            fault = attempt(data, model, COMMANDS[0] if seed % 4 < 2 else rng.choice(COMMANDS[1:]), folder)
            if fault:
                faults[seed] = fault
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"faults": faults, "tried": codes, "mebibytes": grown}


def _remove(entry: Path) -> None:
    if entry.is_dir():
        for inner in entry.iterdir():
            _remove(inner)
        entry.rmdir()
    else:
        entry.unlink()


if __name__ == "__main__":
    first, last = sys.argv[3].split("-")
    print(json.dumps(run(Path(sys.argv[1]), sys.argv[2], range(int(first), int(last)))))
