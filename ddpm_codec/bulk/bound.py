"""The bound of a model over a set, part by part on as many workers as there are."""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ddpm_codec.bulk.engine import Cluster, Failed, connected, job
from ddpm_codec.bulk.entries import Entry, Listing, entries_of
from ddpm_codec.bulk.lock import alone
from ddpm_codec.bulk.places import Place, UnreachableError
from ddpm_codec.bulk.plan import Plan
from ddpm_codec.bulk.progress import Progress, Standing
from ddpm_codec.bulk.shard_encoder import check_model, model_address
from ddpm_codec.bulk.source import Source
from ddpm_codec.bulk.tally import Said, Tally
from ddpm_codec.errors import InputError, ModelError, OutputError, Untaken
from ddpm_codec.evaluation import BoundReport, bound_of
from ddpm_codec.image_sets import Pixels
from ddpm_codec.image_sets.files import open_file
from ddpm_codec.isolation import isolated
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.registry import DEFAULT, ModelName, find_model, model_id
from ddpm_codec.stopwatch import Stopwatch

PART_IMAGES = 256
"""Images of a part: a few seconds of work for small ones."""

_MARK = "bound.json"
_TOGETHER = 1 << 24
"""Sub-pixels that are in memory at a time, unless a single picture has more."""


@dataclass(frozen=True)
class BoundOptions:
    """Settings of a bound; see :func:`ddpm_codec.evaluation.bound_of`.

    Attributes:
        model: name, file or folder.
        crossing: of the pixel decoder, in grey levels of noise; None: the model's own.
        steps: K; None: the model's own.
        schedule: ``dp`` or ``even``; None: as the model wants it.
        variance: of the steps; None: the model's own.
        tile: side of the tiles; None: the model's own.
        batch: images of 32x32 at a time.
        seed: of the noise.
        first_frame: take the first frame of pictures with several.
        limit: use the first images only.
    """

    model: ModelName = DEFAULT
    crossing: float | None = None
    steps: int | None = None
    schedule: Any = None
    variance: Any = None
    tile: int | None = None
    batch: int = 64
    seed: int = 0
    first_frame: bool = False
    limit: int | None = None


class Task(NamedTuple):
    """A part of the set.

    Attributes:
        first: place of its first image in the set.
        entries: its images.
    """

    first: int
    entries: list[Entry]


class Part(NamedTuple):
    """The bound of a part.

    Attributes:
        report: of the images that could be used, with their places in the set; None: of none.
        failures: the others, and why.
        changed: by what was changed in images, such as ``alpha dropped``, in how many.
    """

    report: BoundReport | None
    failures: list[Untaken]
    changed: dict[str, int]

    def pack(self) -> bytes:
        """Return it as a file."""
        out = io.BytesIO()
        facts = {"failures": [list(one) for one in self.failures], "changed": self.changed}
        text = np.frombuffer(json.dumps(facts).encode("ascii"), np.uint8)
        arrays: dict[str, Any] = {} if self.report is None else self.report.to_arrays()
        np.savez(out, part=text, **arrays)
        return out.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> "Part":
        """Undo :meth:`pack`.

        Raises:
            ValueError: it is damaged.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            facts = json.loads(arrays["part"].tobytes())
            report = BoundReport.from_arrays(arrays) if "places" in arrays else None
        return cls(report, [Untaken(*one) for one in facts["failures"]], dict(facts["changed"]))


@dataclass
class BulkBound:
    """The bound of a set.

    Attributes:
        report: as ``bpd`` has it; ``seconds`` are those of all workers together.
        failures: images that could not be used.
        left_out: contents of the source that are not pictures.
        changed: by what was changed in images, in how many.
        wall_seconds: of the run.
        workers: how many there were; 0: nothing was left to do.
    """

    report: BoundReport
    failures: list[Untaken] = field(default_factory=list)
    left_out: list[Untaken] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    wall_seconds: float = 0.0
    workers: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the keys of ``bpd``, and those of the run."""
        lists = {key: [one.to_json() for one in getattr(self, key)] for key in ("failures", "left_out")}
        own = {"changed": self.changed, "wall_seconds": self.wall_seconds, "workers": self.workers}
        return self.report.to_json() | lists | own


