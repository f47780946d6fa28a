"""Question: how many pixels a second do encode and decode of one photo manage, and where does the time go, beside peers?

Run: python -m benchmarks.speed [--model photo] [--photo kodim13] [--repeat 3] [--threads N] [--json FILE]
     python -m benchmarks.speed --baseline PYTHON    (an interpreter in which an older version of the package is installed)
     python -m benchmarks.speed --busy
Our times are of the library call, from file to file, model loading included; peers write and read memory. Medians over the
repeats.

With --baseline both versions code the photo in turn, each time in a fresh process that has coded it once before; start of
the process and imports are not counted. With --busy the same is done by one worker, and beside a process that keeps one core
busy; there, too, the cases take turns. Neither --baseline nor --busy measures the peers. OMP_NUM_THREADS must not be set.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import SHARED_DATA, has_jxl, need, peers_line, table, write_json
from benchmarks.processes import busy_process, coding_seconds
from ddpm_codec.files import decode_file, encode_files
from ddpm_codec.isolation import isolated
from ddpm_codec.workers import Workers

PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {"optimize": True}),
    "webp": ("WEBP", {"lossless": True, "quality": 100, "method": 6, "exact": True}),
    "jxl7": ("JXL", {"lossless": True, "effort": 7}),
    "jxl9": ("JXL", {"lossless": True, "effort": 9}),
}


CALLS = ("encode", "decode")
BOTH = (*CALLS, "both")


def peer_seconds(image: Image.Image, name: str, repeat: int) -> tuple[float, float]:
    """Return median seconds of encoding and decoding."""
    kind, options = PEERS[name]
    encode, decode = [], []
    for _ in range(repeat):
        buffer = io.BytesIO()
        started = time.perf_counter()
        image.save(buffer, kind, **options)
        encode.append(time.perf_counter() - started)
        buffer.seek(0)
        started = time.perf_counter()
        Image.open(buffer).load()
        decode.append(time.perf_counter() - started)
    return statistics.median(encode), statistics.median(decode)


def beside_peers(path: Path, model: str, repeat: int, threads: int | None) -> dict[str, Any]:
    """Print how fast we are in this process, and peers; return the figures."""
    print(peers_line(), flush=True)
    image = Image.open(path).convert("RGB")
    pixels = image.width * image.height
    # Of each call: all seconds, those of the network, those of the coder.
    calls: dict[str, list[tuple[float, float, float]]] = {"encode": [], "decode": []}
    with isolated(threads), tempfile.TemporaryDirectory() as folder:
        workers = Workers().count
        for number in range(repeat):
            coded, back = Path(folder) / f"{number}.ddpm", Path(folder) / f"{number}.png"
            encoded = encode_files([path], coded, model=model)
            calls["encode"].append((encoded.seconds, encoded.network_seconds, encoded.coder_seconds))
            decoded = decode_file(coded, back, model=model)
            calls["decode"].append((decoded.seconds, decoded.network_seconds, decoded.coder_seconds))
            if not np.array_equal(np.asarray(Image.open(back)), np.asarray(image)):
                raise SystemExit("the pixels did not come back")
    rows: list[list[object]] = []
    medians = {}
    for name, measured in calls.items():
        seconds, network, coder = sorted(measured)[len(measured) // 2]
        medians[name] = seconds
        rows.append([name, pixels / seconds, network, coder, seconds - network - coder])
    print(f"{path.name}, {image.width}x{image.height}, workers: {workers}")
    print(table(["ddpm-codec", "pixels/s", "network s", "entropy coder s", "rest s (files, model, start)"], rows))
    names = ["png", "webp", *(["jxl7", "jxl9"] if has_jxl() else [])]
    peers = {name: peer_seconds(image, name, repeat) for name in names}
    print(
        table(
            ["peer", "encode pixels/s", "decode pixels/s", "our encode time / theirs", "our decode time / theirs"],
            [
                [name, pixels / e, pixels / d, medians["encode"] / e, medians["decode"] / d]
                for name, (e, d) in peers.items()
            ],
        )
    )
    return {"pixels": pixels, "workers": workers, "ours": rows, "peers": peers}


def against_baseline(path: Path, model: str, repeat: int, threads: int | None, baseline: Path) -> dict[str, Any]:
    """Print our times and those of an older version, taken in turn; return them."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for _ in range(repeat):
        runs["ours"].append(coding_seconds(path, model, threads))
        runs["theirs"].append(coding_seconds(path, model, threads, baseline))
        print({name: {call: round(found[-1][call], 3) for call in CALLS} for name, found in runs.items()}, flush=True)
    if runs["ours"][0]["package"] == runs["theirs"][0]["package"]:
        print("the baseline is this same package")
    medians = {name: with_both(found) for name, found in runs.items()}
    rows = [[call, *(medians[name][call] for name in runs), speedup] for call, speedup in ratios(medians).items()]
    print(f"{path.name}, medians of {repeat}; ours {threads_of(runs['ours'])}, theirs {threads_of(runs['theirs'])}")
    print(table(["", "ours s", "theirs s", "theirs / ours"], rows))
    return {
        "runs": {name: without_package(found) for name, found in runs.items()},
        "medians": medians,
        "theirs_over_ours": ratios(medians),
    }


