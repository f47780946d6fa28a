"""The process of the program: signals that ask it to go, and standard streams that its work never fails of.

Such a signal becomes an exception, so that whatever has been begun is cleaned up on the way out. A message that cannot be
written to standard error is lost, and the work goes on. Standard output carries results: what cannot be written there is an
error, also where it is closed from the start.

Only the program does this. The library installs no signal handlers, and leaves the streams alone.
"""

import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")
"""Windows has no SIGHUP."""

_WORDS: Final = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}

_ONE_EVENT_SECONDS: Final = 2.0
"""Signals so soon after the first, such as a second Ctrl-C or SIGHUP before SIGTERM, do not disturb the cleaning up."""


class Interrupted(BaseException):
    """The program was asked to go.

    Not an ``Exception``, for the same reason as ``KeyboardInterrupt``: nothing but cleaning up may catch it.

    Args:
        number: of the signal.
        note: what else there is to say.
    """

    def __init__(self, number: int, note: str = "") -> None:
        super().__init__(number)
        words = _WORDS.get(signal.Signals(number).name, "interrupted")
        self.number, self.message = number, f"{words}{note and '; '}{note}"

    def __str__(self) -> str:
        return self.message

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it."""
        return 128 + self.number


class _State:
    """What the handler knows."""

    raised_at: float | None = None
    """When :class:`Interrupted` was last raised."""

    waiting: "Postponed | None" = None
    """Who wants to be told first."""


_state = _State()


class Postponed:
    """Lets work finish what it is at: ask the object after every step whether to stop.

    The first call begins: from then on, and until the ``with`` block ends, the first signal is only remembered. A second one
    (more than a moment later) interrupts at once.

    Attributes:
        number: of the signal that came; None: none did.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        """Return whether a signal has come."""
        _state.waiting = self
        return self.number is not None

    def __enter__(self) -> "Postponed":
        return self

    def __exit__(self, *_: object) -> None:
        _state.waiting = None


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` on signals inside the block; afterwards, they end the process without a word.

    Signals that are ignored, as ``nohup`` and shells do for work in the background, stay ignored.
    """
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    sys.unraisablehook = _try_again
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    waiting = _state.waiting
    if waiting is not None and waiting.number is None:
        waiting.number, _state.raised_at = number, now
        return
    if _state.raised_at is not None and now - _state.raised_at < _ONE_EVENT_SECONDS:
        return
    _state.raised_at = now
    raise Interrupted(number)


def _try_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Send a signal anew whose exception was lost: raised in a destructor or a callback, nobody gets it."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)
        return
    import threading

    _state.raised_at = None
    again = threading.Timer(0.05, os.kill, (os.getpid(), unraisable.exc_value.number))
    again.daemon = True
    again.start()


class _Tolerant(io.TextIOWrapper):
    """Text that is dropped where it cannot be written."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def safe_streams() -> None:
    """Make the standard streams of this process safe."""
    # A file opened later would get the number of a closed stream, and with it what libraries write there. A device opened for
    # reading fails when it is written to, as the closed stream would.
    for number, access in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.set_inheritable(os.open(os.devnull, access), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    # A buffer of its own: what the old one could not write would fail again when the process ends.
    binary = open(2, "wb", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = _Tolerant(binary, encoding=encoding, errors="backslashreplace", line_buffering=True)
