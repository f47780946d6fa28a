"""Reads image files into :class:`Picture`: the contents choose the reader, not the suffix."""

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import pillow_errors
from ddpm_codec.image_io.readers import READERS, format_of
from ddpm_codec.image_io.stored import Header, ReadPicture
from ddpm_codec.picture import Picture

DEFAULT_MAX_PIXELS: Final = 1 << 28
"""Largest picture that is read unless told otherwise: 268 million pixels, 0.8 GB of RGB."""

ImageSource = Path | BinaryIO | bytes
"""An image file: its path, a file open for reading, which need not be seekable, or its bytes."""


def read_picture(
    path: Path, *, first_frame: bool = False, name: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Picture:
    """Return the picture of :func:`read_stored`, without its notes."""
    return read_stored(path, first_frame=first_frame, name=name, max_pixels=max_pixels).picture


def read_stored(
    source: ImageSource, *, first_frame: bool = False, name: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> ReadPicture:
    """Read an image file without changing a value: no orientation is applied, no colour converted.

    Args:
        source: the file.
        first_frame: take the first picture of a file that has several (of an icon the largest), instead of refusing it.
        name: the picture's name; None: the file's. Errors begin with the path, or with the name where there is none.
        max_pixels: larger pictures are refused before they are unpacked.

    Returns:
        The picture, and a line for everything in the file that is left out.

    Raises:
        InputError: the file is missing, unreadable, not an image, damaged, too large, has several pictures, or holds
            values that would not come back.
    """
    with _opened(source, name) as (file, label):
        header = _checked(file, label, first_frame=first_frame, max_pixels=max_pixels)
        file.seek(0)
        found = READERS[header.format].read(file, name or Path(label).name)
    if header.pictures == 1:
        return found
    left_out = f"has {header.pictures} {header.noun}; the {header.taken} is taken, the others are left out"
    return ReadPicture(found.picture, (left_out, *found.notes))


def check_header(
    source: ImageSource, *, first_frame: bool = False, name: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Header:
    """Read an image file's header alone: refuse what :func:`read_stored` would refuse for what the header says.

    Args:
        source: the file. If it is open, it has to be seekable, and is left where it was.
        first_frame: see :func:`read_stored`.
        name: see :func:`read_stored`.
        max_pixels: see :func:`read_stored`.

    Returns:
        What it says.

    Raises:
        InputError: as :func:`read_stored` does, except for damage that only decoding shows.
    """
    with _opened(source, name) as (file, label):
        at = file.tell()
        header = _checked(file, label, first_frame=first_frame, max_pixels=max_pixels)
        file.seek(at)
        return header


@contextmanager
def _opened(source: ImageSource, name: str | None) -> Iterator[tuple[BinaryIO, str]]:
    """Give a seekable file and what its errors begin with; errors in the block become lines that begin so."""
    label = str(source) if isinstance(source, Path) else name or str(getattr(source, "name", "") or "picture")
    with pillow_errors(label):
        try:
            if isinstance(source, Path):
                _check_regular(source)
                with source.open("rb") as file:
                    yield file, label
            elif isinstance(source, bytes):
                yield io.BytesIO(source), label
            elif source.seekable():
                yield source, label
            else:
                yield io.BytesIO(source.read()), label
        except InputError as error:
            raise InputError(f"{label}: {error}") from None


def _checked(file: BinaryIO, label: str, *, first_frame: bool, max_pixels: int) -> Header:
    """Return a file's header, if the picture may be read."""
    kind = format_of(file, label)
    if kind is None:
        raise InputError("is not an image, or has a format that is not read")
    if kind not in READERS:
        raise InputError(f"is a {kind} picture, a format that is not read")
    header = READERS[kind].header(file)
    width, height = header.size
    if width * height > max_pixels:
        raise InputError(f"has {width * height} pixels, more than {max_pixels}")
    if width < 1 or height < 1:
        raise InputError(f"has no pixels ({width}x{height})")
    if header.pictures > 1 and not first_frame:
        raise InputError(f"has {header.pictures} {header.noun} (--first-frame takes the {header.taken})")
    return header


def _check_regular(path: Path) -> None:
    if path.is_dir():
        raise InputError("is a folder")
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError("is not a regular file")
