"""What is known of every picture of a run: a row each in the sidecar of its shard, and in the manifest of all."""

import builtins
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from ddpm_codec.bulk.entries import read_parquet
from ddpm_codec.bulk.places import Place
from ddpm_codec.container import ROUTE_FALLBACK, ROUTE_INDEXED, ROUTE_MODEL
from ddpm_codec.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.parquet"
SIDECAR = ".rows.parquet"
SHARD = ".ddpm"
ROUTES = {ROUTE_FALLBACK: "fallback", ROUTE_MODEL: "bits-back", ROUTE_INDEXED: "indices"}
_FACTS = b"ddpm_codec"
_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class Row:
    """A picture, or one that failed.

    Attributes:
        source: where it came from, as a user would name it.
        name: its name in the shard.
        shard: name of the shard's file; of a failure, of the one that it would be in.
        index: its place in the shard; -1: it failed.
        bytes: its share of the bytes of its blocks.
        bpd: these in bits per sub-pixel.
        sha256: of its pixels, as :attr:`ddpm_codec.picture.Picture.pixels` has them.
        route: how it was coded.
        width: in pixels.
        height: in pixels.
        mode: its pixel mode.
        failure: why it failed; empty: it did not.
    """

    source: str
    name: str
    shard: str
    index: int = -1
    bytes: int = 0
    bpd: float = 0.0
    sha256: builtins.bytes = b""
    route: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    failure: str = ""


@dataclass(frozen=True)
class ShardFacts:
    """A finished shard, as its sidecar says.

    Attributes:
        plan: identity of the plan.
        shard: its name, without an extension.
        file_bytes: bytes of its file; 0: none, because none of its pictures could be used.
        sha256: of the file, hexadecimal.
        pictures: how many it holds.
        failures: how many could not be used.
        pixels: in all.
        dims: sub-pixels in all.
        fallback_pictures: coded by the fallback.
        seconds: of work.
        notes: what was left out of its pictures' files, a line each, at most a few.
    """

    plan: str
    shard: str
    file_bytes: int
    sha256: str
    pictures: int
    failures: int
    pixels: int
    dims: int
    fallback_pictures: int
    seconds: float
    notes: tuple[str, ...] = ()


def schema() -> "pa.Schema":
    """Return the columns of sidecars and of the manifest."""
    import pyarrow as pa

    kinds = {"source": pa.string(), "shard": pa.dictionary(pa.int32(), pa.string()), "index": pa.int32()}
    kinds |= {"bytes": pa.int64(), "bpd": pa.float32(), "sha256": pa.binary()}
    kinds |= {key: pa.dictionary(pa.int32(), pa.string()) for key in ("route", "mode")}
    kinds |= {"width": pa.int32(), "height": pa.int32()}
    return pa.schema([(field.name, kinds.get(field.name, pa.string())) for field in fields(Row)])


def table_of_rows(rows: Iterable[Row]) -> "pa.Table":
    """Return rows as a table."""
    import pyarrow as pa

    return pa.Table.from_pylist([asdict(row) for row in rows], schema=schema())


def pack(rows: Iterable[Row], facts: ShardFacts) -> bytes:
    """Return a sidecar."""
    import pyarrow.parquet as pq

    table = table_of_rows(rows)
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_FACTS: json.dumps(asdict(facts)).encode()}), out, compression="zstd")
    return out.getvalue()


def unpack(data: bytes, label: str) -> tuple["pa.Table", ShardFacts]:
    """Undo :func:`pack`.

    Raises:
        FormatError: it is damaged.
    """
    try:
        table = read_parquet(data)
        facts = json.loads(table.schema.metadata[_FACTS])
        found = ShardFacts(**{**facts, "notes": tuple(facts["notes"])})
        return table.replace_schema_metadata(None).cast(schema()), found
    except Exception as error:  # pyarrow's own, and whatever a foreign file causes
        raise FormatError(f"{label}: is damaged, or no sidecar of this program") from error


def read_sidecar(place: Place, shard: str) -> tuple["pa.Table", ShardFacts]:
    """Read the sidecar of a shard.

    Raises:
        FormatError: it is damaged.
        InputError: it cannot be read.
    """
    name = shard + SIDECAR
    return unpack(place.read(place.path(name)), f"{place.url}/{name}")


def read_facts(place: Place, shard: str) -> ShardFacts:
    """Read what the sidecar of a shard says of it, and not its rows.

    Raises:
        FormatError: it is damaged.
        InputError: it cannot be read.
    """
    import pyarrow.parquet as pq

    name = shard + SIDECAR
    with place.opened(place.path(name)) as file:
        try:
            facts = json.loads(pq.ParquetFile(file, pre_buffer=False).schema_arrow.metadata[_FACTS])
            return ShardFacts(**{**facts, "notes": tuple(facts["notes"])})
        except Exception as error:  # as in unpack
            raise FormatError(f"{place.url}/{name}: is damaged, or no sidecar of this program") from error


def rows_of(table: "pa.Table") -> Iterator[Row]:
    """Yield the rows of a table."""
    for values in table.to_pylist():
        yield Row(**values)


def write_manifest(place: Place, tables: Iterable["pa.Table"]) -> None:
    """Merge the rows of all shards into the manifest.

    Raises:
        OutputError: it cannot be written.
    """
    import pyarrow.parquet as pq

    with place.created(MANIFEST) as file, pq.ParquetWriter(file, schema(), compression="zstd") as writer:
        for table in _gathered(tables):
            writer.write_table(table)


def _gathered(tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
    """Yield the rows of many small tables in a few larger ones: each costs a reader the same, however small."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting).unify_dictionaries()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).unify_dictionaries()


def manifest_rows(place: Place) -> Iterator[Row]:
    """Yield the rows of the manifest, in order, those of a few shards at a time in memory.

    Raises:
        FormatError: it is damaged.
        InputError: it is not there, or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with place.opened(place.path(MANIFEST)) as file:
        try:
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(use_threads=False):
                yield from rows_of(pa.Table.from_batches([batch]).cast(schema()))
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise FormatError(f"{place.url}/{MANIFEST}: is damaged, or no manifest of this program") from error