class PartEvaluator:
    """Evaluates parts one after the other; the model is opened once.

    Args:
        source: where the images are.
        options: the settings.
        identity: SHA-256 that the model must have.
        device: ``cpu`` or ``cuda``.
        kept: folder that parts are kept in; None: nowhere.

    Raises:
        ModelError: the model is missing, damaged, or another one.
    """

    def __init__(self, source: str, options: BoundOptions, identity: str, device: str, kept: str | None) -> None:
        self._source, self._options, self._device = Source(source), options, device
        self._place = None if kept is None else Place(kept)
        check_model(options.model, identity)
        self._model = open_model(find_model(options.model))

    @isolated(1)
    def run(self, task: Task, said: Said = lambda _: None) -> Part:
        """Evaluate a part.

        Raises:
            ModelError: a setting does not fit the model, or a term is not finite.
            UnreachableError: the source cannot be reached.
            OutputError: the part cannot be kept.
        """
        reports: list[BoundReport] = []
        failures, changed = list[Untaken](), dict[str, int]()
        images, places = list[Pixels](), list[int]()
        for place, (entry, data) in enumerate(self._source.read_ahead(task.entries), task.first):
            label = self._source.label(entry)
            try:
                pixels, change = open_file(data(), label, first_frame=self._options.first_frame)
            except UnreachableError:
                raise
            except InputError as error:
                failures.append(Untaken.of(label, error))
                said(Tally(1))
                continue
            images.append(pixels)
            places.append(place)
            if change:
                changed[change] = changed.get(change, 0) + 1
            if sum(image.size for image in images) >= _TOGETHER:
                reports.append(self._bound(images, places, said))
                images, places = [], []
        if images:
            reports.append(self._bound(images, places, said))
        part = Part(BoundReport.merged(reports) if reports else None, failures, changed)
        if self._place is not None:
            self._place.write(_name(task.first), part.pack())
        return part

    def _bound(self, images: list[Pixels], places: list[int], said: Said) -> BoundReport:
        try:
            report = bound_of(images, self._model, places=places, device=self._device, **self._settings())
        except InputError as error:
            # Pictures have been read by now: it is a setting, which fits no other part either.
            raise ModelError(str(error)) from error
        said(Tally(len(images), sum(image.size for image in images)))
        return report

    def _settings(self) -> dict[str, Any]:
        own = ("model", "first_frame", "limit")
        return {key: value for key, value in asdict(self._options).items() if key not in own}


def bulk_bpd(
    source: str,
    options: BoundOptions | None = None,
    cluster: Cluster | None = None,
    *,
    keep: str | None = None,
    progress: Progress | None = None,
) -> BulkBound:
    """Bound the bits per dimension of a model over a set: what :func:`ddpm_codec.evaluation.evaluate_bpd` does, by parts.

    The noise of an image depends on the seed and its place in the set, so figures are those of ``bpd`` on the same files, up
    to the order in which numbers are added, whatever the number of workers. An image that cannot be used stops no other.

    Args:
        source: see :func:`~ddpm_codec.bulk.bulk_encode`.
        options: the settings; None: the defaults.
        cluster: where the work runs; None: on all cores of this machine.
        keep: a folder in which finished parts are kept, so that the same call goes on after an interruption; None: none are.
        progress: told how far it is.

    Raises:
        InputError: the source has no pictures, or none that can be used; or the folder is of another run.
        MissingDependencyError: the extra ``cluster`` is not installed.
        ModelError: the model does not exist, is damaged, has no such chain, or a setting does not fit it.
        OutputError: parts failed, or cannot be kept.
    """
    options, cluster = options or BoundOptions(), cluster or Cluster()
    options = replace(options, model=model_address(options.model))
    identity = model_id(find_model(options.model))
    pictures = Source(source)
    listing = pictures.listing()
    if listing.refused:
        # It would have a place in the set, and noise of its own.
        raise InputError(f"{listing.refused[0]}; give it another name")
    count = len(listing.table) if options.limit is None else min(options.limit, len(listing.table))
    with Stopwatch() as watch:
        if keep is None:
            parts, workers = _evaluated(pictures, listing, count, options, identity, cluster, {}, None, progress)
        else:
            place = Place(keep)
            with alone(place):
                kept = _kept(place, pictures, listing, count, options, identity)
                parts, workers = _evaluated(
                    pictures, listing, count, options, identity, cluster, kept, place.address, progress
                )
    return _merged(parts, listing, watch.seconds, workers)


