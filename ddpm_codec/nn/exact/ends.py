"""What lies before the first and after the last convolution of the exact networks on a CPU: compiled loops in int64.

They read pictures and residuals into the bytes of a first layer, and turn the sums of a last one into what a network returns.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.compilation import compiled, inlined
from ddpm_codec.nn.exact.decoder_parameters import FEATURE_SHIFT, FEATURE_ZERO, RESIDUAL_SHIFT, RESIDUAL_ZERO
from ddpm_codec.nn.exact.parameters import (
    BYTE,
    COEFFICIENT_INDEX_RANGE,
    INDEX_SHIFT,
    MEAN_SHIFT,
    PICTURE,
    PICTURE_REACH,
    PICTURE_SHIFT,
    PICTURE_ZERO,
    PIXEL_INDEX_RANGE,
)
from ddpm_codec.nn.integer import LOG_VAR_INDICES

Values = NDArray[Any]


@inlined
def _shifted(a: Any, shift: int) -> Any:  # noqa: ANN401 - int64
    """Return R(a, shift), rounded half to even."""
    return (a + (np.int64(1) << (shift - 1)) - 1 + ((a >> shift) & 1)) >> shift


@inlined
def _between(a: Any, low: int, high: int) -> Any:  # noqa: ANN401 - int64
    return low if a < low else (high if a > high else a)


@compiled
def read_picture(picture: Values, multiplier: int, upper: Values, lower: Values) -> None:
    """Read a picture int64 [N, 3, H, W] for the stem, in two bytes [N, H/2 + 2, W/2 + 2, 12], and clamp it in place."""
    images, planes, height, width = picture.shape
    for i in range(images):
        for p in range(planes):
            for r in range(height):
                for w in range(width):
                    value = _between(picture[i, p, r, w], -PICTURE_REACH, PICTURE_REACH)
                    picture[i, p, r, w] = value
                    q = _between(_shifted(value * multiplier, PICTURE_SHIFT) + PICTURE_ZERO, 0, PICTURE)
                    channel = 4 * p + 2 * (r & 1) + (w & 1)
                    upper[i, 1 + (r >> 1), 1 + (w >> 1), channel] = np.uint8(q >> 8)
                    lower[i, 1 + (r >> 1), 1 + (w >> 1), channel] = np.uint8(q & 255)


@compiled
def write_mean(
    sums: Values, picture: Values, skip: int, multiplier: Values, place: tuple[int, int], mean: Values
) -> None:
    """Write R(picture skip + v multiplier, MEAN_SHIFT), int64 [N, 3, H, W], of sums [n, h, w, 12 or more] at (image, row)."""
    images, rows, columns, _ = sums.shape
    for i in range(images):
        for r in range(rows):
            for channel in range(12):
                image, p, row = place[0] + i, channel >> 2, 2 * (place[1] + r) + (channel >> 1 & 1)
                for w in range(columns):
                    column = 2 * w + (channel & 1)
                    v = np.int64(sums[i, r, w, channel])
                    whole = picture[image, p, row, column] * skip + v * multiplier[channel]
                    mean[image, p, row, column] = _shifted(whole, MEAN_SHIFT)


@compiled
def write_pixel_index(sums: Values, multiplier: Values, base: int, place: tuple[int, int], index: Values) -> None:
    """Write variance indices of sub-pixels, int16 [N, 3, H, W], of the last 12 of the sums [n, h, w, 24] at (image, row)."""
    images, rows, columns, _ = sums.shape
    for i in range(images):
        for r in range(rows):
            for channel in range(12):
                image, p, row = place[0] + i, channel >> 2, 2 * (place[1] + r) + (channel >> 1 & 1)
                for w in range(columns):
                    product = np.int64(sums[i, r, w, 12 + channel]) * multiplier[channel]
                    value = _between(_shifted(product, INDEX_SHIFT), PIXEL_INDEX_RANGE[0], PIXEL_INDEX_RANGE[1])
                    value = _between(value + base, 0, LOG_VAR_INDICES - 1)
                    index[image, p, row, 2 * w + (channel & 1)] = np.int16(value)


@compiled
def write_coefficient_index(
    sums: Values, multiplier: Values, bias: Values, base: int, place: tuple[int, int], index: Values
) -> None:
    """Write variance indices of coefficients, int16 [N, D, H, W], of sums [n, h, w, D] at (image, row)."""
    images, rows, columns, channels = sums.shape
    low, high = COEFFICIENT_INDEX_RANGE
    for i in range(images):
        for r in range(rows):
            for w in range(columns):
                for c in range(channels):
                    whole = np.int64(sums[i, r, w, c]) * multiplier[c] + bias[c]
                    value = _between(_shifted(whole, INDEX_SHIFT), low, high)
                    value = _between(value + base, 0, LOG_VAR_INDICES - 1)
                    index[place[0] + i, c, place[1] + r, w] = np.int16(value)


@compiled
def write_features(sums: Values, multiplier: Values, place: tuple[int, int], features: Values) -> None:
    """Write features, uint8 [N, H, W, F], of all but the first 12 of the sums [n, h, w, 12 + 4F] at (image, row)."""
    images, rows, columns, channels = sums.shape
    for i in range(images):
        for r in range(rows):
            for w in range(columns):
                for c in range(channels - 12):
                    product = np.int64(sums[i, r, w, 12 + c]) * multiplier[c]
                    q = _between(_shifted(product, FEATURE_SHIFT) + FEATURE_ZERO, 0, BYTE)
                    y, x = 2 * (place[1] + r) + (c >> 1 & 1), 2 * w + (c & 1)
                    features[place[0] + i, y, x, c >> 2] = np.uint8(q)


@inlined
def _read_distance(grey: int, mean: int, multiplier: int) -> int:
    distance = 1024 * np.int64(grey) - 130560 - np.int64(mean)
    read: int = _between(_shifted(distance * multiplier, RESIDUAL_SHIFT) + RESIDUAL_ZERO, 0, 2 * RESIDUAL_ZERO - 1)
    return read


@compiled
def read_residual(mean: Values, x_0: Values, multiplier: int, border: int, upper: Values, lower: Values) -> None:
    """Read residuals, clamp(R((1024 x - m) multiplier, 24)) + 4096, in two bytes [N, h + border, w + border, 3].

    Args:
        mean: m_0 in 1/1024 grey levels around 127.5, int32 [N, 3, H, W], H >= h, W >= w.
        x_0: uint8 [N, 3, h, w].
        multiplier: of the residual.
        border: rows and columns on each side.
        upper: upper bytes.
        lower: lower bytes.
    """
    images, planes, height, width = x_0.shape
    for i in range(images):
        for p in range(planes):
            for r in range(height):
                for w in range(width):
                    q = _read_distance(x_0[i, p, r, w], mean[i, p, r, w], multiplier)
                    upper[i, border + r, border + w, p] = np.uint8(q >> 8)
                    lower[i, border + r, border + w, p] = np.uint8(q & 255)


@compiled
def read_steps(mean: Values, x_0: Values, multiplier: int, reach: int, upper: Values, lower: Values) -> None:
    """Read how far earlier pixels are from m_0 of the pixel itself, in two bytes [N, h, w, 3 (reach^2 // 2)].

    Args:
        mean: m_0 in 1/1024 grey levels around 127.5, int32 [N, 3, H, W], H >= h, W >= w.
        x_0: uint8 [N, 3, h, w]; of pixels outside it the step is 0.
        multiplier: of the residual.
        reach: side of the square around a pixel.
        upper: upper bytes.
        lower: lower bytes.
    """
    images, planes, height, width = x_0.shape
    border = reach // 2
    for i in range(images):
        for r in range(height):
            for w in range(width):
                for place in range(reach * reach // 2):
                    y, x = r + place // reach - border, w + place % reach - border
                    inside = y >= 0 and 0 <= x < width
                    for p in range(planes):
                        q = RESIDUAL_ZERO
                        if inside:
                            q = _read_distance(x_0[i, p, y, x], mean[i, p, r, w], multiplier)
                        upper[i, r, w, 3 * place + p] = np.uint8(q >> 8)
                        lower[i, r, w, 3 * place + p] = np.uint8(q & 255)
