"""Decodes every shard of a run and compares its pixels with the manifest."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ddpm_codec.bulk.engine import Cluster, Failed, connected, job
from ddpm_codec.bulk.places import Place, UnreachableError
from ddpm_codec.bulk.progress import Progress, Standing
from ddpm_codec.bulk.rows import SHARD, Row
from ddpm_codec.bulk.shards import FinishedRun, Shard, check_names, named, opened_shard
from ddpm_codec.bulk.tally import Said, Tally
from ddpm_codec.errors import DdpmCodecError, ModelError, Untaken
from ddpm_codec.models.registry import ModelName
from ddpm_codec.stopwatch import Stopwatch


class Checked(NamedTuple):
    """What a shard turned out to be.

    Attributes:
        pictures: that are there and as the manifest says.
        dims: sub-pixels in them.
        wrong: the others, or the shard, and what is wrong.
    """

    pictures: int
    dims: int
    wrong: list[Untaken]


@dataclass
class VerifyReport:
    """What was found.

    Attributes:
        shards: checked.
        pictures: that are as the manifest says.
        failures: pictures that the manifest names as failed.
        dims: sub-pixels checked.
        wrong: what is not as it should be.
        seconds: of the run.
        workers: how many there were.
        device: of the workers.
    """

    shards: int = 0
    pictures: int = 0
    failures: int = 0
    dims: int = 0
    wrong: list[Untaken] = field(default_factory=list)
    seconds: float = 0.0
    workers: int = 0
    device: str = "cpu"

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return vars(self) | {"wrong": [one.to_json() for one in self.wrong]}


class ShardVerifier:
    """Decodes shards and compares them.

    Args:
        url: the folder of the run.
        model: the model, where it does not ship; None: found by its identity.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, url: str, model: ModelName | None, device: str) -> None:
        self._place, self._model, self._device = Place(url), model, device

    def run(self, task: Shard, said: Said = lambda _: None) -> Checked:
        """Decode a shard and compare it with its rows of the manifest; what is wrong is in the result.

        Raises:
            ModelError: the model is not available.
        """
        expected: dict[int, Row] = {row.index: row for row in task.rows}
        pictures = dims = 0
        wrong: list[Untaken] = []
        try:
            with opened_shard(self._place, task.file, self._model, self._device) as shard:
                for index, picture in shard.pictures():
                    row = expected.pop(index, None)
                    if row is None:
                        wrong.append(Untaken(f"{task.file}: {picture.name}", "is not in the manifest"))
                    elif (row.name, row.sha256) != (picture.name, hashlib.sha256(picture.pixels).digest()):
                        wrong.append(Untaken(f"{task.file}: {row.name}", "does not have the pixels of the manifest"))
                    else:
                        size = picture.info.pixel_count * picture.info.layout.channels
                        pictures, dims = pictures + 1, dims + size
                        said(Tally(1, size))
        except (ModelError, UnreachableError):
            raise
        except DdpmCodecError as error:
            wrong.append(Untaken(task.file, self._place.without(task.file, str(error))))
        else:
            wrong += [Untaken(f"{task.file}: {row.name}", "is not in the shard") for row in expected.values()]
        return Checked(pictures, dims, wrong)


def bulk_verify(
    source: str,
    cluster: Cluster | None = None,
    *,
    model: ModelName | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check a finished run: every picture of the plan is in the manifest once, every shard decodes to its pixels.

    Args:
        source: the folder that :func:`~ddpm_codec.bulk.bulk_encode` wrote.
        cluster: where the work runs; None: on all cores of this machine.
        model: the model, where it does not ship.
        progress: told how far it is.

    Raises:
        FormatError: the plan or the manifest is damaged, or they do not belong together.
        InputError: it is no such folder, or the run is not finished.
        MissingDependencyError: the extra ``cluster`` is not installed.
        ModelError: the model is not available.
    """
    report = VerifyReport()
    with Stopwatch() as watch:
        run = FinishedRun(source)
        check_names(run, run.rows())
        listed: set[str] = set()

        def shards() -> Iterator[Shard]:
            for shard in run.shards():
                report.failures += len(shard.failures)
                listed.add(shard.file)
                if shard.rows:
                    yield shard

        def standing(done: Tally) -> None:
            if progress is not None:
                progress(Standing(done.pictures, len(run.plan.table), done.dims))

        with connected(cluster or Cluster()) as pool:
            report.workers, report.device = pool.size, pool.device
            make = job(ShardVerifier, run.place.address, named(model), pool.device)
            for task, result in pool.run(make, shards(), standing):
                report.shards += 1
                if isinstance(result, Failed):
                    report.wrong.append(Untaken(task.file, run.place.without(task.file, result.reason)))
                else:
                    report.pictures += result.pictures
                    report.dims += result.dims
                    report.wrong += result.wrong
        strays = [name for name in sorted(run.files) if name.endswith(SHARD) and name not in listed]
        report.wrong += [Untaken(name, "is not in the manifest") for name in strays]
    report.wrong.sort()
    report.seconds = watch.seconds
    return report
