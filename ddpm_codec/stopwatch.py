"""Wall time of the parts of a run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ddpm_codec.workers import share_of_time


class Stopwatch:
    """Adds up the time spent inside its ``with`` blocks, which must not nest.

    Attributes:
        seconds: of all blocks that have ended.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> "Stopwatch":
        """Start."""
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, also where the block fails."""
        self.seconds += time.perf_counter() - self._started


class SharedStopwatch:
    """Adds up the time that several threads spend inside :meth:`running`.

    What one of several :class:`~ddpm_codec.workers.Workers` spends counts for its share of them, so that the sum is at most
    the time of the call that they work for.

    Attributes:
        seconds: of all blocks that have ended.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Return a context whose time is added, also where it fails."""
        watch = Stopwatch()
        try:
            with watch:
                yield
        finally:
            with self._lock:
                self.seconds += watch.seconds * share_of_time()
