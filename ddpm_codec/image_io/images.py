"""Pillow images that users hand over."""

import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image, ImageFile

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import pixels_of, to_image
from ddpm_codec.image_io.pillow import pillow_errors
from ddpm_codec.image_io.readers import READERS, format_of
from ddpm_codec.image_io.readers.simple import picture_of
from ddpm_codec.image_io.reading import check_header
from ddpm_codec.picture import Picture

_LOADED_WHEN_OPENED: Final = "ICO"
"""The one format of which Pillow decodes the pixels when it opens a file."""
_ORIENTATION: Final = 274
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the value of the tag (TIFF 6.0, page 36), what turns a picture upright."""


def picture_from_image(image: Image.Image, name: str) -> Picture:
    """Return a Pillow image as a picture: pixels, mode, palette, transparency, ICC profile, EXIF, XMP, comment and density.

    The image is loaded if it is not yet; of several frames, the current one is taken. An image that is opened from a file
    and not loaded yet has to be what the file holds. If it is loaded, and was opened from a path, the file's header is looked
    at again, because Pillow gives 16-bit colour as 8 bits.

    Args:
        image: an image of any of Pillow's modes in ``MODES``, opened from a file or made in memory.
        name: the picture's name, a plain relative path (see :func:`~ddpm_codec.picture.check_name`).

    Raises:
        InputError: the mode is not supported, the image has no pixels or cannot be loaded, or its file is damaged or holds
            more than Pillow gives; or the name is unusable.
    """
    with pillow_errors(name):
        try:
            unloaded = _is_unloaded(image)
            stored = _stored(image, name) if unloaded or image.format == _LOADED_WHEN_OPENED else None
            orientation = _orientation(image)
            found = picture_of(image, name)
            if not unloaded:
                _check_file(image, found)
            if stored is not None:
                _compare(found, stored, orientation if unloaded else None)
                found = _scaled(found, stored)
                if orientation == 1:  # any other would turn the pixels once more
                    found = _with_stored_exif(found, stored)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return found


def _is_unloaded(image: Image.Image) -> bool:
    """Whether the pixels are still to be read from a file: there is no public way to ask."""
    return getattr(image, "fp", None) is not None and vars(image).get("_im", vars(image).get("im")) is None


def _check_file(image: Image.Image, found: Picture) -> None:
    """Look again at the file of an image that is loaded already: Pillow may have given less than it holds.

    This is possible where the image is still the one that was opened, and from a path.

    Raises:
        InputError: the file holds what Pillow does not give.
    """
    path = getattr(image, "filename", "")
    if not isinstance(image, ImageFile.ImageFile) or image.format not in READERS or not isinstance(path, str | bytes):
        return
    source = Path(os.fsdecode(path))
    if not path or not source.is_file():
        return
    try:
        header = check_header(source, first_frame=True)
    except InputError as error:
        raise InputError(f"Pillow may give only a part of its file: {error}") from None
    if header.format == image.format and header.size == image.size:
        _check_depth(found, header.bits, header.white)


def _stored(image: Image.Image, name: str) -> Picture | None:
    """Return what the file holds that an image is opened from; None if its format is not read here or it is a later frame.

    Raises:
        InputError: the file is damaged, or holds what would be lost.
    """
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is None or image.tell() != getattr(image, "_min_frame", 0):
        return None
    before = file.tell()
    try:
        kind = "TGA" if image.format == "TGA" else format_of(file, "")
        if kind is None or kind not in READERS:
            return None
        return READERS[kind].read(file, name).picture
    finally:
        file.seek(before)


def _orientation(image: Image.Image) -> int:
    """Return how Pillow turns the pixels of a TIFF file when it loads them; 1: not at all."""
    tags = getattr(image, "tag_v2", None)
    found = 1 if tags is None else tags.get(_ORIENTATION, 1)
    return found if found in _TURNS else 1


def _compare(found: Picture, stored: Picture, orientation: int | None) -> None:
    """Refuse what Pillow made of a file, if that is not what it holds, turned; pixels are compared unless that is None."""
    _check_depth(found, stored.info.layout.sample_bits, stored.info.white)
    if stored.info.layout.stored == "<u4":
        raise InputError("has unsigned samples of 32 bits; Pillow reads them as signed ones")
    if orientation is None or found.mode != stored.mode:
        return
    if orientation != 1:
        # Pillow decodes some of these files as if they were turned already.
        image = to_image(stored).transpose(_TURNS[orientation])
        if (image.size, pixels_of(image)) != (found.size, found.pixels):
            raise InputError("holds other pixels than Pillow reads")
    elif found.size == stored.size and found.pixels != stored.pixels:
        raise InputError("holds other pixels than Pillow reads")


def _check_depth(found: Picture, stored_bits: int, white: int | None) -> None:
    bits = found.info.layout.sample_bits
    if stored_bits > max(bits, 8):
        raise InputError(f"has more than {max(bits, 8)} bits per colour sample; Pillow reads only {max(bits, 8)}")
    if white is not None and white != found.info.white:
        raise InputError(f"has samples that are white at {white}; Pillow scales them")


def _with_stored_exif(found: Picture, stored: Picture) -> Picture:
    """Take EXIF as the file has it where Pillow has any: that of TIFF it writes anew, with ``?`` for what is not ASCII."""
    if "exif" not in found.metadata or "exif" not in stored.metadata:
        return found
    metadata = {**found.metadata, "exif": stored.metadata["exif"]}
    return replace(found, info=replace(found.info, metadata=metadata))


def _scaled(found: Picture, stored: Picture) -> Picture:
    """Scale a transparent grey of a 2- or 4-bit PNG as Pillow scales its pixels to 8 bits, but not the transparency."""
    value = found.transparency
    if not isinstance(value, int) or found.mode != "L" or stored.transparency not in (85 * value, 17 * value):
        return found
    return replace(found, info=replace(found.info, transparency=stored.transparency))
