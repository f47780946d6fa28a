"""Training data: random crops of the training images, and the images held out for validation."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError, Untaken
from ddpm_codec.image_sets import ImageSet, Pixels, concatenate, open_images, refusal
from ddpm_codec.training.augment import Augmentation, augmented
from ddpm_codec.training.config import TrainConfig
from ddpm_codec.training.screening import Screened, screened, too_small

MAX_DAMAGED_SHARE = 0.05
"""Share of the images that may turn out damaged in the middle of a run; one always may."""


@dataclass(frozen=True)
class Split:
    """The images of a run.

    Attributes:
        train: all DATA except what is held out.
        validation: held out from each DATA, or a separate set; may be empty.
        weights: relative probability of each training image, [len(train)].
        screenings: what the headers of each set told, with what was left out.
    """

    train: ImageSet
    validation: ImageSet
    weights: NDArray[np.float64]
    screenings: tuple[Screened, ...] = ()

    def notes(self) -> list[str]:
        """Return lines about images that were left out or changed into 8-bit RGB."""
        return [line for screening in self.screenings for line in screening.notes()]

    def left_out(self) -> list[Untaken]:
        """Return the images that were left out."""
        return [refused for screening in self.screenings for refused in screening.left_out]


def split_holdout(config: TrainConfig) -> Split:
    """Open DATA and set the validation images aside.

    Of every DATA ``config.holdout`` photos are held out: those whose names have the smallest SHA-256, whatever the seed, so
    that a run which continues another one with a new seed never trains on what the first was validated on. Images
    named alike up to ``config.photo_separator`` are of one photo, and go together. The headers of all images are read: those
    that cannot be cropped are refused, or left out with ``config.skip_small``, before any are held out.

    Raises:
        InputError: DATA or some of its images unusable, or no more photos than are to be held out.
    """
    if not config.data:
        raise InputError("data: name at least one set of training images")
    screenings = tuple(screened_data(data, config) for data in config.data)
    sets = [screening.images for screening in screenings]
    if config.validation:
        checks = screened_data(config.validation, config)
        return Split(concatenate(sets), checks.images, _weights(config, sets), (*screenings, checks))
    train, held = [], []
    for data, images in zip(config.data, sets, strict=True):
        photos = [_photo(name, config.photo_separator) for name in images.names]
        order = sorted(set(photos), key=lambda photo: hashlib.sha256(photo.encode(errors="surrogateescape")).digest())
        if not 0 <= config.holdout < len(order):
            what = "photos" if config.photo_separator else "images"
            raise InputError(f"holdout = {config.holdout}: {data} holds {len(order)} {what}")
        out = set(order[: config.holdout])
        train.append(images.subset([index for index, photo in enumerate(photos) if photo not in out]))
        held.append(images.subset([index for index, photo in enumerate(photos) if photo in out]))
    return Split(concatenate(train), concatenate(held), _weights(config, train), screenings)


def screened_data(data: str, config: TrainConfig) -> Screened:
    """Open DATA and read the headers of its images; of several frames the first is taken.

    Raises:
        InputError: DATA or some of its images unusable.
    """
    return screened(open_images(data, first_frame=True), config.crop, skip_small=config.skip_small)


def _photo(name: str, separator: str) -> str:
    return PurePosixPath(name).stem.split(separator)[0] if separator else name


def _weights(config: TrainConfig, sets: list[ImageSet]) -> NDArray[np.float64]:
    weights = config.data_weights or (1.0,) * len(sets)
    return np.concatenate(
        [np.full(len(images), weight, dtype=np.float64) for images, weight in zip(sets, weights, strict=True)]
    )


class CropSampler:
    """Random crops; each batch depends on (seed, step) alone, so that a resumed run sees the same data.

    An image that turns out damaged is replaced by another, drawn anew, until more than :data:`MAX_DAMAGED_SHARE` are.

    Args:
        images: to crop.
        crop: side in pixels.
        flip: mirror half of the crops.
        seed: of all choices.
        weights: relative probability of each image, [len(images)]; None: equal.
        augmentation: of the crops; None: none.
        on_damage: called once about each image that turns out damaged.
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
        on_damage: Callable[[Untaken], None] = lambda refused: None,
    ) -> None:
        self._images, self.crop, self._flip, self._seed = images, crop, flip, seed
        # Equal weights draw integers, like the runs whose figures are published.
        alike = weights is None or bool((weights == weights[0]).all())
        self._chances = None if alike or weights is None else np.cumsum(weights / weights.sum())
        self._augmentation = augmentation if augmentation is not None and augmentation.share > 0.0 else None
        self._on_damage = on_damage
        self._damaged: dict[int, Untaken] = {}

    def batch(self, step: int, count: int, part: slice) -> Pixels:
        """Return the images ``part`` of the batch of ``count`` at ``step``, [n, 3, crop, crop] uint8.

        Raises:
            InputError: more images than :data:`MAX_DAMAGED_SHARE` cannot be read, or are smaller than the crop.
        """
        rng = np.random.default_rng([self._seed, step])
        chosen = self._drawn(rng, count)[part]
        places = rng.random((count, 3))[part]
        positions = range(count)[part]
        return np.stack(
            [self._cut(int(i), place, step, at) for i, place, at in zip(chosen, places, positions, strict=True)]
        )

    def _drawn(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw the indices of images."""
        if self._chances is None:
            return rng.integers(len(self._images), size=count)
        return np.minimum(np.searchsorted(self._chances, rng.random(count), side="right"), len(self._images) - 1)

    def _image(self, index: int, step: int, position: int) -> Pixels:
        """Return an image, or another in place of one that is damaged, always the same."""
        rng: np.random.Generator | None = None
        while (image := self._read(index)) is None:
            # A random stream of its own, so that the other images of the batch stay what they are.
            rng = rng or np.random.default_rng([self._seed, step, 3, position])
            index = int(self._drawn(rng, 1)[0])
        return image

    def _read(self, index: int) -> Pixels | None:
        """Return an image, or None where it is damaged."""
        if index in self._damaged:
            return None
        path = self._images.paths[index]
        try:
            image = self._images[index]
        except InputError as error:
            self._set_aside(index, Untaken.of(path, error))
            return None
        height, width = image.shape[:2]
        if min(height, width) < self.crop:
            self._set_aside(index, Untaken(path, too_small((width, height), self.crop)))
            return None
        return image

    def _set_aside(self, index: int, refused: Untaken) -> None:
        self._damaged[index] = refused
        count, total = len(self._damaged), len(self._images)
        if count > max(1.0, MAX_DAMAGED_SHARE * total) or count == total:
            raise refusal(list(self._damaged.values()), total)
        self._on_damage(refused)

    def _cut(self, index: int, place: NDArray[np.float64], step: int, position: int) -> Pixels:
        image, crop = self._image(index, step, position), self.crop
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
