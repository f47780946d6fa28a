"""One run at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ddpm_codec.bulk.places import TEMPORARY, Place
from ddpm_codec.errors import InputError


@contextmanager
def alone(place: Place) -> Iterator[None]:
    """Let one run at a time write to a local folder.

    On other file systems two runs write the same shards twice, which changes nothing.

    Raises:
        InputError: another run writes there.
        OutputError: the folder cannot be written.
    """
    if not place.is_local:
        yield
        return
    folder = Path(place.root)
    with place.writing("plan.json"):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{place.url}: another run is writing there") from None
        except OSError:
            # Some network file systems have no locks. Two runs would write the same files twice.
            pass
        yield
    finally:
        # The lock goes with the handle, also where the process is killed.
        os.close(handle)


def remove_temporaries(place: Place, *, deep: bool = False) -> None:
    """Remove what killed runs left half-written in a local folder that is known to be theirs.

    Args:
        place: the folder.
        deep: in the folders below it too.
    """
    if not place.is_local:
        return
    begin, end = TEMPORARY
    pattern = f"{begin}*{end}"
    for left in Path(place.root).rglob(pattern) if deep else Path(place.root).glob(pattern):
        with suppress(OSError):
            left.unlink()
