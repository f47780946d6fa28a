"""Reports of parts of a set: merged they are that of the set, whatever the parts, and they keep as arrays."""

import dataclasses
import functools
import io
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddpm_codec.errors import InputError
from ddpm_codec.evaluation import BoundReport, bound_of
from tests.golden.regenerate import noisy_picture
from tests.toy_exact import toy_exact

IMAGES = 5
CLOCK = ("seconds", "images_per_second")
ROWS = ("prior_bpd", "diffusion_bpd", "reconstruction_bpd", "dims", "mean_rmse", "places")

RTOL = 2 * 16 * 24 * 3 * 2.0**-53
"""An exact model: two orders of adding up a term of the largest image."""


@functools.cache
def part(*places: int) -> BoundReport:
    """Evaluate some images of a set: one of 8x8, others of 8x24 and 16x24, which are cut into tiles."""
    images = [noisy_picture(place, 8 + 8 * (place % 2), 8 if place == 2 else 24) for place in places]
    return bound_of(images, toy_exact(), places=places, steps=1, tile=16, seed=2, device="cpu")


def with_facts(report: BoundReport, **facts: Any) -> BoundReport:  # noqa: ANN401 - any fact
    return dataclasses.replace(report, facts=report.facts | facts)


def kept(report: BoundReport) -> BoundReport:
    """Write and read a file of a part."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **report.to_arrays())
    with np.load(io.BytesIO(file.getvalue()), allow_pickle=False) as arrays:
        return BoundReport.from_arrays(arrays)


def assert_same(one: BoundReport, other: BoundReport, rtol: float = 0.0) -> None:
    assert one.chain == other.chain
    for name in ROWS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


def without_clock(report: BoundReport) -> dict[str, Any]:
    return {name: value for name, value in report.to_json().items() if name not in CLOCK}


@st.composite
def partitions(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Draw a set of images in disjoint parts, each in any order, in any order."""
    order = draw(st.permutations(range(IMAGES)))
    cuts = sorted(draw(st.sets(st.integers(1, IMAGES - 1))))
    return [tuple(order[start:end]) for start, end in zip([0, *cuts], [*cuts, IMAGES], strict=True)]


@given(partitions())
@settings(max_examples=30)
def test_parts_of_any_partition_merge_to_the_report_of_the_set(places: list[tuple[int, ...]]) -> None:
    whole, parts = part(*range(IMAGES)), [part(*some) for some in places]
    merged = BoundReport.merged(parts)
    assert merged.places.tolist() == list(range(IMAGES))
    assert_same(merged, whole, RTOL)
    assert merged.facts.keys() == whole.facts.keys()
    for name in whole.facts.keys() - set(CLOCK):
        assert merged.facts[name] == whole.facts[name]
    for name, value in without_clock(whole).items():
        assert without_clock(merged)[name] == (value if isinstance(value, (str, list)) else pytest.approx(value, RTOL))
    assert merged.facts["seconds"] == pytest.approx(sum(one.facts["seconds"] for one in parts))
    assert merged.facts["images_per_second"] == pytest.approx(IMAGES / merged.facts["seconds"])


@given(partitions())
@settings(max_examples=30)
def test_merging_is_exact_and_in_any_grouping(places: list[tuple[int, ...]]) -> None:
    """Of the same parts: in another order, merged in two stages, after a file and after a pickle, to the last bit."""
    parts = [part(*some) for some in places]
    merged = BoundReport.merged(parts)
    assert_same(BoundReport.merged(parts[::-1]), merged)
    middle = 1 + len(parts) // 2
    stages = [BoundReport.merged(some) for some in (parts[:middle], parts[middle:]) if some]
    assert_same(BoundReport.merged(stages), merged)
    assert without_clock(BoundReport.merged(stages)) == without_clock(merged)
    for copies in ([kept(one) for one in parts], pickle.loads(pickle.dumps(parts))):
        assert_same(BoundReport.merged(copies), merged)
        assert BoundReport.merged(copies).facts == merged.facts


def test_facts_of_parts_are_joined() -> None:
    grey, alpha = ({"path": name, "what": "grey"} for name in ("b\udcff.png", "a.png"))
    text = {"path": "notes.txt", "reason": "not a picture"}
    one = with_facts(part(0, 1), device="cuda", changed=[grey], left_out=[text], seconds=2.0)
    other = with_facts(part(2, 3, 4), changed=[alpha], left_out=[text], seconds=3.0)
    merged = BoundReport.merged([kept(other), kept(one)])
    assert merged.facts["changed"] == [grey, alpha]
    assert merged.facts["left_out"] == [text]
    assert (merged.facts["device"], merged.facts["seconds"], merged.facts["images_per_second"]) == (
        "cpu, cuda",
        5.0,
        1.0,
    )
    assert BoundReport.merged([merged]).facts == merged.facts


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        (lambda: [], "no parts of a bound to merge"),
        (lambda: [part(0, 1), part(2, 1)], "image 1 is in the parts of the bound twice"),
        (lambda: [part(0), with_facts(part(1), seed=3)], "parts of a bound differ in seed: 2 and 3"),
        (
            lambda: [part(0), with_facts(part(1), decoder="other")],
            "parts of a bound differ in decoder: 'toy-exact' and 'other'",
        ),
        (lambda: [part(0), with_facts(part(1), more=1)], "parts of a bound differ in more: None and 1"),
        (
            lambda: [part(0), bound_of([noisy_picture(1, 8, 8)], toy_exact(), places=[1], steps=2)],
            "parts of a bound differ in their chains",
        ),
    ],
    ids=["none", "twice", "seed", "decoder", "more", "chain"],
)
def test_what_is_no_partition_of_one_evaluation_is_refused(parts: Callable[[], list[BoundReport]], cause: str) -> None:
    with pytest.raises(InputError, match=re.escape(cause)):
        BoundReport.merged(parts())


def text(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"places": None}, "no array places of type int64"),
        ({"dims": np.ones(2)}, "no array dims of type int64"),
        ({"dims": np.ones(3, np.int64)}, "dims does not hold 2 finite rows"),
        ({"places": np.zeros((0,), np.int64)}, "does not hold 0 finite rows"),
        ({"diffusion_bpd": np.ones((2, 2))}, "diffusion_bpd does not hold 2 finite rows"),
        ({"mean_rmse": np.array([1.0, np.nan])}, "mean_rmse does not hold 2 finite rows"),
        ({"log_snr": np.array([1.0, 2.0])}, "decreasing"),
        ({"facts": text({})[:1]}, "its facts are not JSON"),
        ({"facts": text([])}, "its facts are not those of one"),
        ({"facts": text({"seconds": 1.0})}, "its facts are not those of one"),
    ],
)
def test_arrays_of_no_report_are_refused(changes: dict[str, NDArray[Any] | None], cause: str) -> None:
    arrays = {name: value for name, value in (part(0, 1).to_arrays() | changes).items() if value is not None}
    with pytest.raises(InputError, match=cause):
        BoundReport.from_arrays(arrays)


def test_other_arrays_are_passed_over() -> None:
    assert_same(BoundReport.from_arrays(part(0, 1).to_arrays() | {"more": np.zeros(3)}), part(0, 1))
