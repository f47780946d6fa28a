"""Model or fallback, picture by picture: pure arithmetic on what each would cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.codecs.lossless.choice import OVERHEAD_BYTES, PICTURE_BYTES, PendingBlock, served_by_model
from ddpm_codec.codecs.tiling import MAX_BLOCK_TILES, CodingOptions
from ddpm_codec.picture import Picture, PictureInfo

SAVES_THE_LIMIT = [2761.1, 8460.6, 1827.1, 4343.2, 58157.0], [2902, 8601, 1968, 4484, 8157]
COSTS = st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 1_000_000)), min_size=1, max_size=9)


def pending_of(*sizes: tuple[int, int], tile: int = 64) -> PendingBlock:
    pending = PendingBlock()
    for index, size in enumerate(sizes):
        pending.add(3 * index, Picture(PictureInfo(f"{index}.png", "L", size), b""), bytes(10 + index), tile)
    return pending


@pytest.mark.parametrize(
    ("model_bytes", "fallback_bytes", "chosen"),
    [
        ([360_000, 380_000], [390_000, 370_000], [True, False]),
        ([360_000, 360_000], [390_000, 390_000], None),  # the model for all
        ([390_000, 390_000], [360_000, 360_000], None),  # the fallback for all
        ([360_000, 390_100], [390_000, 390_000], None),  # not worth coding the other one again
        ([5000, 600], [6400, 500], [True, False]),
        # The model's head costs more than it saves, so that everything is the fallback's.
        ([100, 600], [200, 500], None),
    ],
)
def test_known_choices(model_bytes: list[float], fallback_bytes: list[int], chosen: list[bool] | None) -> None:
    assert served_by_model(model_bytes, fallback_bytes) == chosen


@given(COSTS)
def test_a_choice_saves_bytes_and_gives_each_picture_its_better_coder(costs: list[tuple[float, int]]) -> None:
    model_bytes, fallback_bytes = [cost for cost, _ in costs], [other for _, other in costs]
    chosen = served_by_model(model_bytes, fallback_bytes)
    whole_bytes = [round(cost) for cost in model_bytes]
    better = [cost <= other for cost, other in zip(whole_bytes, fallback_bytes, strict=True)]
    mixed = OVERHEAD_BYTES + sum(map(min, whole_bytes, fallback_bytes))
    whole = min(OVERHEAD_BYTES + sum(whole_bytes), sum(fallback_bytes))
    if chosen is None:
        # One coder is as good for all, or a second coding would save too little.
        assert all(better) or not any(better) or 512 * (whole - mixed) <= whole
    else:
        assert chosen == better
        assert mixed < whole


@given(st.permutations(range(5)))
def test_a_choice_does_not_depend_on_how_costs_are_added_up(order: list[int]) -> None:
    """What a second coding saves is the limit itself; in floating point some of these orders come out above it."""
    model_bytes, fallback_bytes = SAVES_THE_LIMIT
    assert served_by_model([model_bytes[i] for i in order], [fallback_bytes[i] for i in order]) is None


def test_a_pending_block_splits_into_the_chosen_and_the_others() -> None:
    kept, others = pending_of((64, 65), (9, 9), (130, 1)).split([True, False, True], 64)
    assert (kept.indices, others.indices) == ((0, 6), (3,))
    assert (kept.pixels, kept.tiles, others.pixels, others.tiles) == (64 * 65 + 130, 2 + 3, 81, 1)
    assert (kept.fallback_bytes, others.fallback_bytes) == (10 + 12, 11)
    assert kept.model_bytes(b"abc") == 3 + OVERHEAD_BYTES + 2 * PICTURE_BYTES


def test_a_pending_block_is_full_by_its_pixels_or_its_tiles() -> None:
    options = CodingOptions(1 << 40, 8)
    assert not pending_of((8, 8 * 100), tile=8).full(options)
    assert pending_of((8, 8 * 100), tile=8).full(CodingOptions(6400, 8))
    assert not pending_of((4 * MAX_BLOCK_TILES - 8, 1), tile=8).full(options)
    assert pending_of((4 * MAX_BLOCK_TILES, 1), tile=8).full(options)
