"""A stopwatch adds its blocks up, whatever ends them; one of several threads, as parts of the time they take together."""

import time

import pytest

from ddpm_codec.stopwatch import SharedStopwatch, Stopwatch
from ddpm_codec.workers import Workers


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 20.0, 23.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    assert watch.seconds == 0.0
    with watch as same:
        assert same is watch
    assert watch.seconds == 0.5
    with pytest.raises(KeyError), watch:
        raise KeyError
    assert watch.seconds == 3.5


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_time_of_workers_is_at_most_that_of_their_call(count: int) -> None:
    inner, whole = SharedStopwatch(), Stopwatch()

    def task(fails: bool) -> None:
        with inner.running():
            time.sleep(0.02)
            if fails:
                raise KeyError

    with whole, pytest.raises(KeyError):
        Workers(count).map(task, [False] * 5 + [True])
    assert 6 * 0.02 / count <= inner.seconds <= whole.seconds
