"""Edge padding and centre crops against what numpy says pixel by pixel."""

import numpy as np
import pytest

from ddpm_codec.padding import centre_crop, pad_to_multiple

SIZES = [((8, 8), (8, 8)), ((1, 9), (8, 16)), ((7, 17), (8, 24)), ((16, 3), (16, 8))]


@pytest.mark.parametrize(("size", "padded"), SIZES)
def test_the_last_row_and_column_are_repeated(size: tuple[int, int], padded: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    got = pad_to_multiple(image, 8, (0, 1))
    rows, columns = (np.minimum(np.arange(whole), side - 1) for whole, side in zip(padded, size, strict=True))
    np.testing.assert_array_equal(got, image[rows][:, columns])
    planes = pad_to_multiple(image.transpose(2, 0, 1)[None])
    np.testing.assert_array_equal(planes[0].transpose(1, 2, 0), got)


def test_what_fits_is_returned_as_it_is() -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    assert pad_to_multiple(image, 8, (0, 1)) is image
    assert pad_to_multiple(image, 1, (0, 1)) is image


@pytest.mark.parametrize(
    ("asked", "top", "left", "size"),
    [((4, 4), 1, 2, (4, 4)), ((7, 9), 0, 0, (7, 9)), ((100, 3), 0, 3, (7, 3)), ((6, 8), 0, 0, (6, 8))],
)
def test_the_middle(asked: tuple[int, int], top: int, left: int, size: tuple[int, int]) -> None:
    y, x = np.mgrid[0:7, 0:9]
    middle = centre_crop(np.stack([y, x], axis=2), *asked)
    assert middle.shape == (*size, 2)
    assert tuple(middle[0, 0]) == (top, left)
