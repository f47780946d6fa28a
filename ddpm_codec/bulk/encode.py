"""Encodes a set of pictures into shards, on as many workers as there are."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ddpm_codec.bulk.engine import Cluster, Failed, connected, job
from ddpm_codec.bulk.entries import Listing
from ddpm_codec.bulk.finished import finished_shards, tables_of
from ddpm_codec.bulk.lock import alone, remove_temporaries
from ddpm_codec.bulk.places import Place
from ddpm_codec.bulk.plan import LISTING, PLAN, Plan
from ddpm_codec.bulk.progress import Progress, Standing
from ddpm_codec.bulk.report_page import FAILURES, PageFacts, write_page
from ddpm_codec.bulk.rows import SHARD, SIDECAR, Row, ShardFacts, rows_of, table_of_rows, write_manifest
from ddpm_codec.bulk.shard_encoder import Setting, ShardEncoder, Task, model_address
from ddpm_codec.bulk.source import Source
from ddpm_codec.bulk.tally import Tally
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS, checked_options
from ddpm_codec.container.layout import MAX_IMAGES
from ddpm_codec.errors import DdpmCodecError, InputError, LeftOutError, OutputError, Untaken
from ddpm_codec.models.registry import DEFAULT, ModelName, find_model, model_id
from ddpm_codec.stopwatch import Stopwatch
from ddpm_codec.units import bytes_to_bpd

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 1000
"""Failures that a report names; the manifest has all."""


@dataclass(frozen=True)
class BulkOptions:
    """Options of a run; those that are not here are of :class:`ddpm_codec.files.EncodeOptions`.

    Attributes:
        model: name or file of a model; ``none`` for the fallback alone.
        steps: K of the chain; None: chosen by the codec.
        tile: side of the tiles of large pictures; None: chosen by the codec.
        block_pixels: pixels per block, the unit of damage and of random access.
        shard_pixels: a shard has no more pixels, unless it is one picture; None: 2^24, where ``shard_images`` is None too.
        shard_images: a shard has so many pictures; their headers are not read before the start then.
        first_frame: encode the first frame of pictures with several.
        strip: leave out all metadata.
        verify: decode every shard and compare it before it appears.
        strict: refuse sources with files that are not pictures.

    Raises:
        InputError: options that cannot be combined, or are out of range.
    """

    model: ModelName = DEFAULT
    steps: int | None = None
    tile: int | None = None
    block_pixels: int = DEFAULT_BLOCK_PIXELS
    shard_pixels: int | None = None
    shard_images: int | None = None
    first_frame: bool = False
    strip: bool = False
    verify: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        if self.shard_pixels is not None and self.shard_images is not None:
            raise InputError("shards have a number of pixels or of images: give one of shard-pixels and shard-images")
        for name in ("shard_pixels", "shard_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name.replace('_', '-')} = {value}: must be positive")
        if self.shard_images is not None and self.shard_images > MAX_IMAGES:
            raise InputError(f"shard-images = {self.shard_images}: a shard holds at most {MAX_IMAGES:,}")
        if self.model == "none" and self.steps is not None:
            raise InputError("steps need a model; model none has no chain")
        checked_options(self.block_pixels, self.tile or 256)


@dataclass
class BulkReport:
    """What a run did.

    Attributes:
        pictures: coded, by this run or an earlier one.
        failed: pictures that could not be used.
        shards: finished shards.
        kept_shards: those of them that an earlier run had finished.
        pixels: in all shards.
        dims: sub-pixels in all shards.
        file_bytes: of all shards.
        fallback_pictures: coded by the fallback.
        seconds: of this run.
        worker_seconds: of work on all shards, whenever that was.
        workers: how many there were; 0: nothing was left to do.
        device: of the workers.
        failures: the first failures, with the reasons.
        left_out: contents of the source that are not pictures.
        notes: what was left out of pictures' files, and the like.
    """

    pictures: int = 0
    failed: int = 0
    shards: int = 0
    kept_shards: int = 0
    pixels: int = 0
    dims: int = 0
    file_bytes: int = 0
    fallback_pictures: int = 0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    workers: int = 0
    device: str = "cpu"
    failures: list[Untaken] = field(default_factory=list)
    left_out: list[Untaken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, table: "pa.Table", facts: ShardFacts) -> None:
        """Count a shard."""
        self.shards += 1
        self.pictures += facts.pictures
        self.failed += facts.failures
        self.pixels += facts.pixels
        self.dims += facts.dims
        self.file_bytes += facts.file_bytes
        self.fallback_pictures += facts.fallback_pictures
        self.worker_seconds += facts.seconds
        self.notes += facts.notes
        if facts.failures and len(self.failures) < SHOWN:
            failed = [Untaken(row.source, row.failure) for row in rows_of(table) if row.failure]
            self.failures += failed[: SHOWN - len(self.failures)]

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, and bits per dimension."""
        lists = {key: [one.to_json() for one in getattr(self, key)] for key in ("failures", "left_out")}
        return vars(self) | {"file_bpd": bytes_to_bpd(self.file_bytes, self.dims) if self.dims else None} | lists


