"""Pillow images that users hand over."""

from typing import BinaryIO, cast

from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import pillow_errors
from ddpm_codec.image_io.readers import READERS, format_of
from ddpm_codec.image_io.readers.simple import picture_of
from ddpm_codec.picture import Picture


def picture_from_image(image: Image.Image, name: str) -> Picture:
    """Return a Pillow image as a picture: pixels, mode, palette, transparency, ICC profile, EXIF, XMP, comment and density.

    The image is loaded if it is not yet; of several frames, the current one is taken. An image that is opened from a file
    and not loaded yet has to be what the file holds.

    Args:
        image: an image of any of Pillow's modes in ``MODES``, opened from a file or made in memory.
        name: the picture's name, a plain relative path (see :func:`~ddpm_codec.picture.check_name`).

    Raises:
        InputError: the mode is not supported, the image has no pixels or cannot be loaded, or it is a file, not loaded
            yet, that is damaged or holds more than Pillow gives; or the name is unusable.
    """
    with pillow_errors(name):
        try:
            stored = _stored(image, name)
            found = picture_of(image, name)
            if stored is not None:
                _compare(found, stored)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return found


def _stored(image: Image.Image, name: str) -> Picture | None:
    """Return what the file holds that an image is opened from; None if it is loaded, or no file that is read here.

    Raises:
        InputError: the file is damaged, or holds what would be lost.
    """
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or image.tell() != 0:
        return None
    binary = cast(BinaryIO, file)
    before = binary.tell()
    try:
        kind = format_of(binary, str(getattr(image, "filename", "") or ""))
        if kind is None or kind not in READERS:
            return None
        return READERS[kind].read(binary, name).picture
    finally:
        binary.seek(before)


def _compare(found: Picture, stored: Picture) -> None:
    """Refuse what Pillow made of a file, if that is not what it holds."""
    bits = stored.info.layout.sample_bits
    if bits > found.info.layout.sample_bits:
        raise InputError(f"has {bits} bits per colour sample; Pillow reads only {found.info.layout.sample_bits}")
    same_kind = (found.mode, found.size) == (stored.mode, stored.size)
    if same_kind and found.pixels != stored.pixels:
        raise InputError("holds other pixels than Pillow reads")