def beside_busy_process(path: Path, model: str, repeat: int, threads: int | None) -> dict[str, Any]:
    """Print times with one worker alone, and with and without it beside a busy process; return them."""
    alone = "one worker, alone"
    cases = {
        alone: (1, False),
        "workers, alone": (threads, False),
        "workers, one busy core": (threads, True),
        "one worker, one busy core": (1, True),
    }
    runs: dict[str, list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(repeat):
        for case, (workers, busy) in cases.items():
            with busy_process() if busy else contextlib.nullcontext():
                runs[case].append(coding_seconds(path, model, workers))
            print(case, {call: round(runs[case][-1][call], 3) for call in CALLS}, flush=True)
    medians = {case: with_both(found) for case, found in runs.items()}
    rows = []
    for case, found in medians.items():
        over = [found[call] / medians[alone][call] for call in found]
        rows.append([case, threads_of(runs[case]), *found.values(), *over])
    print(f"{path.name}, medians of {repeat}")
    print(table(["", "", "encode s", "decode s", "both s", *(f"{call} / alone" for call in BOTH)], rows))
    return {"runs": {case: without_package(found) for case, found in runs.items()}, "medians": medians}


def with_both(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of encoding, of decoding, and of both together."""
    found = {call: statistics.median(run[call] for run in runs) for call in CALLS}
    return found | {"both": statistics.median(sum(run[call] for call in CALLS) for run in runs)}


def ratios(medians: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return how many times as long theirs takes."""
    return {call: medians["theirs"][call] / medians["ours"][call] for call in BOTH}


def without_package(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs without the place of the package on this machine."""
    return [{key: value for key, value in run.items() if key != "package"} for run in runs]


def threads_of(runs: list[dict[str, Any]]) -> str:
    """Return what the processes said of their threads."""
    return ", ".join(sorted({run["threads"] for run in runs}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--photo", default="kodim13", help="of Kodak, or a picture file")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--baseline", type=Path, metavar="PYTHON")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    given = Path(options.photo)
    path = need(given if given.suffix else SHARED_DATA / "kodak" / f"{given}.png").resolve()
    how = path, options.model, options.repeat, options.threads
    found: dict[str, Any] = {"photo": path.stem}
    if options.baseline is None and not options.busy:
        found |= beside_peers(*how)
    if options.baseline is not None:
        found["baseline"] = against_baseline(*how, options.baseline)
    if options.busy:
        found["busy"] = beside_busy_process(*how)
    write_json(found, options.json)


if __name__ == "__main__":
    main()
