"""Image files as models take them: read exactly, then as 8-bit RGB, with words for whatever that changes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import BinaryIO, Final

import numpy as np
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io import check_header, read_stored, to_image
from ddpm_codec.image_io.pillow import opened, pillow_errors
from ddpm_codec.image_io.readers import format_of
from ddpm_codec.image_sets.image_set import Header, Opened, Pixels
from ddpm_codec.picture import Picture

_NAME: Final = "picture"
_WHITE: Final = 255
_FRAMES: Final = "first frame only"

_CHANGED: Final = {
    "1": "two levels counted as three equal channels",
    "L": "grey counted as three equal channels",
    "LA": "grey counted as three equal channels, alpha dropped",
    "La": "grey counted as three equal channels, alpha dropped",
    "P": "palette expanded",
    "PA": "palette expanded, alpha dropped",
    "RGB": "",
    "RGBA": "alpha dropped",
    "RGBa": "alpha dropped",
    "RGBX": "fourth channel dropped",
}
"""What becomes of a picture of a mode; of other modes, that they are converted."""


def open_file(source: Path | bytes, name: str, *, first_frame: bool = False) -> Opened:
    """Read an image file as 8-bit RGB.

    Args:
        source: the file, or its content.
        name: of the file, for messages.
        first_frame: take the first frame of a file that has several, instead of refusing it.

    Raises:
        InputError: it cannot be read exactly, has several frames, more than 8 bits a sample, another white than 255, or
            no meaning in RGB.
    """
    several = False
    with _named(source, name) as inner:
        try:
            picture = read_stored(source, name=inner).picture
        except InputError:
            if not first_frame:
                raise
            # What can be read only as a first frame has others behind it.
            picture, several = read_stored(source, name=inner, first_frame=True).picture, True
    rgb = rgb_of(picture, name)
    return Opened(rgb, changed_of(picture.mode, transparent=picture.transparency is not None, several=several))


def rgb_of(picture: Picture, name: str) -> Pixels:
    """Return a picture as 8-bit RGB, [H, W, 3]; :func:`changed_of` says what that changes.

    Args:
        picture: the picture.
        name: of its file, for messages.

    Raises:
        InputError: it has more than 8 bits a sample, another white than 255, or no meaning in RGB.
    """
    _check_depth(picture.info.layout.sample_bits > 8, picture.mode, name)
    _check_white(picture.info.white, name)
    if picture.mode == "RGB":
        return picture.array()
    try:
        image = to_image(replace(picture, info=replace(picture.info, transparency=None)))
        # Premultiplied alpha is divided out first; Pillow has no shorter way.
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        rgb = (image if straight is None else image.convert(straight)).convert("RGB")
    except ValueError as error:
        raise InputError(f"{name}: pixel mode {picture.mode} cannot be converted to RGB") from error
    return np.asarray(rgb)


def file_header(source: Path | BinaryIO, name: str, *, first_frame: bool = False) -> Header:
    """Return what the header of an image file tells; the arguments are those of :func:`open_file`, a stream for bytes.

    Raises:
        InputError: :func:`open_file` would refuse the file for what its header says.
    """
    with _named(source, name) as inner:
        header = check_header(source, name=inner, first_frame=first_frame)
    mode, changed = "", ""
    # What Pillow does not open shows the rest when it is decoded.
    with suppress(InputError), pillow_errors(name):
        if isinstance(source, Path):
            with source.open("rb") as file:
                mode, changed = _peek(file, name)
        else:
            mode, changed = _peek(source, name)
    _check_depth(header.bits > 8, mode, name)
    _check_white(header.white, name)
    return Header(header.size, changed)


def changed_of(mode: str, *, transparent: bool, several: bool) -> str:
    """Say what a picture loses, or gains, as 8-bit RGB; empty: nothing.

    Args:
        mode: a key of :data:`~ddpm_codec.picture.MODES`.
        transparent: whether some colour or palette entry is transparent.
        several: whether its file has frames behind the first.
    """
    said = [_CHANGED.get(mode, f"{mode} converted to RGB")]
    if transparent:
        said.append("transparency dropped")
    if several:
        said.append(_FRAMES)
    return ", ".join(part for part in said if part)


@contextmanager
def _named(source: Path | bytes | BinaryIO, name: str) -> Iterator[str]:
    """Give a name that a picture may have, and let errors begin with the one that the user knows."""
    inner = _NAME + PurePath(name).suffix
    try:
        yield inner
    except InputError as error:
        if isinstance(source, Path):
            raise
        raise InputError(f"{name}: {str(error).removeprefix(f'{inner}: ')}") from None


def _peek(file: BinaryIO, name: str) -> tuple[str, str]:
    """Return Pillow's mode and what changes."""
    with opened(file, format_of(file, name) or "") as image:
        return image.mode, _changed_of(image)


def _check_depth(deep: bool, mode: str, name: str) -> None:
    if deep:
        raise InputError(f"{name}: {f'{mode} ' if mode else ''}pixels have more than 8 bits; models take 8-bit pixels")


def _check_white(white: int | None, name: str) -> None:
    if white is not None:
        raise InputError(f"{name}: has samples that are white at {white}; models take those that are white at {_WHITE}")


def _changed_of(image: Image.Image) -> str:
    several = getattr(image, "n_frames", 1) > 1
    return changed_of(image.mode, transparent="transparency" in image.info, several=several)