def bulk_encode(
    source: str,
    destination: str,
    options: BulkOptions | None = None,
    cluster: Cluster | None = None,
    *,
    progress: Progress | None = None,
) -> BulkReport:
    """Encode a set of pictures into shards ``shard-000000.ddpm``, ..., with a manifest of all pictures.

    The unit of work is the shard: it is the same bytes whoever codes it, written whole or not at all, and finished once its
    sidecar is there. After an interruption of any kind the same call goes on, and codes no finished shard again. A picture
    that cannot be used is a row of the manifest with its reason, and stops no other.

    Args:
        source: a folder, a pattern, webdataset tars, or any address that fsspec knows.
        destination: a folder, as a path or an address.
        options: how; None: the defaults.
        cluster: where the work runs; None: on all cores of this machine.
        progress: told how far it is.

    Raises:
        FormatError: a plan or a sidecar is damaged; with ``verify``, a shard did not decode.
        InputError: the source has no pictures, cannot be read, or is not that of the run that was begun here.
        LeftOutError: with ``strict``, something in the source is not a picture.
        MissingDependencyError: the extra ``cluster`` is not installed.
        ModelError: the model does not exist, is damaged, or has no such chain.
        OutputError: shards failed, or cannot be written; what is finished stays, and the same call goes on.
    """
    options, cluster = options or BulkOptions(), cluster or Cluster()
    pictures, place = Source(source), Place(destination)
    report = BulkReport()
    with Stopwatch() as watch:
        wanted, report.left_out = _wanted(pictures, place, options, progress)
        with alone(place):
            plan, new = _planned(wanted, place)
            finished = finished_shards(place, plan)
            report.kept_shards = len(finished)
            try:
                if len(finished) < plan.shards:
                    _encode(plan, place, options, cluster, finished, report, progress)
            except BaseException:
                _forget_unused(place, new=new)
                raise
            _merge(plan, pictures, place, report)
    report.seconds = watch.seconds
    return report


def _wanted(
    pictures: Source, place: Place, options: BulkOptions, progress: Progress | None
) -> tuple[Plan, list[Untaken]]:
    """Return the plan that this start would make, and what of the source is left out; nothing is written."""
    facts = _facts(pictures, options)

    def said(found: int) -> None:
        if progress is not None:
            progress(Standing(0, found))

    # A plan that is there has the borders already.
    listing = pictures.listing(pixels=options.shard_images is None and PLAN not in place.sizes(), said=said)
    listing = _without(listing, pictures.place, place)
    if options.strict and listing.left_out:
        raise LeftOutError(listing.left_out)
    # No shard can hold their names.
    facts["refused"] = [list(one) for one in listing.refused]
    return Plan.of(listing.table, facts), listing.left_out


def _planned(wanted: Plan, place: Place) -> tuple[Plan, bool]:
    """Return the plan that lies there, which has to be the one that is wanted, or write it; and whether it is new."""
    there = place.sizes()
    if PLAN in there:
        begun = Plan.read(place)
        begun.check_same(wanted, place)
        remove_temporaries(place)
        return begun, False
    foreign = next((name for name in sorted(there) if name.endswith(SHARD)), None)
    if foreign is not None:
        raise InputError(f"{place.url}: has {foreign} and no {PLAN}; choose an empty folder")
    wanted.write(place)
    return wanted, True


def _forget_unused(place: Place, *, new: bool) -> None:
    """Remove a plan that this start has written and nothing was coded by, so that another one may take its place."""
    with suppress(DdpmCodecError):
        there = place.sizes()
        if new and not any(name.endswith((SHARD, SIDECAR)) for name in there):
            for name in {PLAN, LISTING} & there.keys():
                place.remove(name)


