"""Crops and flips, several DATA, and the photos that are held out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from ddpm_codec.errors import InputError
from ddpm_codec.image_sets import from_array
from ddpm_codec.training.augment import Augmentation
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.crops import CropSampler, split_holdout

Make = Callable[..., TrainConfig]
Pictures = NDArray[np.uint8]


def photos(folder: Path, names: list[str]) -> str:
    """Write a folder of pictures, each all of one grey that no other has."""
    folder.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(np.full((16, 16, 3), index, np.uint8)).save(folder / f"{name}.png")
    return str(folder)


def test_hold_out_is_disjoint_and_the_same_for_every_seed(tiny: Make) -> None:
    split = split_holdout(tiny(holdout=5))
    assert (len(split.train), len(split.validation)) == (19, 5)
    assert split.validation.names == split_holdout(tiny(holdout=5, seed=1)).validation.names
    assert not set(split.train.names) & set(split.validation.names)
    assert set(split_holdout(tiny(holdout=4)).validation.names) < set(split.validation.names)
    assert len(split_holdout(tiny(validation=tiny().data[0])).validation) == 24
    with pytest.raises(InputError, match=r"holdout = 24: .* holds 24 images"):
        split_holdout(tiny(holdout=24))


def test_tiles_of_a_photo_are_held_out_together_and_of_every_data(tiny: Make, tmp_path: Path) -> None:
    one = photos(tmp_path / "one", [f"{photo}_{tile}" for photo in "abcdef" for tile in (1, 2, 3)])
    two = photos(tmp_path / "two", [*"uvwxyz"])
    split = split_holdout(tiny(data=[one, two], holdout=2, photo_separator="_"))
    held = [name[0] for name in split.validation.names]
    assert len(split.train) + len(split.validation) == 24
    assert sorted(held.count(photo) for photo in set(held)) == [1, 1, 3, 3]
    assert not set(held) & {name[0] for name in split.train.names}
    assert len({photo for photo in held if photo in "abcdef"}) == 2
    with pytest.raises(InputError, match=r"holdout = 6: .*one holds 6 photos"):
        split_holdout(tiny(data=[one, two], holdout=6, photo_separator="_"))


def test_weights_say_how_often_an_image_of_each_data_comes(tiny: Make, tmp_path: Path) -> None:
    one, two = photos(tmp_path / "one", [*"abc"]), photos(tmp_path / "two", [*"uvwxyz"])
    split = split_holdout(tiny(data=[one, two], data_weights=[3, 1.0], holdout=1))
    assert split.weights.tolist() == [3.0] * 2 + [1.0] * 5
    sampler = CropSampler(split.train, 8, flip=False, seed=0, weights=split.weights)
    # The grey of a picture is its place in its folder: those of the second come after the first's.
    lookup = {int(split.train[index][0, 0, 0]) + 100 * (index >= 2): index for index in range(7)}
    counts = np.zeros(7)
    for step in range(40):
        for crop in sampler.batch(step, 100, slice(None))[:, 0, 0, 0].tolist():
            matches = [index for key, index in lookup.items() if key % 100 == crop]
            for index in matches:
                counts[index] += split.weights[index] / split.weights[matches].sum()
    assert counts.sum() == pytest.approx(4000)
    assert counts[:2].sum() / 4000 == pytest.approx(6 / 11, abs=0.04)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (
            {"data": ["a", "b"], "data_weights": [1.0]},
            "data_weights = [1.0]: needs one weight for each of the 2 DATA",
        ),
        ({"data_weights": [0.0]}, "data_weights[0] = 0.0: should be greater than 0"),
        ({"data_weights": ["x"]}, "data_weights[0] = 'x': should be a valid number"),
        ({"data_weights": 1.0}, "data_weights = 1.0: should be a list"),
        ({"augment": 1.5}, "augment = 1.5: should be less than or equal to 1"),
    ],
)
def test_sets_that_do_not_hold_together(values: dict[str, object], cause: str, tiny: Make) -> None:
    with pytest.raises(InputError) as caught:
        tiny(**values)
    assert str(caught.value) == cause


def test_changed_crops_are_a_function_of_seed_and_step(pictures: Pictures) -> None:
    chances = Augmentation(0.7, *[0.5] * 8)
    sampler = CropSampler(from_array(pictures), 16, flip=True, seed=3, augmentation=chances)
    whole = sampler.batch(5, 12, slice(None))
    again = CropSampler(from_array(pictures), 16, flip=True, seed=3, augmentation=chances)
    for part in (slice(0, 6), slice(1, None, 3)):
        assert np.array_equal(again.batch(5, 12, part), whole[part])
    plain = CropSampler(from_array(pictures), 16, flip=True, seed=3).batch(5, 12, slice(None))
    same = [np.array_equal(a, b) for a, b in zip(whole, plain, strict=True)]
    assert any(same)
    assert not all(same)


def test_a_batch_is_a_function_of_seed_and_step(pictures: Pictures) -> None:
    first = CropSampler(from_array(pictures), 16, flip=True, seed=3)
    again = CropSampler(from_array(pictures), 16, flip=True, seed=3)
    whole = first.batch(5, 12, slice(None))
    first.batch(6, 12, slice(None))
    assert whole.shape == (12, 3, 16, 16)
    assert np.array_equal(again.batch(5, 12, slice(None)), whole)
    for part in (slice(0, 6), slice(6, 12), slice(0, None, 2), slice(1, None, 3)):
        assert np.array_equal(again.batch(5, 12, part), whole[part])
    assert not np.array_equal(again.batch(6, 12, slice(None)), whole)
    other = CropSampler(from_array(pictures), 16, flip=True, seed=4)
    assert not np.array_equal(other.batch(5, 12, slice(None)), whole)


def test_crops_and_flips_are_uniform() -> None:
    """Pixels that name their place show image, offset and flip of every crop."""
    places = np.stack(np.meshgrid(np.arange(12), np.arange(10), indexing="ij"), axis=-1)
    marked = [np.concatenate([places, np.full((12, 10, 1), index)], axis=-1) for index in range(3)]
    sampler = CropSampler(from_array(np.array(marked, dtype=np.uint8)), 8, flip=True, seed=0)
    crops = np.concatenate([sampler.batch(step, 300, slice(None)) for step in range(10)])
    flipped = crops[:, 1, 0, 0] > crops[:, 1, 0, -1]
    top, left, image = crops[:, 0, 0, 0], crops[:, 1, 0, :].min(axis=1), crops[:, 2, 0, 0]
    cell = ((image.astype(int) * 5 + top) * 3 + left) * 2 + flipped
    counts = np.bincount(cell, minlength=90)
    assert len(counts) == 90
    assert stats.chisquare(counts).pvalue > 1e-3
    still = CropSampler(from_array(np.array(marked, dtype=np.uint8)), 8, flip=False, seed=0).batch(0, 50, slice(None))
    assert (still[:, 1, 0, 0] < still[:, 1, 0, -1]).all()


def test_images_smaller_than_the_crop_are_named(pictures: Pictures) -> None:
    sampler = CropSampler(from_array(pictures, "set"), 32, flip=False, seed=0)
    with pytest.raises(InputError, match=r"set0000.*: 32x24 is smaller than the crop of 32"):
        sampler.batch(0, 1, slice(None))
