"""The pictures of a set as rows of an Arrow table, which holds millions of them."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ddpm_codec.errors import Untaken

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = -1
"""The offset of a picture that is a file of its own."""


class Entry(NamedTuple):
    """A picture to code.

    Attributes:
        name: its name in a shard: the path below what was given.
        file: path of the file that holds it, on its file system.
        offset: where it begins there; WHOLE if it is the file.
        bytes: its length.
        pixels: as its header says; 0 where that was not read, or cannot be.
    """

    name: str
    file: str
    offset: int
    bytes: int
    pixels: int = 0


@dataclass(frozen=True)
class Listing:
    """What was found.

    Attributes:
        table: a row an :class:`Entry`, in the order in which they are coded.
        left_out: what is no picture.
        refused: pictures that cannot be taken by their name alone.
    """

    table: "pa.Table"
    left_out: list[Untaken] = field(default_factory=list)
    refused: list[Untaken] = field(default_factory=list)


def table_of(entries: Sequence[Entry]) -> "pa.Table":
    """Return entries as a table."""
    import pyarrow as pa

    # Names of tars repeat; those of files share all but their end, and cost little beside the others.
    schema = pa.schema(
        [
            ("name", pa.string()),
            ("file", pa.dictionary(pa.int32(), pa.string())),
            ("offset", pa.int64()),
            ("bytes", pa.int64()),
            ("pixels", pa.int64()),
        ]
    )
    columns = zip(*entries, strict=True) if entries else [[] for _ in Entry._fields]
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def entries_of(table: "pa.Table", start: int = 0, stop: int | None = None) -> list[Entry]:
    """Return rows ``start`` to ``stop`` of a table."""
    rows = table.slice(start, None if stop is None else stop - start)
    return [Entry(*values) for values in zip(*(rows.column(name).to_pylist() for name in Entry._fields), strict=True)]


def batches_of(table: "pa.Table", size: int = 4096) -> Iterator[list[Entry]]:
    """Yield all rows, at most ``size`` at a time."""
    for start in range(0, len(table), size):
        yield entries_of(table, start, start + size)


def read_parquet(data: bytes) -> "pa.Table":
    """Return the table of a Parquet file.

    It is read in this thread: those of ``read_table`` may still hold the file when Python exits, and abort it then.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(io.BytesIO(data), pre_buffer=False).read(use_threads=False)
