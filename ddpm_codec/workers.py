"""Parallel work over tiles: a few threads, each of which computes with one thread of torch.

Threads inside an operation wait actively for each other, so that one busy core beside them multiplies their time. Workers
share nothing but a list of tasks: where one is slow, the others take more of them.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Generic, TypeVar

from ddpm_codec.isolation import checked_threads, isolated, threads_asked_for

Task = TypeVar("Task")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Threads that work tasks off, started for each :meth:`map` and gone after it.

    Args:
        count: how many; None: as many as the call asks for (``threads=`` of the library, ``--threads``), otherwise as many
            as the process has cores.

    Raises:
        InputError: not a positive number.

    Examples:
        >>> Workers(2).map(abs, [-1, 2, -3])
        [1, 2, 3]
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = checked_threads(count)

    @property
    def count(self) -> int:
        """How many tasks may run at once; one inside a task of other workers."""
        if _THREAD.workers is not None:
            return 1
        return self._count or threads_asked_for() or usable_cores()

    def shares(self, total: int, most: int | None = None) -> list[slice]:
        """Return slices of ``total`` things to share out: two a worker, or more of ``most`` things; at least one.

        With two, a worker on a busy core leaves the rest of its share to the others.
        """
        size = total if self.count == 1 else -(-total // (2 * self.count))
        size = max(1, size if most is None else min(size, most))
        return [slice(start, min(start + size, total)) for start in range(0, max(total, 1), size)]

    def map(self, function: Callable[[Task], Result], items: Iterable[Task]) -> list[Result]:
        """Return ``function`` of each item, in the order of the items.

        With one worker, or one item, that happens in the calling thread; tasks may map in turn, in their own thread. All run
        with numpy and torch as in a new process, and one thread of torch.

        Raises:
            Exception: that of the first item, in order, that fails; items after it may not have been tried.
        """
        tasks = list(items)
        count = min(self.count, len(tasks))
        if count > 1:
            return _Run(function, tasks).in_threads(count)
        with _alone():
            return [function(task) for task in tasks]


class _Thread(threading.local):
    """What is known of a thread."""

    workers: int | None = None
    """How many there are, itself included; None: it is none."""


_THREAD = _Thread()


def share_of_time() -> float:
    """Return what a second of this thread is of the call that it works for: 1, or 1 / N as one of N workers.

    Examples:
        >>> Workers(2).map(lambda _: share_of_time(), range(3)), share_of_time()
        ([0.5, 0.5, 0.5], 1.0)
    """
    return 1.0 / (_THREAD.workers or 1)


def _alone() -> AbstractContextManager[None]:
    """Return a context with one thread of torch. Where it is not loaded, none is needed."""
    return isolated(1 if "torch" in sys.modules else None)


class _Run(Generic[Task, Result]):
    """One list of tasks on its way through the workers."""

    def __init__(self, function: Callable[[Task], Result], tasks: list[Task]) -> None:
        self._function, self._tasks = function, tasks
        self._results: dict[int, Result] = {}
        self._failed: dict[int, BaseException] = {}
        self._taken, self._stopped = 0, False
        self._lock = threading.Lock()

    def in_threads(self, count: int) -> list[Result]:
        """Return the results."""
        work = partial(self._work, count)
        threads = [threading.Thread(target=work, name=f"ddpm-codec worker {n}") for n in range(count)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            # An interrupt comes here, into the thread that waits: workers finish the tasks that they have.
            self._stopped = True
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._failed:
            # Tasks are taken in order, so those before a failed one have run: this one does not depend on chance.
            raise self._failed[min(self._failed)]
        return [self._results[index] for index in range(len(self._tasks))]

    def _work(self, count: int) -> None:
        _THREAD.workers = count
        with _alone():
            while (index := self._take()) is not None:
                try:
                    self._results[index] = self._function(self._tasks[index])
                except BaseException as error:
                    self._failed[index] = error
                    self._stopped = True

    def _take(self) -> int | None:
        with self._lock:
            if self._stopped or self._taken == len(self._tasks):
                return None
            self._taken += 1
            return self._taken - 1
