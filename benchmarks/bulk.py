"""Question: what do bulk runs gain over one plain process, from files and from an S3 server, and what do they take in memory?

Run: python -m benchmarks.bulk [--count 20000] [--model cifar10] [--shard-images 500] [--only NAME ...] [--json FILE]
The pictures are the CIFAR-10 test set, again and again, as PNG files in a folder and as a tar on an S3 server on this
machine (moto's; `server_cpu_seconds` is what it takes). Peer: `ddpm-codec encode` of the same folder, with one thread and
with all. Shards are compared byte for byte between numbers of workers. Seconds are of whole commands, Ray's start included.
`actors` and `ray.data` code with the fallback, which takes a millisecond a picture, so that what the engine itself takes
shows: plain actors as in the package, and the same work as a map over a ray.data set. `listing` is what the driver does
before any work, headers read, and `imports` the same program without it: they differ by the memory that the pictures take.
Memory is proportional resident memory (Pss), the largest seen in five looks a second: of one worker, and of all processes.
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.cifar import test_images
from benchmarks.common import table, write_json
from benchmarks.processes import cpu_seconds, descendants

RAY_DATA = """
import pickle
import sys
import ray
from ddpm_codec.bulk.plan import Plan
from ddpm_codec.bulk.shard_encoder import Setting, ShardEncoder, Task
from ddpm_codec.bulk.source import Source

source, out, images, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ray.init(address="local", num_cpus=workers + 4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
plan = Plan.of(Source(source).listing().table, {"shard_images": images, "shard_pixels": None})
# As bytes, because Arrow has no column of lists of unlike values.
tasks = [{"task": pickle.dumps(Task(plan.shard_name(number), entries))} for number, entries in plan.batches()]


class Encode:
    def __init__(self):
        self.encoder = ShardEncoder(Setting(source, out, plan.identity, "none"))

    def __call__(self, row):
        return {"bytes": self.encoder.run(pickle.loads(row["task"])).file_bytes}


data = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(Encode, concurrency=workers, num_cpus=1)
print(sum(row["bytes"] for row in data.iter_rows()))
"""
"""The same shards by ray.data."""


LISTING = (
    "import sys; import pyarrow, PIL.Image; "
    "from ddpm_codec.bulk.plan import Plan; from ddpm_codec.bulk.source import Source"
)
LISTED = "Plan.of(Source(sys.argv[1]).listing(pixels=True).table, {'shard_images': None, 'shard_pixels': None})"


class Watch:
    """Looks at the memory of a process and all its descendants while they run."""

    def __init__(self) -> None:
        self.worker_mb = self.all_mb = 0.0

    def look(self, root: int) -> None:
        """Take the largest."""
        sizes = {}
        for pid in [root, *descendants(root)]:
            with suppress(OSError, StopIteration):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6
                sizes[pid] = pss, Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
        self.all_mb = max(self.all_mb, sum(pss for pss, _ in sizes.values()))
        self.worker_mb = max([self.worker_mb, *(pss for pss, worker in sizes.values() if worker)])


def timed(words: list[str | Path | int]) -> dict[str, float]:
    """Run a program of Python's; return its seconds and memory."""
    watch, started = Watch(), time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL)
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            watch.look(process.pid)

    looker = threading.Thread(target=look)
    looker.start()
    code = process.wait()
    seconds = time.perf_counter() - started
    done.set()
    looker.join()
    if code:
        sys.exit(f"{words} failed with exit code {code}")
    return {"seconds": seconds, "worker_mb": watch.worker_mb, "all_mb": watch.all_mb}