def _evaluated(
    pictures: Source,
    listing: Listing,
    count: int,
    options: BoundOptions,
    identity: str,
    cluster: Cluster,
    parts: dict[int, Part],
    keep: str | None,
    progress: Progress | None,
) -> tuple[dict[int, Part], int]:
    """Evaluate the parts that are not there, and return all with the number of workers."""
    left = [first for first in range(0, count, PART_IMAGES) if first not in parts]
    before = count - sum(min(first + PART_IMAGES, count) - first for first in left)
    if not left:
        return parts, 0

    def tasks() -> Iterator[Task]:
        for first in left:
            yield Task(first, entries_of(listing.table, first, min(first + PART_IMAGES, count)))

    def standing(done: Tally) -> None:
        if progress is not None:
            progress(Standing(before + done.pictures, count, done.dims))

    failed: list[str] = []
    with connected(cluster) as pool:
        make = job(PartEvaluator, pictures.place.address, options, identity, pool.device, keep)
        for task, result in pool.run(make, tasks(), standing):
            if isinstance(result, Failed):
                where = f"images {task.first} to {task.first + len(task.entries) - 1}"
                failed.append(f"{pictures.place.url}: {where}: {result.reason}")
            else:
                parts[task.first] = result
        if failed:
            raise OutputError(failed[0] + (f" ({len(failed)} parts failed)" if len(failed) > 1 else ""))
        return parts, pool.size


def _kept(
    place: Place, pictures: Source, listing: Listing, count: int, options: BoundOptions, identity: str
) -> dict[int, Part]:
    """Return the parts that are there, of this set and these settings.

    Raises:
        InputError: the folder is of another run.
        OutputError: it cannot be written.
    """
    digest = Plan.of(listing.table, {"shard_images": PART_IMAGES, "shard_pixels": None}).identity
    settings = asdict(replace(options, model=str(options.model), batch=0))
    facts = {"source": pictures.place.address, "model_id": identity, "images": count, "listing": digest} | settings
    there = place.sizes()
    if _MARK in there:
        try:
            begun = json.loads(place.read(place.path(_MARK)))
        except ValueError:
            begun = None
        if begun != facts:
            raise InputError(f"{place.url}: was begun with other images or settings; choose another folder")
    elif there:
        raise InputError(f"{place.url}: has files of something else, such as {min(there)}; choose an empty folder")
    place.write(_MARK, (json.dumps(facts) + "\n").encode())
    found: dict[int, Part] = {}
    for first in range(0, count, PART_IMAGES):
        if _name(first) in there:
            try:
                found[first] = Part.unpack(place.read(place.path(_name(first))))
            except (ValueError, KeyError, OSError, zipfile.BadZipFile):
                # Damaged: it is evaluated again.
                continue
    return found


def _name(first: int) -> str:
    return f"part-{first:09d}.npz"


def _merged(parts: dict[int, Part], listing: Listing, seconds: float, workers: int) -> BulkBound:
    reports = [part.report for part in parts.values() if part.report is not None]
    ordered = [parts[first] for first in sorted(parts)]
    failures = [*listing.refused, *(one for part in ordered for one in part.failures)]
    if not reports:
        raise InputError(f"no image can be used ({failures[0]})")
    changed: dict[str, int] = {}
    for part in ordered:
        for change, number in part.changed.items():
            changed[change] = changed.get(change, 0) + number
    return BulkBound(BoundReport.merged(reports), failures, listing.left_out, changed, seconds, workers)
