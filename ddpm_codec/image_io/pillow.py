"""Pillow's pixel limit, raised and restored, and its exceptions as one-line errors."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ddpm_codec.atomic import reason
from ddpm_codec.errors import DdpmCodecError, InputError

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


def opened(file: bytes | BinaryIO, kind: str) -> ImageFile:
    """Open an image with Pillow's reader of one format, without its process-wide limit of pixels.

    ``Image.open`` would look at ``Image.MAX_IMAGE_PIXELS``, which belongs to the whole process, and warn through
    ``warnings``; callers here have limits of their own.

    Args:
        file: the image file, or its bytes.
        kind: Pillow's name of the format, such as ``PNG``.

    Raises:
        Exception: whatever Pillow's reader raises on a file that is damaged or has another format.
    """
    if kind not in Image.OPEN:
        Image.preinit()
    if kind not in Image.OPEN:
        Image.init()
    factory, _ = Image.OPEN[kind]
    return cast(ImageFile, factory(io.BytesIO(file) if isinstance(file, bytes) else file, ""))


@contextmanager
def pillow_errors(source: Path | str, max_pixels: int | None = None) -> Iterator[None]:
    """Turn whatever Pillow raises inside the block into an :class:`InputError` of one line.

    Args:
        source: the file or the name that the line begins with.
        max_pixels: the limit that :func:`pixel_limit` was given; None: Pillow's own.
    """
    try:
        yield
    except DdpmCodecError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{source}: is not an image, or has a format that Pillow does not read") from None
    except Image.DecompressionBombError:
        limit = f"{max_pixels} pixels" if max_pixels else "Pillow's MAX_IMAGE_PIXELS allows"
        raise InputError(f"{source}: has more than {limit}") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({reason(error)})") from error
    except MemoryError:
        raise InputError(f"{source}: does not fit into memory") from None
    except Exception as error:  # Pillow's readers raise almost anything on damaged files.
        raise InputError(f"{source}: is damaged ({' '.join(str(error).split())[:200]})") from error
