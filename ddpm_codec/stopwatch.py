"""Wall time of the parts of a run."""

import time
from types import TracebackType


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
