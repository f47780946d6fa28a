"""Decodes the shards of a run into picture files, or into webdataset tars."""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ddpm_codec.bulk.engine import Cluster, Failed, connected, job
from ddpm_codec.bulk.lock import alone, remove_temporaries
from ddpm_codec.bulk.places import Place
from ddpm_codec.bulk.progress import Progress, Standing
from ddpm_codec.bulk.rows import SHARD
from ddpm_codec.bulk.shards import FinishedRun, file_bases, named, opened_shard
from ddpm_codec.bulk.tally import Said, Tally
from ddpm_codec.errors import InputError, OutputExistsError, Untaken
from ddpm_codec.image_io import default_extension, write_picture
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture
from ddpm_codec.stopwatch import Stopwatch

MARK = "decode.json"
"""Lies in the output while it is incomplete, and says what of: the same call goes on then, any other is refused."""

FORMATS = ("files", "tar")
NOTES = 100
"""Notes that a report keeps."""

_EXTENSIONS = (".png", ".tiff", ".pgm", ".ppm", ".npy")
"""Those of :func:`ddpm_codec.image_io.default_extension`."""


class Task(NamedTuple):
    """A shard to decode.

    Attributes:
        file: the shard.
        bases: by the place of each picture in it, the name to write without the extension of the format.
    """

    file: str
    bases: dict[int, str]


class Decoded(NamedTuple):
    """What became of a shard.

    Attributes:
        pictures: written.
        notes: what their files do not hold, a line each.
    """

    pictures: int
    notes: list[str]


