"""A stopwatch adds its blocks up, whatever ends them."""

import time

import pytest

from ddpm_codec.stopwatch import Stopwatch


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
