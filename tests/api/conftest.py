"""A photo, a small picture, and its progressive file."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import ddpm_codec
from ddpm_codec.codecs.progressive import parameters
from tests.golden.regenerate import EXACT, noisy_picture
from tests.helpers import PHOTO

Pixels = NDArray[np.uint8]


def photo() -> Pixels:
    return np.asarray(Image.open(PHOTO))


@pytest.fixture(scope="module", autouse=True)
def _quick_search() -> Iterator[None]:
    """Small pictures are searched in 2^6 states instead of 2^16: the same code, at a higher rate."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(parameters, "REGISTERS", ((1 << 20, 6),))
        yield


@pytest.fixture(scope="module")
def small() -> Pixels:
    return noisy_picture(21, 40, 56)


@pytest.fixture(scope="module")
def progressive(small: Pixels) -> bytes:
    return ddpm_codec.encode(small, progressive=True, model=EXACT, steps=8, device="cpu")