@dataclass
class DecodeReport:
    """What a run did.

    Attributes:
        shards: decoded.
        kept_shards: those that an earlier run had decoded.
        pictures: written by this run.
        failed: shards that could not be decoded, and why.
        notes: what picture files do not hold.
        seconds: of the run.
        workers: how many there were; 0: nothing was left to do.
        device: of the workers.
    """

    shards: int = 0
    kept_shards: int = 0
    pictures: int = 0
    failed: list[Untaken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    workers: int = 0
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return vars(self) | {"failed": [one.to_json() for one in self.failed]}


class ShardDecoder:
    """Decodes shards one after the other.

    Args:
        source: the folder of the run.
        destination: where pictures or tars go.
        kind: one of FORMATS.
        model: the model, where it does not ship.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, source: str, destination: str, kind: str, model: ModelName | None, device: str) -> None:
        self._source, self._place, self._tar = Place(source), Place(destination), kind == "tar"
        self._model, self._device = model, device

    def run(self, task: Task, said: Said = lambda _: None) -> Decoded:
        """Decode a shard; every picture file, or the tar of all, appears whole or not at all.

        Raises:
            FormatError: the shard is damaged.
            InputError: it cannot be read.
            ModelError: its model is not available.
            OutputError: something cannot be written.
        """
        notes: list[str] = []
        packed = io.BytesIO()
        count = 0
        with (
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
            tempfile.TemporaryDirectory() as folder,
            opened_shard(self._source, task.file, self._model, self._device) as shard,
        ):
            for index, picture in shard.pictures():
                extension = default_extension(picture.info)
                name = task.bases[index] + extension
                data, more = _file_of(picture, Path(folder) / f"picture{extension}", name)
                notes += more
                if self._tar:
                    tar.addfile(_member(name, len(data)), io.BytesIO(data))
                else:
                    self._place.write(name, data)
                count += 1
                said(Tally(1, picture.info.pixel_count * picture.info.layout.channels))
        if self._tar:
            self._place.write(tar_name(task.file), packed.getvalue())
        return Decoded(count, notes)


def tar_name(shard: str) -> str:
    """Return the tar that a shard becomes."""
    return shard.removesuffix(SHARD) + ".tar"


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return the head of a tar's member, the same on every machine and at any time."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _file_of(picture: Picture, path: Path, name: str) -> tuple[bytes, list[str]]:
    """Return a picture's file and what it does not hold; ``path`` serves meanwhile."""
    notes = write_picture(picture, path, overwrite=True)
    data = path.read_bytes()
    path.unlink()
    return data, [line.replace(str(path), name) for line in notes]


def bulk_decode(
    source: str,
    destination: str,
    cluster: Cluster | None = None,
    *,
    kind: str = "files",
    model: ModelName | None = None,
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode the shards of a run into lossless picture files, or one webdataset tar a shard.

    A picture keeps its name, with the extension of the first of PNG, TIFF and NPY that holds it; where two would share a
    name, the old extension stays in front. After an interruption the same call goes on.

    Args:
        source: the folder that :func:`~ddpm_codec.bulk.bulk_encode` wrote.
        destination: a folder that is empty or not there, as a path or an address.
        cluster: where the work runs; None: on all cores of this machine.
        kind: ``files`` or ``tar``.
        model: the model, where it does not ship.
        progress: told how far it is.

    Raises:
        FormatError: the plan or the manifest is damaged.
        InputError: it is no such folder, the run is not finished, or ``kind`` is unknown.
        MissingDependencyError: the extra ``cluster`` is not installed.
        ModelError: the model is not available.
        OutputError: something cannot be written.
        OutputExistsError: the destination has files of something else.
    """
    if kind not in FORMATS:
        raise InputError(f"format {kind!r}: must be one of {', '.join(FORMATS)}")
    report = DecodeReport()
    run, place = FinishedRun(source), Place(destination)
    with Stopwatch() as watch, alone(place):
        there = _begin(place, {"source": run.place.address, "plan": run.plan.identity, "format": kind})
        _decode(run, place, kind, there, cluster or Cluster(), model, report, progress)
        if not report.failed:
            place.remove(MARK)
    report.seconds = watch.seconds
    return report


def _begin(place: Place, facts: dict[str, str]) -> set[str]:
    """Mark the output as incomplete, and return what an earlier run of the same has written to it.

    Raises:
        OutputExistsError: it has files of something else.
        OutputError: it cannot be written.
    """
    there = place.all_names()
    if MARK in there:
        try:
            begun = json.loads(place.read(place.path(MARK)))
        except ValueError:
            begun = None
        if begun != facts:
            raise OutputExistsError(f"{place.url}: was begun with another source or format; choose an empty folder")
        remove_temporaries(place, deep=True)
    elif there:
        raise OutputExistsError(f"{place.url}: has files already, such as {min(there)}; choose an empty folder")
    place.write(MARK, (json.dumps(facts) + "\n").encode())
    return there


def _decode(
    run: FinishedRun,
    place: Place,
    kind: str,
    there: set[str],
    cluster: Cluster,
    model: ModelName | None,
    report: DecodeReport,
    progress: Progress | None,
) -> None:
    before = 0

    def tasks() -> Iterator[Task]:
        nonlocal before
        bases = file_bases(run)
        for shard in run.shards():
            task = Task(shard.file, {row.index: next(bases) for row in shard.rows})
            if not task.bases:
                continue
            if _is_done(task, kind, there):
                report.kept_shards += 1
                report.shards += 1
                before += len(task.bases)
            else:
                yield task

    def standing(done: Tally) -> None:
        if progress is not None:
            progress(Standing(before + done.pictures, len(run.plan.table), done.dims))

    with connected(cluster) as pool:
        report.workers, report.device = pool.size, pool.device
        make = job(ShardDecoder, run.place.address, place.address, kind, named(model), pool.device)
        for task, result in pool.run(make, tasks(), standing):
            if isinstance(result, Failed):
                report.failed.append(Untaken(task.file, run.place.without(task.file, result.reason)))
            else:
                report.shards += 1
                report.pictures += result.pictures
                report.notes += result.notes[: max(0, NOTES - len(report.notes))]


def _is_done(task: Task, kind: str, there: set[str]) -> bool:
    if kind == "tar":
        return tar_name(task.file) in there
    return all(any(base + extension in there for extension in _EXTENSIONS) for base in task.bases.values())
