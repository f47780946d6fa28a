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
    """Let one run at a time write to a local folder, and remove what killed ones left half-written.

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
        except OSError:
            raise InputError(f"{place.url}: another run is writing there") from None
        begin, end = TEMPORARY
        for left in folder.rglob(f"{begin}*{end}"):
            with suppress(OSError):
                left.unlink()
        yield
    finally:
        # The lock goes with the handle, also where the process is killed.
        os.close(handle)
