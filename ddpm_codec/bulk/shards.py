"""The shards of a finished run, their pictures one after the other, and the names that these get when they are decoded."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.bulk.places import Place, UnreachableError
from ddpm_codec.bulk.plan import PLAN, Plan
from ddpm_codec.bulk.rows import MANIFEST, Row, manifest_rows
from ddpm_codec.bulk.shard_encoder import model_address
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.container import ByteSource, read_container
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.files.verification import UNLIMITED
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable


class Shard(NamedTuple):
    """A shard of a finished run.

    Attributes:
        file: its file name.
        rows: its pictures, in order.
        failures: pictures that would be in it and could not be used.
    """

    file: str
    rows: list[Row]
    failures: list[Row]


class FinishedRun:
    """The manifest of a run, and its plan.

    Args:
        url: the folder that the run wrote.

    Attributes:
        place: that folder.
        plan: the plan.

    Raises:
        FormatError: the plan is damaged.
        InputError: it is no such folder, or the run is not finished.
    """

    def __init__(self, url: str) -> None:
        self.place = Place(url)
        there = self.place.sizes()
        if PLAN not in there:
            raise InputError(f"{url}: has no {PLAN}; name the folder that bulk encode wrote")
        if MANIFEST not in there:
            raise InputError(f"{url}: has no {MANIFEST}; the run is not finished, the same bulk encode goes on with it")
        self.plan = Plan.read(self.place)
        self.files = there

    def shards(self) -> Iterator[Shard]:
        """Yield the shards that the manifest names, in order, with their pictures.

        Raises:
            FormatError: the manifest is damaged.
        """
        yield from _grouped(self.rows())

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the manifest, whose names are safe to write.

        Raises:
            FormatError: the manifest is damaged, or names something outside its folder.
        """
        for row in manifest_rows(self.place):
            try:
                if row.shard:
                    check_name(row.name)
            except InputError as error:
                raise FormatError(f"{self.place.url}/{MANIFEST}: {error}") from None
            if "/" in row.shard:
                raise FormatError(f"{self.place.url}/{MANIFEST}: {row.shard!r} is not the name of a shard")
            yield row


def _grouped(rows: "Iterable[Row]") -> Iterator[Shard]:
    file: str | None = None
    pictures: list[Row] = []
    failures: list[Row] = []
    for row in rows:
        if row.shard != file:
            if file is not None:
                yield Shard(file, pictures, failures)
            file, pictures, failures = row.shard, [], []
        (failures if row.failure else pictures).append(row)
    if file is not None:
        yield Shard(file, pictures, failures)


def named(model: ModelName | None) -> str | None:
    """Return what workers call a model that was given; None: none was."""
    return None if model is None else model_address(model)


@contextmanager
def opened_shard(place: Place, file: str, model: ModelName | None, device: str) -> Iterator[ArchiveDecoder]:
    """Open a shard for decoding in one thread; torch is loaded only where a model is needed.

    Raises:
        FormatError: it is damaged, or not there.
        ModelError: its model is not available.
        UnreachableError: it cannot be read now.
    """
    try:
        data = place.read(place.path(file))
    except UnreachableError:
        raise
    except InputError as error:
        # A shard that is not there is a damaged run.
        raise FormatError(str(error)) from error
    container = read_container(ByteSource(data, f"{place.url}/{file}", file), max_pixels=UNLIMITED)
    needs_model = container.head.needs_model
    with isolated(1 if needs_model else None):
        yield ArchiveDecoder(container, model=model if needs_model else None, device=device)


def check_names(run: FinishedRun, rows: "Iterable[Row]") -> None:
    """Check that rows are those of the plan: every picture of its listing once, in its order, and no other.

    Raises:
        FormatError: they are not.
    """
    planned = (entry.name for _, entries in run.plan.batches() for entry in entries)
    count = 0
    for count, row in enumerate((row for row in rows if row.shard), 1):
        if row.name != next(planned, None):
            raise FormatError(f"{run.place.url}/{MANIFEST}: row {count} is {row.name}, which is not what the plan has")
    if next(planned, None) is not None:
        raise FormatError(
            f"{run.place.url}/{MANIFEST}: has {count:,} pictures, where the plan has {len(run.plan.table):,}"
        )


def file_bases(run: FinishedRun) -> Iterator[str]:
    """Yield, for every picture of the manifest that has not failed, the name to write it under, without an extension.

    That is its name without its extension; with it, where another picture would have the same (``a.jpg`` beside ``a.png``),
    ignoring case; and with its number in the manifest behind it, where that is a picture's name too. Only digests of the
    names are held in memory.
    """
    shared = _shared(_digest(_stem(row.name)) for row in _pictures(run))
    bases = (_stem(row.name) if _digest(_stem(row.name)) not in shared else row.name for row in _pictures(run))
    twice = _shared(_digest(base) for base in bases)
    for number, row in enumerate(_pictures(run)):
        base = _stem(row.name)
        if _digest(base) in shared:
            base = row.name
        yield f"{base}-{number}" if _digest(base) in twice else base


def _pictures(run: FinishedRun) -> Iterator[Row]:
    return (row for row in run.rows() if not row.failure)


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(path.stem))


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.casefold().encode(), digest_size=8).digest(), "little")


def _shared(digests: Iterator[int]) -> set[int]:
    """Return what is there more than once."""
    found: NDArray[np.uint64] = np.sort(np.fromiter(digests, np.uint64))
    return set(map(int, np.unique(found[1:][found[1:] == found[:-1]])))
