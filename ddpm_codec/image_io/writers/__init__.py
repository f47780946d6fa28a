"""Writers of image formats: a picture and its metadata to the bytes of a file."""

import io
from collections.abc import Callable
from typing import Final

import numpy as np

from ddpm_codec.image_io.writers.png import write_png
from ddpm_codec.image_io.writers.simple import write_bmp, write_pnm
from ddpm_codec.image_io.writers.tiff import write_tiff
from ddpm_codec.image_io.writers.webp import write_webp
from ddpm_codec.image_io.writers.written import Written
from ddpm_codec.picture import MetadataKey, Picture

__all__ = ["WRITERS", "Written"]


def _tiff(picture: Picture, metadata: dict[MetadataKey, bytes]) -> Written:
    # Its writer compares the metadata itself: they come back as tags.
    file, notes = write_tiff(picture, metadata)
    return Written(file, {}, notes)


def _npy(picture: Picture, _: dict[MetadataKey, bytes]) -> Written:
    out = io.BytesIO()
    np.save(out, picture.samples(), allow_pickle=False)
    return Written(out.getvalue())


WRITERS: Final[dict[str, Callable[[Picture, dict[MetadataKey, bytes]], Written]]] = {
    "png": write_png,
    "webp": write_webp,
    "tiff": _tiff,
    "ppm": write_pnm,
    "bmp": write_bmp,
    "npy": _npy,
}
"""By the name of the format. A writer raises ``InputError`` if the format does not hold the picture."""