def _without(listing: Listing, source: Place, place: Place) -> Listing:
    """Return a listing that does not mention what the run itself writes into a folder of its source."""
    inside = source.label(place.root.rstrip("/") + "/")
    return replace(listing, left_out=[one for one in listing.left_out if not one.path.startswith(inside)])


def _facts(pictures: Source, options: BulkOptions) -> dict[str, Any]:
    """Return what another start has to agree with, apart from the pictures."""
    model = model_address(options.model)
    return {
        "source": pictures.place.address,
        "model": model,
        "model_id": "" if model == "none" else model_id(find_model(model)),
        **{key: getattr(options, key) for key in ("steps", "tile", "block_pixels", "shard_pixels", "shard_images")},
        **{key: getattr(options, key) for key in ("first_frame", "strip")},
    }


def _encode(
    plan: Plan,
    place: Place,
    options: BulkOptions,
    cluster: Cluster,
    finished: dict[int, ShardFacts],
    report: BulkReport,
    progress: Progress | None,
) -> None:
    """Encode what is not finished.

    Raises:
        ModelError: no worker can open the model.
        OutputError: shards failed.
    """
    before = sum(facts.pictures + facts.failures for facts in finished.values())
    coded = Tally()

    def standing(done: Tally) -> None:
        if progress is not None:
            pictures = before + done.pictures
            progress(Standing(pictures, len(plan.table), done.dims, coded.file_bytes, coded.dims))

    failed: list[Untaken] = []
    standing(Tally())
    with connected(cluster) as pool:
        report.workers, report.device = pool.size, pool.device
        setting = _setting(plan, place, options, pool.device)
        tasks = (Task(plan.shard_name(n), entries) for n, entries in plan.batches() if n not in finished)
        for task, result in pool.run(job(ShardEncoder, setting), tasks, standing):
            if isinstance(result, Failed):
                failed.append(Untaken(task.shard + SHARD, result.reason))
            else:
                coded = coded.plus(Tally(result.pictures, result.dims, result.file_bytes))
    if failed:
        more = f" ({len(failed)} shards failed)" if len(failed) > 1 else ""
        first = Untaken(failed[0].path, place.without(failed[0].path, failed[0].reason))
        raise OutputError(f"{place.url}: {first}{more}; what is finished stays, and the same command goes on")


def _setting(plan: Plan, place: Place, options: BulkOptions, device: str) -> Setting:
    names = ("steps", "tile", "block_pixels", "first_frame", "strip", "verify")
    facts = plan.facts
    base = Setting(facts["source"], place.address, plan.identity, facts["model"], facts["model_id"], device)
    return replace(base, **{name: getattr(options, name) for name in names})


def _merge(plan: Plan, source: Source, place: Place, report: BulkReport) -> None:
    """Write the manifest and the page, and count what is in all shards."""
    page = PageFacts()

    def counted() -> Iterator["pa.Table"]:
        for table, facts in tables_of(place, plan):
            report.add(table, facts)
            page.add(table, facts)
            yield table
        # No shard could hold their names.
        refused = [Untaken(_text(path), _text(reason)) for path, reason in plan.facts["refused"]]
        report.failed += len(refused)
        report.failures += refused[: max(0, SHOWN - len(report.failures))]
        page.failures += refused[: max(0, FAILURES - len(page.failures))]
        yield table_of_rows(Row(one.path, "", "", failure=one.reason) for one in refused)

    write_manifest(place, counted())
    write_page(place, plan, source, page, _summary(plan, report))


def _summary(plan: Plan, report: BulkReport) -> list[tuple[str, str]]:
    model = plan.facts["model"] + (f" {plan.facts['model_id'][:12]}" if plan.facts["model_id"] else "")
    rate = f"{bytes_to_bpd(report.file_bytes, report.dims):.4f}" if report.dims else "-"
    return [
        ("source", plan.facts["source"]),
        ("model", model),
        ("pictures", f"{report.pictures:,}"),
        ("pictures that failed", f"{report.failed:,}"),
        ("coded by the fallback", f"{report.fallback_pictures:,}"),
        ("shards", f"{report.shards:,}"),
        ("pixels", f"{report.pixels:,}"),
        ("bytes", f"{report.file_bytes:,}"),
        ("bits/dim, everything included", rate),
        ("core-hours", f"{report.worker_seconds / 3600:,.2f}"),
    ]


def _text(name: str) -> str:
    """Return a name as text, where it is none."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
