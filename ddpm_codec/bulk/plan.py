"""The plan of a run: which pictures go into which shard, and how they are coded.

It is written before anything is coded, and never changed: a later start with the same plan goes on, any other is refused.
So a shard is the same bytes whoever codes it, and whenever.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ddpm_codec.bulk.entries import Entry, batches_of, entries_of, read_parquet
from ddpm_codec.bulk.places import Place
from ddpm_codec.container.layout import MAX_IMAGES
from ddpm_codec.errors import FormatError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
PLAN = "plan.json"
LISTING = "listing.parquet"
DEFAULT_SHARD_PIXELS = 1 << 24
"""Some minutes of work for a core, and files of about 20 MB."""

_MOST_PIXELS = 1 << 29
"""No shard has more, unless a single picture does: readers refuse files of a billion."""

_LISTED = ("name", "file", "offset", "bytes")


@dataclass(frozen=True, eq=False)
class Plan:
    """What is coded, and how.

    Attributes:
        facts: what another start has to agree with: source, options, model, and the digest of the listing.
        table: a row an :class:`~ddpm_codec.bulk.entries.Entry`.
        borders: of the shards: shard n has rows ``borders[n]`` to ``borders[n + 1]``.
    """

    facts: dict[str, Any]
    table: "pa.Table"
    borders: tuple[int, ...]

    @classmethod
    def of(cls, table: "pa.Table", facts: dict[str, Any]) -> "Plan":
        """Return the plan for a listing; ``shard_images`` or ``shard_pixels`` among the facts give the borders."""
        borders = _borders(table, facts["shard_images"], facts["shard_pixels"])
        return cls({**facts, "pictures": len(table), "listing": _digest(table)}, table, borders)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self.borders) - 1

    @cached_property
    def identity(self) -> str:
        """SHA-256 of everything, hexadecimal; a shard's sidecar has it."""
        return hashlib.sha256(_json(self.facts).encode()).hexdigest()

    def shard_name(self, number: int) -> str:
        """Return the name of a shard, without an extension."""
        return f"shard-{number:0{max(6, len(str(self.shards - 1)))}d}"

    def entries(self, number: int) -> list[Entry]:
        """Return the pictures of a shard."""
        return entries_of(self.table, self.borders[number], self.borders[number + 1])

    def write(self, place: Place) -> None:
        """Write the plan; it is there once ``plan.json`` is.

        Raises:
            OutputError: it cannot be written.
        """
        import pyarrow.parquet as pq

        listing = io.BytesIO()
        pq.write_table(self.table, listing, compression="zstd")
        place.write(LISTING, listing.getvalue())
        place.write(PLAN, (_json({"format": FORMAT, "facts": self.facts, "borders": self.borders}) + "\n").encode())

    @classmethod
    def read(cls, place: Place) -> "Plan":
        """Read a plan.

        Raises:
            FormatError: it is damaged, or of a newer version.
            InputError: it cannot be read.
        """
        label = f"{place.url}/{PLAN}"
        try:
            found = json.loads(place.read(place.path(PLAN)))
            version, facts, borders = found["format"], dict(found["facts"]), tuple(map(int, found["borders"]))
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise FormatError(f"{label}: is damaged") from error
        if version != FORMAT:
            raise FormatError(f"{label}: has version {version}, this program reads {FORMAT}")
        listing = place.read(place.path(LISTING))
        try:
            table = read_parquet(listing)
            plan = cls(facts, table, borders)
            whole = _digest(table) == facts["listing"] and borders[0] == 0 and borders[-1] == len(table)
        except Exception as error:  # pyarrow's own
            raise FormatError(f"{place.url}/{LISTING}: is damaged") from error
        if not whole:
            raise FormatError(f"{place.url}/{LISTING}: does not belong to {PLAN}")
        return plan

    def check_same(self, now: "Plan", place: Place) -> None:
        """Check that another start means the same work.

        Args:
            now: what that start would do.
            place: where this plan lies.

        Raises:
            InputError: it does not; one line that says what differs.
        """
        for key, begun in self.facts.items():
            wanted = now.facts.get(key)
            if begun != wanted:
                what = f"--{key.replace('_', '-')} {begun}, not {wanted}"
                if key in ("listing", "pictures", "refused"):
                    what = f"other pictures: {_changed(self, now)}"
                elif isinstance(begun, bool):
                    what = f"--{key.replace('_', '-')}" if begun else f"no --{key.replace('_', '-')}"
                elif key in ("source", "model_id"):
                    what = f"another {key.replace('_id', '')}"
                elif None in (begun, wanted):
                    what = f"no --{key.replace('_', '-')}" if begun is None else f"--{key.replace('_', '-')} {begun}"
                raise InputError(
                    f"{place.url}: was begun with {what}; go on with the same options and pictures, or choose another folder"
                )

    def batches(self) -> Iterator[tuple[int, list[Entry]]]:
        """Yield the number of each shard with its pictures."""
        for number in range(self.shards):
            yield number, self.entries(number)


def _changed(before: Plan, now: Plan) -> str:
    """Say how the listing of a later start differs."""
    if len(before.table) != len(now.table):
        return f"{len(before.table):,}, and now there are {len(now.table):,}"
    for old, new in zip(_rows(before.table), _rows(now.table), strict=True):
        if old != new:
            return f"{new.name} is new, moved or has another length"
    return "other names were refused"


def _rows(table: "pa.Table") -> Iterator[Entry]:
    for batch in batches_of(table):
        for entry in batch:
            yield entry._replace(pixels=0)


def _borders(table: "pa.Table", images: int | None, pixels: int | None) -> tuple[int, ...]:
    """Return where shards begin and end: after so many images, or before there are more than so many pixels."""
    count = len(table)
    if images is not None:
        return (*range(0, count, images), count)
    borders, filled = [0], 0
    most = min(_MOST_PIXELS, DEFAULT_SHARD_PIXELS if pixels is None else pixels)
    for row, found in enumerate(table.column("pixels").to_pylist()):
        if row > borders[-1] and (filled + found > most or row - borders[-1] >= MAX_IMAGES):
            borders.append(row)
            filled = 0
        filled += found
    return (*borders, count)


def _digest(table: "pa.Table") -> str:
    """Return the SHA-256 of what a listing says of its pictures."""
    digest = hashlib.sha256()
    for entry in _rows(table):
        digest.update(_json([getattr(entry, name) for name in _LISTED]).encode())
    return digest.hexdigest()


def _json(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
