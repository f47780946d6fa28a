"""Workers: order, failures, nesting, interrupts, forks, and one thread of torch each."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_codec import workers
from ddpm_codec.errors import InputError
from ddpm_codec.isolation import isolated
from ddpm_codec.workers import Workers, usable_cores


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_results_keep_the_order_of_the_items() -> None:
    def late(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0.0)
        return number * number

    for count in (1, 2, 5):
        assert Workers(count).map(late, iter(range(10))) == [number * number for number in range(10)]
    assert Workers(3).map(late, []) == []


def test_tasks_run_at_once_and_leave_no_thread() -> None:
    before, together = names(), threading.Barrier(3)
    # Each task waits for the other two.
    assert len(set(Workers(3).map(lambda _: together.wait(10) is not None and threading.get_ident(), range(3)))) == 3
    assert names() == before


def test_one_worker_or_one_item_is_the_calling_thread() -> None:
    here = threading.get_ident()
    assert Workers(1).map(lambda _: threading.get_ident(), range(3)) == [here] * 3
    assert Workers(4).map(lambda _: threading.get_ident(), range(1)) == [here]


def test_tasks_that_map_do_so_in_their_thread() -> None:
    def inner(_: int) -> tuple[int, set[int], int]:
        return threading.get_ident(), set(Workers(4).map(lambda _: threading.get_ident(), range(8))), Workers(4).count

    assert all((own, count) == (*found, 1) for own, found, count in Workers(2).map(inner, range(4)))
    # Of a single item, which leaves the others idle, the tasks are shared out.
    together = threading.Barrier(2)
    assert Workers(2).map(lambda _: len(Workers(2).map(lambda _: together.wait(10), range(2))), [0]) == [2]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_first_item_that_fails_is_the_error(count: int) -> None:
    def fail(number: int) -> int:
        if number in (3, 4):
            # The later one fails earlier.
            time.sleep(0.05 if number == 3 else 0.0)
            raise ValueError(f"item {number}")
        return number

    before = names()
    with pytest.raises(ValueError, match="item 3"):
        Workers(count).map(fail, range(100))
    assert names() == before


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt: in the background a shell lets programs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("count", [1, 2])
def test_an_interrupt_ends_the_work(count: int) -> None:
    done: list[int] = []
    main = threading.main_thread().ident or 0

    def task(number: int) -> None:
        if number == 1:
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.01)
        done.append(number)

    before = names()
    with pytest.raises(KeyboardInterrupt):
        Workers(count).map(task, range(1000))
    assert len(done) < 500
    assert names() == before


def test_each_worker_has_one_thread_of_torch_and_usual_settings() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with np.errstate(all="raise"), torch.inference_mode(), torch.autocast("cpu"):
            for count in (1, 2):
                found = Workers(count).map(
                    lambda _: (
                        torch.get_num_threads(),
                        np.geterr()["over"],
                        torch.is_inference_mode_enabled(),
                        torch.is_autocast_enabled("cpu"),
                    ),
                    range(4),
                )
                assert set(found) == {(1, "warn", False, False)}
            assert torch.get_num_threads() == 3
            assert np.geterr()["over"] == "raise"
    finally:
        torch.set_num_threads(before)


def test_the_number_is_that_of_the_call_or_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 7)
    assert Workers().count == 7
    with isolated(3):
        assert Workers().count == 3
        assert Workers(5).count == 5
        with isolated():
            assert Workers().count == 3
        with isolated(2):
            assert Workers().count == 2
        # A number belongs to the thread that asks for it.
        other: list[int] = []
        thread = threading.Thread(target=lambda: other.append(Workers().count))
        thread.start()
        thread.join()
        assert other == [7]
    assert Workers().count == 7


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("total", [0, 1, 5, 12, 100])
@pytest.mark.parametrize("most", [None, 1, 4])
def test_shares_are_the_whole_in_order(count: int, total: int, most: int | None) -> None:
    shares = Workers(count).shares(total, most)
    assert [index for share in shares for index in range(total)[share]] == list(range(total))
    largest = max(share.stop - share.start for share in shares)
    assert largest <= max(1, total if count == 1 else -(-total // (2 * count)))
    assert most is None or largest <= most
    assert len(shares) >= 1


@pytest.mark.parametrize("count", [0, -1, True, 1.5])
def test_the_number_is_checked(count: Any) -> None:  # noqa: ANN401
    with pytest.raises(InputError, match="must be a positive integer"):
        Workers(count)
