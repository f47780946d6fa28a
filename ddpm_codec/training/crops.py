"""Training data: random crops of the training images, and the images held out for validation."""

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.datasets import ImageSet, Pixels, concatenate, open_images
from ddpm_codec.errors import InputError
from ddpm_codec.training.augment import Augmentation, augmented
from ddpm_codec.training.config import TrainConfig


@dataclass(frozen=True)
class Split:
    """The images of a run.

    Attributes:
        train: all DATA except what is held out.
        validation: held out from each DATA, or a separate set; may be empty.
        weights: relative probability of each training image, [len(train)].
    """

    train: ImageSet
    validation: ImageSet
    weights: NDArray[np.float64]


def split_holdout(config: TrainConfig) -> Split:
    """Open DATA and set the validation images aside.

    Of every DATA ``config.holdout`` photos are held out: those whose names have the smallest SHA-256, whatever the seed, so
    that a run which continues another one with a new seed never trains on what the first was validated on. Images
    named alike up to ``config.photo_separator`` are of one photo, and go together.

    Raises:
        InputError: DATA unusable, or no more photos than are to be held out.
    """
    if not config.data:
        raise InputError("data: name at least one set of training images")
    if config.validation:
        sets = [open_images(data) for data in config.data]
        return Split(concatenate(sets), open_images(config.validation), _weights(config, sets))
    train, held = [], []
    for data in config.data:
        images = open_images(data)
        photos = [_photo(name, config.photo_separator) for name in images.names]
        order = sorted(set(photos), key=lambda photo: hashlib.sha256(photo.encode(errors="surrogateescape")).digest())
        if not 0 <= config.holdout < len(order):
            what = "photos" if config.photo_separator else "images"
            raise InputError(f"holdout = {config.holdout}: {data} holds {len(order)} {what}")
        out = set(order[: config.holdout])
        train.append(images.subset([index for index, photo in enumerate(photos) if photo not in out]))
        held.append(images.subset([index for index, photo in enumerate(photos) if photo in out]))
    return Split(concatenate(train), concatenate(held), _weights(config, train))


def _photo(name: str, separator: str) -> str:
    return PurePosixPath(name).stem.split(separator)[0] if separator else name


def _weights(config: TrainConfig, sets: list[ImageSet]) -> NDArray[np.float64]:
    weights = config.data_weights or (1.0,) * len(sets)
    return np.concatenate(
        [np.full(len(images), weight, dtype=np.float64) for images, weight in zip(sets, weights, strict=True)]
    )


class CropSampler:
    """Random crops; each batch depends on (seed, step) alone, so that a resumed run sees the same data.

    Args:
        images: to crop.
        crop: side in pixels.
        flip: mirror half of the crops.
        seed: of all choices.
        weights: relative probability of each image, [len(images)]; None: equal.
        augmentation: of the crops; None: none.
    """

    def __init__(
        self,
        images: ImageSet,
        crop: int,
        *,
        flip: bool,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._images, self.crop, self._flip, self._seed = images, crop, flip, seed
        # Equal weights draw integers, like the runs whose figures are published.
        alike = weights is None or bool((weights == weights[0]).all())
        self._chances = None if alike or weights is None else np.cumsum(weights / weights.sum())
        self._augmentation = augmentation if augmentation is not None and augmentation.share > 0.0 else None

    def batch(self, step: int, count: int, part: slice) -> Pixels:
        """Return the images ``part`` of the batch of ``count`` at ``step``, [n, 3, crop, crop] uint8.

        Raises:
            InputError: an image smaller than the crop.
        """
        rng = np.random.default_rng([self._seed, step])
        if self._chances is None:
            chosen = rng.integers(len(self._images), size=count)[part]
        else:
            drawn = np.searchsorted(self._chances, rng.random(count), side="right")
            chosen = np.minimum(drawn, len(self._images) - 1)[part]
        places = rng.random((count, 3))[part]
        positions = range(count)[part]
        return np.stack(
            [self._cut(int(i), place, step, at) for i, place, at in zip(chosen, places, positions, strict=True)]
        )

    def _cut(self, index: int, place: NDArray[np.float64], step: int, position: int) -> Pixels:
        image, crop = self._images[index], self.crop
        if min(image.shape[:2]) < crop:
            raise InputError(
                f"{self._images.names[index]}: {image.shape[1]}x{image.shape[0]} is smaller than the crop of {crop}"
            )
        if self._augmentation is not None:
            # One random stream per image, so that no process draws for another.
            rng = np.random.default_rng([self._seed, step, 2, position])
            if rng.random() < self._augmentation.share:
                image = augmented(image, crop, self._augmentation, rng)
        top = int(place[0] * (image.shape[0] - crop + 1))
        left = int(place[1] * (image.shape[1] - crop + 1))
        cut = image[top : top + crop, left : left + crop]
        if self._flip and place[2] < 0.5:
            cut = cut[:, ::-1]
        return np.ascontiguousarray(cut.transpose(2, 0, 1))
