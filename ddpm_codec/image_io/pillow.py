"""Pillow without its process-wide state, and its exceptions as one-line errors."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ddpm_codec.atomic import reason
from ddpm_codec.errors import DdpmCodecError, InputError


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
    return factory(io.BytesIO(file) if isinstance(file, bytes) else file, "")


@contextmanager
def pillow_errors(source: Path | str) -> Iterator[None]:
    """Turn whatever Pillow raises inside the block into an :class:`InputError` of one line.

    Args:
        source: the file or the name that the line begins with.
    """
    try:
        yield
    except DdpmCodecError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{source}: is not an image, or has a format that is not read") from None
    except Image.DecompressionBombError:
        raise InputError(f"{source}: has more pixels than Pillow's MAX_IMAGE_PIXELS allows") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({reason(error)})") from error
    except MemoryError:
        raise InputError(f"{source}: does not fit into memory") from None
    except Exception as error:  # Pillow's readers raise almost anything on damaged files.
        raise InputError(f"{source}: is damaged ({' '.join(str(error).split())[:200]})") from error
