"""Image files as models take them: read exactly, then as 8-bit RGB, with words for whatever that changes."""

import io
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from PIL import Image

from ddpm_codec.datasets.image_set import Header, Opened
from ddpm_codec.errors import InputError
from ddpm_codec.image_io import DEFAULT_MAX_PIXELS, check_header, picture_from_image, read_picture, to_image
from ddpm_codec.image_io.pillow import pillow_errors
from ddpm_codec.picture import Picture

_FORMATS: Final = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "TGA", "TIFF"),
    "WEBP",
)
"""Pillow's names of what is opened; others, such as PostScript, never are."""

_NAME: Final = "picture"
_BITS_PER_SAMPLE_TAG: Final = 258
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
        InputError: it cannot be read exactly, has several frames, more than 8 bits a sample, or no meaning in RGB.
    """
    several = False
    try:
        picture = _picture(source, name, first_frame=False)
    except InputError:
        if not first_frame:
            raise
        # What can be read only as a first frame has others behind it.
        picture, several = _picture(source, name, first_frame=True), True
    _check_depth(picture.info.layout.sample_bits > 8, picture.mode, name)
    changed = changed_of(picture.mode, transparent=picture.transparency is not None, several=several)
    if picture.mode == "RGB":
        return Opened(picture.array(), changed)
    try:
        image = to_image(replace(picture, info=replace(picture.info, transparency=None)))
        # Premultiplied alpha is divided out first; Pillow has no shorter way.
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        rgb = (image if straight is None else image.convert(straight)).convert("RGB")
    except ValueError as error:
        raise InputError(f"{name}: pixel mode {picture.mode} cannot be converted to RGB") from error
    return Opened(np.asarray(rgb), changed)


def file_header(source: Path | BinaryIO, name: str, *, first_frame: bool = False) -> Header:
    """Return what the header of an image file tells; the arguments are those of :func:`open_file`, a stream for bytes.

    Raises:
        InputError: :func:`open_file` would refuse the file for what its header says.
    """
    if not isinstance(source, Path):
        with pillow_errors(name), Image.open(source, formats=_formats()) as image:
            _check_image(image, name, first_frame=first_frame)
            return Header(image.size, _changed_of(image))
    size, mode, changed, deep = check_header(source, first_frame=first_frame), "", "", False
    # Files that Pillow does not open may be readable by another library: then decoding shows the rest.
    with (
        suppress(InputError),
        pillow_errors(name),
        source.open("rb") as file,
        Image.open(file, formats=_formats()) as image,
    ):
        mode, changed, deep = image.mode, _changed_of(image), _is_deep(image)
    _check_depth(deep, mode, name)
    return Header(size, changed)


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


def _picture(source: Path | bytes, name: str, *, first_frame: bool) -> Picture:
    """Read a picture exactly, or refuse it; the only place that knows how."""
    if isinstance(source, Path):
        return read_picture(source, name=_NAME, first_frame=first_frame)
    with pillow_errors(name), Image.open(io.BytesIO(source), formats=_formats()) as image:
        _check_image(image, name, first_frame=first_frame)
        if getattr(image, "n_frames", 1) > 1:
            image.seek(0)
        try:
            return picture_from_image(image, _NAME)
        except InputError as error:
            raise InputError(f"{name}: {str(error).removeprefix(f'{_NAME}: ')}") from None


def _check_image(image: Image.Image, name: str, *, first_frame: bool) -> None:
    """Refuse an image in a zip as the exact reader refuses a file."""
    if image.width * image.height > DEFAULT_MAX_PIXELS:
        raise InputError(f"{name}: has {image.width * image.height} pixels, more than {DEFAULT_MAX_PIXELS}")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and not first_frame:
        raise InputError(f"{name}: has {frames} frames (--first-frame takes the first)")
    _check_depth(_is_deep(image), image.mode, name)


def _check_depth(deep: bool, mode: str, name: str) -> None:
    if deep:
        raise InputError(f"{name}: {mode} pixels have more than 8 bits; models take 8-bit pixels")


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _changed_of(image: Image.Image) -> str:
    several = getattr(image, "n_frames", 1) > 1
    return changed_of(image.mode, transparent="transparency" in image.info, several=several)


def _is_deep(image: Image.Image) -> bool:
    """Whether the header says that samples have more than 8 bits."""
    if image.mode.startswith(("I", "F")):
        return True
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    rawmode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if isinstance(rawmode, str) and (";16" in rawmode or ";12" in rawmode):
        return True
    tags = getattr(image, "tag_v2", None)
    return tags is not None and any(int(bits) > 8 for bits in tags.get(_BITS_PER_SAMPLE_TAG, (1,)))
