"""Own times of watched functions in the benchmarks."""

from types import SimpleNamespace

from benchmarks.stage_times import StageTimes


def test_time_in_another_watched_function_is_not_its_own() -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    def inner() -> None:
        wait(3.0)

    def outer() -> None:
        wait(1.0)
        place.inner()
        place.inner()
        wait(0.5)

    place = SimpleNamespace(inner=inner, outer=outer)
    with StageTimes(lambda: now[0]) as times:
        times.watch(place, "outer", "rest", part="network", count=lambda: 7)
        times.watch(place, "inner", "products")
        place.outer()
        place.inner()
    place.outer()
    assert times.seconds == {"network: rest": 1.5, "network: products": 6.0, "products": 3.0}
    assert times.counts == {"network: rest": 7}
