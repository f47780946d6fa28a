"""Pictures that a tiny model codes well, and Pillow told where that model is."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpm_codec import pillow_plugin
from tests.golden.regenerate import EXACT, noisy_picture


@pytest.fixture
def noise(without_indices: None) -> NDArray[np.uint8]:
    """A picture that the tiny model codes smaller than the fallback does, [128, 192, 3]."""
    return noisy_picture(100, 128, 192)


@pytest.fixture
def tiny() -> Iterator[str]:
    """The tiny model, which Pillow uses for files that name it."""
    pillow_plugin.register(model=str(EXACT))
    yield str(EXACT)
    pillow_plugin.register()