@contextmanager
def s3_server() -> Iterator[int]:
    """Start an S3 server in a process of its own, with a bucket, and let fsspec find it; give its process id."""
    import boto3

    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "5097"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:5097"
    try:
        for _ in range(100):
            with suppress(Exception):
                boto3.client("s3").create_bucket(Bucket="bench")
                break
            time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def write_pictures(folder: Path, count: int) -> None:
    """Write the test set as PNG files, and as a tar beside the folder."""
    images = test_images()
    folder.mkdir()
    with tarfile.open(folder.with_suffix(".tar"), "w") as tar:
        for index in range(count):
            out = io.BytesIO()
            Image.fromarray(images[index % len(images)]).save(out, "PNG")
            (folder / f"{index:06d}.png").write_bytes(out.getvalue())
            member = tarfile.TarInfo(f"{index:06d}.png")
            member.size = out.tell()
            tar.addfile(member, io.BytesIO(out.getvalue()))


def same_shards(first: Path, second: Path) -> bool:
    """Return whether two runs wrote the same shards."""
    names = sorted(path.name for path in first.glob("*.ddpm"))
    return names == sorted(path.name for path in second.glob("*.ddpm")) and all(
        (first / name).read_bytes() == (second / name).read_bytes() for name in names
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--shard-images", type=int, default=500)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, s3_server() as server:
        folder = Path(name)
        pictures = folder / "in"
        write_pictures(pictures, options.count)
        import boto3

        boto3.client("s3").upload_file(str(pictures.with_suffix(".tar")), "bench", "in.tar")
        cli = ["-m", "ddpm_codec_cli"]
        shards = ["--shard-images", options.shard_images]
        bulk = [*cli, "bulk", "encode"]
        plain = [*cli, "encode", pictures, "--model", options.model, "-o"]
        model, none = ["--model", options.model, *shards], ["--model", "none", *shards]
        runs: dict[str, list[Any]] = {
            "encode --threads 1": [*plain, folder / "one.ddpm", "--threads", 1],
            "encode, all cores": [*plain, folder / "all.ddpm"],
            "bulk, folder, 1 worker": [*bulk, pictures, folder / "w1", *model, "--workers", 1],
            "bulk, folder": [*bulk, pictures, folder / "w2", *model],
            "bulk, tar on S3": [*bulk, "s3://bench/in.tar", folder / "s3", *model],
            "actors": [*bulk, pictures, folder / "actors", *none],
            "ray.data": ["-c", RAY_DATA, pictures, folder / "data", options.shard_images, os.cpu_count()],
            "imports": ["-c", f"{LISTING}; import time; time.sleep(2)"],
            "listing": ["-c", f"{LISTING}; held = {LISTED}; import time; time.sleep(1)", pictures],
            "encode, fallback": [*cli, "encode", pictures, "--model", "none", "-o", folder / "none.ddpm"],
        }
        found: dict[str, dict[str, float]] = {}
        for what, words in runs.items():
            if not options.only or what in options.only:
                before = cpu_seconds(server)
                found[what] = timed(words)
                found[what]["server_cpu_seconds"] = cpu_seconds(server) - before
                print(what, found[what], flush=True)
        pairs = {
            "the same shards with 1 worker and with all": (folder / "w1", folder / "w2"),
            "the same shards from files and from S3": (folder / "w2", folder / "s3"),
            "the same shards by actors and by ray.data": (folder / "actors", folder / "data"),
        }
        same = {what: same_shards(*pair) for what, pair in pairs.items() if all(one.exists() for one in pair)}
    for what, values in found.items():
        peer = found.get("encode, fallback" if what in ("actors", "ray.data") else "encode --threads 1")
        values["pictures_per_second"] = options.count / values["seconds"]
        if peer:
            values["over_encode"] = peer["seconds"] / values["seconds"]
    keys = ("seconds", "pictures_per_second", "over_encode", "worker_mb", "all_mb", "server_cpu_seconds")
    print(table(["run", *keys], [[what, *(values.get(key) for key in keys)] for what, values in found.items()]))
    for what, held in same.items():
        print(f"{what}: {held}")
    write_json(
        {"count": options.count, "runs": found, "same": same, "shard_images": options.shard_images}, options.json
    )


if __name__ == "__main__":
    main()
