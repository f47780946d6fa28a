"""Encodes mutated picture files in a process of its own, and prints what went wrong as JSON: ``encode_many RANGE``.

Each file is refused in one line, or what comes back is what a second library sees in it.
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
import warnings
from pathlib import Path

import numpy as np

from ddpm_codec import open_archive
from ddpm_codec_cli.main import main
from tests.fuzz.independent import UnreadError, seen, shown
from tests.fuzz.mutation import damaged
from tests.fuzz.pictures import seed_pictures

SECONDS = 10.0


def attempt(kind: str, data: bytes, folder: Path) -> tuple[str, str]:
    """Encode a file; return what became of it (``refused``, ``same``, ``alone``) and what is wrong with that."""
    source, target = folder / f"x.{kind}", folder / "x.ddpm"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    out, err = io.StringIO(), io.StringIO()
    started = time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["encode", str(source), "-o", str(target), "--model", "none"])
    except BaseException:
        return "refused", traceback.format_exc()
    if time.process_time() - started > SECONDS:
        return "refused", f"took {time.process_time() - started:.1f} s"
    left = sorted(entry.name for entry in folder.iterdir() if entry not in (source, target))
    lines = [line for line in err.getvalue().splitlines() if not line.startswith("ddpm-codec: note: ")]
    if left or code not in (0, 1):
        return "refused", f"exit code {code}, left behind {left}"
    if code == 1:
        fine = bool(lines) and lines[-1].startswith("ddpm-codec: error: ") and not target.exists()
        return "refused", "" if fine else f"exit code 1: {lines}, written: {target.exists()}"
    return _compared(kind, data, target)


def _compared(kind: str, data: bytes, target: Path) -> tuple[str, str]:
    with open_archive(target) as archive:
        ours = archive.picture(archive.names[0])
    try:
        with warnings.catch_warnings(action="ignore"):
            theirs = seen(kind, data, ours)
    except UnreadError:
        return "alone", ""
    except Exception as error:
        return "same", f"kept as {ours.mode}, refused by the second reader: {error!r:.200}"
    mine = shown(ours)
    if mine.shape != theirs.shape or mine.dtype.itemsize != theirs.dtype.itemsize:
        return "same", f"{mine.shape} {mine.dtype} against {theirs.shape} {theirs.dtype}"
    if not np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f"):
        return "same", f"{ours.mode}: {(mine != theirs).any(axis=2).sum()} pixels differ"
    return "same", ""


def run(seeds: range) -> dict[str, object]:
    """Try mutations of all files in turn; the first round are the files themselves."""
    files = sorted(seed_pictures().items())
    faults: dict[str, str] = {}
    outcomes = {"refused": 0, "same": 0, "alone": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        attempt("png", dict(files)["png-rgb"], folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in seeds:
            label, good = files[seed % len(files)]
            data = good if seed < len(files) else damaged(good, random.Random(seed))
            for entry in folder.iterdir():
                entry.unlink()
            outcome, fault = attempt(label.partition("-")[0], data, folder)
            outcomes[outcome] += 1
            if fault:
                faults[f"{seed} {label}"] = fault
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"faults": faults, "outcomes": outcomes, "mebibytes": grown}


if __name__ == "__main__":
    first, last = sys.argv[1].split("-")
    print(json.dumps(run(range(int(first), int(last)))))
