"""Augmentation of training crops by random cameras, so that a few hundred pictures stand for many cameras.

Crops go through what cameras, raw converters and storage do, in this order: rescaling with a random filter, tone curve and
clipping, sharpening, noise, saturation, chroma subsampling (as in JPEG, video and PhotoCD); then channel order and symmetries
of the square. Each change has its own probability in the configuration of the run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]

MARGIN = 8
"""Extra pixels around a crop while it is augmented, cut off afterwards: filters have border effects."""

SCALES = (0.8, 2.2)
"""Source pixels per crop pixel: from slightly enlarged to less than half size."""

_R = Image.Resampling
_SCALERS = (_R.LANCZOS, _R.BICUBIC, _R.BILINEAR, _R.HAMMING, _R.BOX)
_CHROMA_DOWN = (_R.BOX, _R.BILINEAR, _R.HAMMING, _R.BICUBIC)
_CHROMA_UP = (_R.LANCZOS, _R.BICUBIC, _R.BILINEAR, _R.HAMMING, _R.NEAREST)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601, as JPEG has it."""


@dataclass(frozen=True)
class Augmentation:
    """Probabilities of the changes, given that a crop is augmented.

    Attributes:
        share: probability that a crop is augmented.
        scale: rescaling with a random filter.
        tone: gain per channel, offset and exponent, clipped like a sensor.
        sharpen: an unsharp mask.
        noise: Gaussian, the same for all channels or one plane each.
        saturation: chroma, its noise included, made weaker or a little stronger.
        chroma: chroma subsampled 4:2:0 or, a fifth of the time, 4:2:2.
        channels: permuted channels.
        transpose: rows and columns exchanged.
        vertical_flip: flipped vertically.
    """

    share: float = 0.0
    scale: float = 0.0
    tone: float = 0.0
    sharpen: float = 0.0
    noise: float = 0.0
    saturation: float = 0.0
    chroma: float = 0.0
    channels: float = 0.0
    transpose: float = 0.0
    vertical_flip: float = 0.0


def augmented(picture: Pixels, side: int, chances: Augmentation, rng: np.random.Generator) -> Pixels:
    """Return a changed crop of ``picture``.

    Args:
        picture: [H, W, 3], both sides at least ``side``.
        side: of the crop.
        chances: probabilities.
        rng: for all choices.

    Returns:
        [side, side, 3] uint8.
    """
    # An even side, so that chroma at half resolution has whole samples.
    wide = min(side + 2 * MARGIN, *(length - length % 2 for length in picture.shape[:2]))
    wide = max(wide, side)
    planes = _crop(picture, wide, rng, scaled=rng.random() < chances.scale)
    for change, chance in (
        (toned, chances.tone),
        (sharpened, chances.sharpen),
        (noisy, chances.noise),
        (saturated, chances.saturation),
        (with_subsampled_chroma, chances.chroma),
    ):
        if rng.random() < chance:
            planes = change(planes, rng)
    out = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
    if rng.random() < chances.channels:
        out = out[..., rng.permutation(3)]
    if rng.random() < chances.transpose:
        out = out.swapaxes(0, 1)
    if rng.random() < chances.vertical_flip:
        out = out[::-1]
    top, left = rng.integers(wide - side + 1, size=2)
    return out[top : top + side, left : left + side]


def _crop(picture: Pixels, side: int, rng: np.random.Generator, *, scaled: bool) -> Planes:
    """Cut a random square, and bring it to [side, side, 3] where it is ``scaled``."""
    low, high = np.log(SCALES)
    wanted = round(side * float(np.exp(rng.uniform(low, high)))) if scaled else side
    length = min(wanted, *picture.shape[:2])
    top = rng.integers(picture.shape[0] - length + 1)
    left = rng.integers(picture.shape[1] - length + 1)
    cut = picture[top : top + length, left : left + length]
    if length == side:
        return cut.astype(np.float32)
    scaler = _SCALERS[rng.integers(len(_SCALERS))]
    return np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((side, side), scaler), np.float32)


def toned(planes: Planes, rng: np.random.Generator) -> Planes:
    """Return 255 clip(gain x + offset, 0, 1)^exponent for x in [0, 1], the gain of each channel its own."""
    gain = (rng.uniform(0.8, 1.35) * np.exp(rng.normal(size=3) * 0.06)).astype(np.float32)
    exposed = np.clip(planes / 255.0 * gain + np.float32(rng.uniform(-0.08, 0.05)), 0.0, 1.0)
    out: Planes = np.float32(255.0) * exposed ** np.float32(rng.uniform(0.8, 1.25))
    return out


def sharpened(planes: Planes, rng: np.random.Generator) -> Planes:
    """Return x + amount (x - blurred x)."""
    pixels = np.clip(planes + 0.5, 0, 255).astype(np.uint8)
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.2)))
    return planes + np.float32(rng.uniform(0.2, 1.0)) * (planes - np.asarray(blurred, np.float32))


def noisy(planes: Planes, rng: np.random.Generator) -> Planes:
    """Add Gaussian noise of 0.3 to 4 grey levels, grey or in colour."""
    shape = planes.shape if rng.random() < 0.5 else (*planes.shape[:2], 1)
    return planes + rng.normal(size=shape).astype(np.float32) * np.float32(rng.uniform(0.3, 4.0))


def saturated(planes: Planes, rng: np.random.Generator) -> Planes:
    """Scale chroma by 0.2 to 1.2: luma + gain (x - luma)."""
    luma: Planes = (planes @ _LUMA)[..., None]
    return luma + np.float32(rng.uniform(0.2, 1.2)) * (planes - luma)


def with_subsampled_chroma(planes: Planes, rng: np.random.Generator) -> Planes:
    """Halve the resolution of chroma and interpolate it back; luma stays as it is."""
    side = planes.shape[0]
    size = (side // 2, side // 2 if rng.random() < 0.8 else side)
    down, up = (filters[rng.integers(len(filters))] for filters in (_CHROMA_DOWN, _CHROMA_UP))
    luma = planes @ _LUMA

    def halved(channel: int) -> Planes:
        chroma = Image.fromarray(planes[..., channel] - luma).resize(size, down).resize((side, side), up)
        return np.asarray(chroma, np.float32) + luma

    red, blue = halved(0), halved(2)
    green = (luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
    return np.stack([red, green, blue], axis=-1)
