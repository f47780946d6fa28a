"""What readers have in common."""

from collections.abc import Iterable
from typing import BinaryIO

from PIL.Image import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.exact import metadata_of, palette_of, pixels_of, transparency_of
from ddpm_codec.image_io.metadata import read_metadata
from ddpm_codec.picture import MODES, MetadataKey, Picture, PictureInfo, check_name


def picture_of(image: Image, name: str, metadata: dict[MetadataKey, bytes] | None = None) -> Picture:
    """Return the pixels, palette and transparency of an image; Pillow's errors stay as they are.

    Args:
        image: the image, loaded or not.
        name: the picture's name.
        metadata: the picture's metadata; None: those that Pillow found.

    Raises:
        InputError: the mode is not supported or the image has no pixels; the line does not begin with a name.
    """
    if image.mode not in MODES:
        raise InputError(f"pixel mode {image.mode} is not supported")
    if 0 in image.size:
        raise InputError(f"has no pixels ({image.width}x{image.height})")
    image.load()
    check_name(name)
    metadata = metadata_of(image) if metadata is None else metadata
    info = PictureInfo(name, image.mode, image.size, palette_of(image), transparency_of(image), metadata)
    return Picture(info, pixels_of(image))


def file_metadata(file: BinaryIO | bytes, kind: str) -> tuple[dict[MetadataKey, bytes], tuple[str, ...]]:
    """Return the metadata of a file as they are stored, and a note for each piece that is left out; nothing is raised."""
    if not isinstance(file, bytes):
        file.seek(0)
        file = file.read()
    metadata, notes = read_metadata(file, kind)
    return metadata, tuple(notes)


def ceil_div(length: int, part: int) -> int:
    """Return how many parts cover a length."""
    return -(-length // part)


def read_exactly(file: BinaryIO, length: int) -> bytes:
    """Return the next ``length`` bytes of a file.

    Raises:
        InputError: the file ends before.
    """
    data = file.read(length)
    if len(data) < length:
        raise InputError("is damaged (the file ends too early)")
    return data


def allowed(value: object, values: Iterable[object], lost: str) -> None:
    """Refuse what a list of allowed values does not name.

    Raises:
        InputError: ``value`` is not among ``values``; ``lost`` is the line.
    """
    if value not in values:
        raise InputError(lost)
