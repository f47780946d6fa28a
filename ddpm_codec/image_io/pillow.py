"""Pillow's guards, moved out of the way of large photographs and put back."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

_LOCK = threading.RLock()


@contextmanager
def pixel_limit(limit: int) -> Iterator[None]:
    """Let Pillow open pictures of up to ``limit`` pixels inside the block, and keep its warnings quiet.

    Pillow's own limit is a global of its module, so one thread at a time is inside and the old value comes back.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        # Pillow warns above the value and refuses above twice the value.
        Image.MAX_IMAGE_PIXELS = max(1, (limit + 1) // 2)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
