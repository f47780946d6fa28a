"""Reads image files into :class:`Picture`."""

import stat
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image, UnidentifiedImageError

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import picture_of
from ddpm_codec.image_io.pillow import pillow_errors, pixel_limit
from ddpm_codec.picture import Picture

DEFAULT_MAX_PIXELS: Final = 1 << 28
"""Largest picture that is read unless told otherwise: 268 million pixels, 0.8 GB of RGB."""


def read_picture(
    path: Path, *, first_frame: bool = False, name: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Picture:
    """Read an image file without changing a value: no orientation is applied, no colour converted.

    Args:
        path: the file.
        first_frame: take the first frame of a file that has several, instead of refusing it.
        name: the picture's name; None: the file's.
        max_pixels: larger pictures are refused before they are unpacked.

    Raises:
        InputError: the file is missing, unreadable, not an image, damaged, too large, has several frames, or holds
            values that Pillow does not give exactly (16-bit colour).
    """
    with pillow_errors(path, max_pixels):
        _check_regular(path)
        with path.open("rb") as file:
            return read_picture_from(
                file, str(path), name=name or path.name, first_frame=first_frame, max_pixels=max_pixels
            )


def read_picture_from(
    file: BinaryIO, label: str, *, name: str, first_frame: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Picture:
    """Read an image from a seekable binary stream, as :func:`read_picture` does from a file.

    Args:
        file: the stream, at its start.
        label: what errors call it.
        name: the picture's name.
        first_frame: see :func:`read_picture`.
        max_pixels: see :func:`read_picture`.

    Raises:
        InputError: see :func:`read_picture`.
    """
    with pillow_errors(label, max_pixels), pixel_limit(max_pixels), Image.open(file) as image:
        _check_opened(image, label, first_frame=first_frame, max_pixels=max_pixels)
        if getattr(image, "n_frames", 1) > 1:
            image.seek(0)
        try:
            return picture_of(image, name)
        except InputError as error:
            raise InputError(f"{label}: {error}") from None


def check_header(path: Path, *, first_frame: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Read an image file's header alone: refuse what :func:`read_picture` would refuse for what the header says.

    Args:
        path: the file.
        first_frame: see :func:`read_picture`.
        max_pixels: see :func:`read_picture`.

    Returns:
        (width, height) in pixels.

    Raises:
        InputError: as :func:`read_picture` does, except for damage that only decoding shows.
    """
    with pillow_errors(path, max_pixels):
        _check_regular(path)
        with path.open("rb") as file, pixel_limit(max_pixels), Image.open(file) as image:
            _check_opened(image, path, first_frame=first_frame, max_pixels=max_pixels)
            return image.size


def _check_opened(image: Image.Image, path: Path | str, *, first_frame: bool, max_pixels: int) -> None:
    if image.format == "DDPM":
        # Pillow opens our own files once the plugin is registered; they are coded pictures and no input.
        raise UnidentifiedImageError(path)
    if image.width * image.height > max_pixels:
        raise InputError(f"{path}: has {image.width * image.height} pixels, more than {max_pixels}")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and not first_frame:
        raise InputError(f"{path}: has {frames} frames (--first-frame takes the first)")


def _check_regular(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: is not a regular file")
