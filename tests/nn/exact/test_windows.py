"""Parts of pictures that workers evaluate side by side: the integers of the whole."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_codec.codecs.progressive.steps import MARGIN
from ddpm_codec.isolation import isolated
from ddpm_codec.nn.codec_net import SIZES
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.windows import MOST_WORK, plan_windows
from ddpm_codec.workers import Workers
from tests.toy_decoders import TINY, random_exact_decoder

CPU = torch.device("cpu")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0.0, 60.0 * 64.0, shape).astype(np.int64)


@given(
    st.integers(0, 4), st.integers(1, 90), st.integers(1, 90), st.integers(1, 9), st.sampled_from([None, 1, 1 << 12])
)
def test_windows_cover_every_picture_once(
    batch: int, height: int, width: int, count: int, most_pixels: int | None
) -> None:
    height, width, seen = 4 * height, 4 * width, 24
    covered = np.zeros((batch, height, width), np.int64)
    for images, rows, columns in plan_windows((batch, height, width), seen, Workers(count), most_pixels):
        covered[images, rows.wanted, columns.wanted] += 1
        for span, side in ((rows, height), (columns, width)):
            assert span.wanted.start % 8 == span.seen.start % 8 == 0
            assert span.seen.start == max(0, span.wanted.start - seen) or span.seen == slice(0, side)
            assert span.seen.stop == min(side, span.wanted.stop + seen) or span.seen == slice(0, side)
    assert (covered == 1).all()


def test_a_picture_is_cut_where_that_saves_time() -> None:
    def work(height: int, width: int, count: int) -> list[int]:
        windows = plan_windows((1, height, width), SIZES["base"].reach, Workers(count))
        return [rows.length * columns.length for _, rows, columns in windows]

    assert work(512, 768, 1) == [512 * 768]
    # Margins would take more than they save.
    assert work(128, 128, 2) == [128 * 128]
    for count in (2, 3, 4, 8):
        found = work(512, 768, count)
        assert 1 < len(found) <= count
        assert max(found) < MOST_WORK * 512 * 768
    assert max(work(512, 768, 4)) < max(work(512, 768, 2))


@pytest.mark.parametrize("compiled", [False, True], ids=["torch", "compiled"])
def test_workers_find_the_integers_of_the_whole_trunk(compiled: bool) -> None:
    executor = PixelDecoderExecutor(random_exact_decoder(2), CPU, compiled=compiled)
    picture = noise(2, 3, 204, 76)
    assert len(plan_windows((2, 204, 76), TINY.trunk.reach, Workers(4))) > 2
    with isolated(1):
        whole = executor.trunk(picture, 1)
    with isolated(4):
        found = executor.trunk(picture, 1)
    for one, wanted in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_the_reach_of_the_largest_network_is_within_the_margin_of_the_format() -> None:
    assert {name: config.reach for name, config in SIZES.items()} == {"tiny": 24, "small": 32, "base": 56}
    assert max(config.reach for config in SIZES.values()) <= MARGIN
