"""Names of decoded pictures: each its own, whatever formats they had."""

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.bulk.rows import Row, manifest_rows
from ddpm_codec.bulk.shards import FinishedRun


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
    return (row for row in manifest_rows(run.place) if not row.failure)


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(path.stem))


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.casefold().encode(), digest_size=8).digest(), "little")


def _shared(digests: Iterator[int]) -> set[int]:
    """Return what is there more than once."""
    found: NDArray[np.uint64] = np.sort(np.fromiter(digests, np.uint64))
    return set(map(int, np.unique(found[1:][found[1:] == found[:-1]])))
