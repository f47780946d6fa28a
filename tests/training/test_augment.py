"""A random camera: what each change does and leaves alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.training.augment import (
    MARGIN,
    Augmentation,
    augmented,
    noisy,
    saturated,
    sharpened,
    toned,
    with_subsampled_chroma,
)
from tests.helpers import PHOTO

LUMA = np.array([0.299, 0.587, 0.114])
CHANGES = [name for name in Augmentation.__dataclass_fields__ if name != "share"]


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return np.asarray(Image.open(PHOTO).convert("RGB"))


def planes(photo: NDArray[np.uint8], side: int = 64) -> NDArray[np.float32]:
    return photo[:side, :side].astype(np.float32)


@given(
    height=st.integers(16, 70),
    width=st.integers(16, 70),
    side=st.sampled_from([8, 16]),
    chances=st.lists(st.floats(0, 1), min_size=len(CHANGES), max_size=len(CHANGES)),
    seed=st.integers(0, 1000),
)
def test_any_picture_gives_a_crop(height: int, width: int, side: int, chances: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = augmented(picture, side, Augmentation(1.0, *chances), rng)
    assert (out.shape, out.dtype) == ((side, side, 3), np.dtype(np.uint8))


def test_without_changes_a_crop_is_a_piece_of_the_picture(photo: NDArray[np.uint8]) -> None:
    for seed in range(20):
        out = augmented(photo, 32, Augmentation(1.0), np.random.default_rng(seed))
        places = np.argwhere((photo[: 128 - 31, : 128 - 31] == out[0, 0]).all(axis=-1)).tolist()
        assert any(np.array_equal(photo[top : top + 32, left : left + 32], out) for top, left in places)


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_has_its_chance(change: str, photo: NDArray[np.uint8]) -> None:
    """A change that is certain changes every crop, and is the only one."""
    certain = Augmentation(1.0, **{change: 1.0})
    plain, changed = (
        [augmented(photo, 32, chances, np.random.default_rng(seed)) for seed in range(8)]
        for chances in (Augmentation(1.0), certain)
    )
    different = sum(not np.array_equal(a, b) for a, b in zip(plain, changed, strict=True))
    # One order of three channels in six is the one that was there.
    assert different >= (4 if change == "channels" else 8)


def test_chroma_is_halved_and_luma_is_not(photo: NDArray[np.uint8]) -> None:
    before = planes(photo)
    for seed in range(10):
        after = with_subsampled_chroma(before, np.random.default_rng(seed))
        np.testing.assert_allclose(after @ LUMA, before @ LUMA, atol=1e-3)
        # Of a pattern of single pixels nothing is left in chroma that was averaged over pairs.
        stripes = np.full((64, 64, 3), 128.0, np.float32)
        stripes[:, ::2, 0] += 40.0
        smooth = with_subsampled_chroma(stripes, np.random.default_rng(seed))
        chroma = (smooth[..., 0] - smooth @ LUMA)[8:-8, 8:-8]
        assert np.ptp(chroma) < 0.35 * np.ptp((stripes[..., 0] - stripes @ LUMA)[8:-8, 8:-8])


def test_noise_is_grey_or_in_colour() -> None:
    flat = np.full((64, 64, 3), 100.0, np.float32)
    grey = 0
    for seed in range(40):
        noise = noisy(flat, np.random.default_rng(seed)) - flat
        assert 0.25 < noise.std() < 4.2
        assert abs(noise.mean()) < 0.3
        grey += bool((noise[..., 0] == noise[..., 1]).all())
    assert 10 <= grey <= 30


def test_tone_is_monotone_and_stays_in_range() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)[None]
    for seed in range(20):
        out = toned(ramp, np.random.default_rng(seed))[0]
        assert (np.diff(out, axis=0) >= 0).all()
        assert out.min() >= 0
        assert out.max() <= 255.001


def test_sharpening_keeps_flat_places_and_steepens_edges() -> None:
    edge = np.full((32, 32, 3), 50.0, np.float32)
    edge[:, 16:] = 150.0
    for seed in range(10):
        out = sharpened(edge, np.random.default_rng(seed))
        np.testing.assert_allclose(out[:, :8], 50.0, atol=1.0)
        assert out.max() > 151.0
        assert out.min() < 49.0


def test_saturation_scales_chroma_and_keeps_luma(photo: NDArray[np.uint8]) -> None:
    before = planes(photo).astype(np.float64)
    luma = (before @ LUMA)[..., None]
    gains = []
    for seed in range(20):
        after = saturated(planes(photo), np.random.default_rng(seed)).astype(np.float64)
        np.testing.assert_allclose(after @ LUMA, luma[..., 0], atol=1e-3)
        gains.append(np.linalg.norm(after - luma) / np.linalg.norm(before - luma))
        np.testing.assert_allclose(after - luma, gains[-1] * (before - luma), atol=1e-2)
    assert 0.2 <= min(gains) < 0.5
    assert 0.9 < max(gains) <= 1.2


def test_transposition_and_flips_are_those(photo: NDArray[np.uint8]) -> None:
    whole = photo[: 32 + 2 * MARGIN, : 32 + 2 * MARGIN]
    for chance, undo in (("transpose", lambda a: a.swapaxes(0, 1)), ("vertical_flip", lambda a: a[::-1])):
        out = augmented(whole, 32, Augmentation(1.0, **{chance: 1.0}), np.random.default_rng(1))
        back = undo(out)
        tops = range(2 * MARGIN + 1)
        assert any(np.array_equal(whole[t : t + 32, x : x + 32], back) for t in tops for x in tops)


def test_small_pictures_leave_no_margin() -> None:
    small = np.random.default_rng(0).integers(0, 256, (32, 33, 3), dtype=np.uint8)
    out = augmented(small, 32, Augmentation(1.0, chroma=1.0), np.random.default_rng(0))
    assert out.shape == (32, 32, 3)


def test_the_photo_is_where_the_tests_look() -> None:
    assert Path(PHOTO).exists()
