"""Pictures to bytes and back, the way users of Pillow write it."""

import io
from pathlib import Path
from typing import Any

from PIL import Image


def opened(data: bytes) -> Image.Image:
    """Open bytes."""
    return Image.open(io.BytesIO(data))


def photo(path: Path) -> Image.Image:
    """Return the picture of a file, and close the file."""
    with Image.open(path) as image:
        return image.copy()


def saved(image: Image.Image, **options: Any) -> bytes:  # noqa: ANN401
    """Return what ``save`` writes."""
    out = io.BytesIO()
    image.save(out, "DDPM", **options)
    return out.getvalue()
