"""Pillow images to exact bytes, and back."""

import struct
import sys
from typing import Final

import numpy as np
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.pillow import pillow_errors
from ddpm_codec.picture import MODES, MetadataKey, Palette, Picture, PictureInfo, Transparency, check_name

MAX_PALETTE: Final = 256

_EXIF_PREFIX: Final = b"Exif\0\0"
_XMP_TAG: Final = 700
_BITS_PER_SAMPLE_TAG: Final = 258
# Of a TIFF file's tags, those that describe the picture and not how the file stores it: description, camera,
# orientation, software, date, artist, copyright. Then the two sub-directories, EXIF and GPS.
_DESCRIPTIVE_TAGS: Final = (270, 271, 272, 274, 305, 306, 315, 33432)
_SUB_DIRECTORIES: Final = (34665, 34853)


def picture_from_image(image: Image.Image, name: str) -> Picture:
    """Return a Pillow image as a picture: pixels, mode, palette, transparency, ICC profile, EXIF and XMP.

    The image is loaded if it is not yet; of several frames, the current one is taken.

    Args:
        image: an image of any mode in ``MODES``, opened from a file or made in memory.
        name: the picture's name, a plain relative path (see :func:`~ddpm_codec.picture.check_name`).

    Raises:
        InputError: the mode is not supported, the image has no pixels or cannot be loaded, or it is a file, not loaded
            yet, whose samples have more bits than Pillow gives; or the name is unusable.
    """
    with pillow_errors(name):
        try:
            return picture_of(image, name)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def picture_of(image: Image.Image, name: str) -> Picture:
    """Do the work of :func:`picture_from_image`; Pillow's errors stay as they are, messages do not begin with a name."""
    rawmode = _rawmode(image)
    if image.mode not in MODES:
        raise InputError(f"pixel mode {image.mode} is not supported")
    if 0 in image.size:
        raise InputError(f"has no pixels ({image.width}x{image.height})")
    if _loses_bits(image, rawmode):
        raise InputError("has more than 8 bits per colour sample; Pillow reads only 8")
    image.load()
    check_name(name)
    transparency = _scaled(transparency_of(image), rawmode)
    info = PictureInfo(name, image.mode, image.size, palette_of(image), transparency, _metadata(image))
    return Picture(info, pixels_of(image))


def pixels_of(image: Image.Image) -> bytes:
    """Return the pixels of an image in the layout of :mod:`ddpm_codec.picture`."""
    return _little_endian(image.mode, image.tobytes())


def palette_of(image: Image.Image) -> Palette | None:
    """Return the palette of a P or PA image, without the alpha that ``info["transparency"]`` repeats."""
    if not MODES[image.mode].has_palette:
        return None
    kind = image.im.getpalettemode()
    own_alpha = kind == "RGBA" and "transparency" not in image.info
    mode = "RGBA" if own_alpha else "RGB"
    return Palette(len(mode), bytes(image.getpalette(mode) or ()))


def transparency_of(image: Image.Image) -> Transparency | None:
    """Return ``info["transparency"]`` in units of the samples.

    Raises:
        InputError: Pillow gave something that is neither a value, alphas nor a colour.
    """
    value = image.info.get("transparency")
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, bytes | bytearray) and len(value) <= MAX_PALETTE:
        return bytes(value)
    if isinstance(value, tuple) and all(isinstance(part, int) for part in value):
        return value
    raise InputError(f"transparency of type {type(value).__name__} is not supported")


def to_image(picture: Picture) -> Image.Image:
    """Return a picture as a Pillow image: palette, transparency, ICC profile, EXIF and XMP included.

    Raises:
        InputError: Pillow has no mode for the samples, such as 16-bit colour, or they are not white at 255 or 65535.
    """
    if not picture.info.layout.in_pillow:
        raise InputError(f"{picture.name}: Pillow has no mode for samples of mode {picture.mode}; decode to an array")
    if picture.info.white is not None:
        raise InputError(
            f"{picture.name}: Pillow has no mode for samples that are white at {picture.info.white}; decode to an array"
        )
    image = Image.frombytes(picture.mode, picture.size, _little_endian(picture.mode, picture.pixels))
    if picture.palette is not None:
        image.putpalette(picture.palette.colours, "RGB" if picture.palette.channels == 3 else "RGBA")
    if picture.transparency is not None:
        image.info["transparency"] = picture.transparency
    for ours, theirs in (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp")):
        if ours in picture.metadata:
            image.info[theirs] = picture.metadata[ours]
    return image


def colours(palette: Palette | None, transparency: Transparency | None) -> object:
    """Return what a palette and a transparent colour mean, in a form that compares equal where the meaning is.

    With a palette: all 256 entries as RGBA, of which those that are not there count as opaque black. Without: the
    transparent colour.
    """
    if palette is None:
        return transparency
    entries = np.full((MAX_PALETTE, 4), 255, np.uint8)
    entries[:, :3] = 0
    given = np.frombuffer(palette.colours, np.uint8).reshape(-1, palette.channels)
    entries[: len(given), : palette.channels] = given
    if isinstance(transparency, bytes):
        entries[: len(transparency), 3] = np.frombuffer(transparency, np.uint8)
    elif isinstance(transparency, int) and 0 <= transparency < MAX_PALETTE:
        entries[transparency, 3] = 0
    return entries.tobytes()


def _little_endian(mode: str, pixels: bytes) -> bytes:
    """Convert 32-bit samples between the machine's byte order and the file's."""
    if sys.byteorder == "big" and MODES[mode].sample_bits == 32:
        return np.frombuffer(pixels, "<u4").byteswap().tobytes()
    return pixels


def _rawmode(image: Image.Image) -> str:
    """Return what Pillow says of the samples in the file, such as ``RGB;16B`` or ``L;4``; empty where it does not."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ()
    if isinstance(arguments, tuple) and arguments:
        arguments = arguments[0]
    return arguments if isinstance(arguments, str) else ""


def _loses_bits(image: Image.Image, rawmode: str) -> bool:
    """Whether the file has samples of more than the 8 bits that the image's mode holds."""
    if MODES[image.mode].sample_bits != 8:
        return False
    if ";16" in rawmode or ";12" in rawmode:
        return True
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return any(int(bits) > 8 for bits in tags.get(_BITS_PER_SAMPLE_TAG, (1,)))
    if image.format == "PPM":
        tiles = getattr(image, "tile", None)
        arguments = tiles[0][3] if tiles else ()
        maximum = arguments[-1] if isinstance(arguments, tuple) and arguments else 0
        return isinstance(maximum, int) and maximum > 255
    if image.format == "JPEG2000":
        return _jpeg2000_bits(image) > 8
    return False


def _jpeg2000_bits(image: Image.Image) -> int:
    """Return the largest bit depth in the SIZ marker of a JPEG 2000 code stream; 0 where it is unknown or loaded."""
    file = getattr(image, "fp", None)
    if file is None:
        return 0
    before = file.tell()
    file.seek(0)
    start = file.read(1 << 16)
    file.seek(before)
    at = start.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 42 > len(start):
        return 0
    (components,) = struct.unpack_from(">H", start, at + 40)
    return max(((depth & 0x7F) + 1 for depth in start[at + 42 : at + 42 + 3 * components : 3]), default=0)


def _scaled(transparency: Transparency | None, rawmode: str) -> Transparency | None:
    """Scale a transparent grey of a 2- or 4-bit PNG as Pillow scales its pixels to 8 bits, but not the transparency."""
    factor = {"L;2": 85, "L;4": 17}.get(rawmode, 1)
    return transparency * factor if isinstance(transparency, int) else transparency


def _metadata(image: Image.Image) -> dict[MetadataKey, bytes]:
    """Return what is there of ICC, EXIF and XMP. The image is loaded: PNG may have them after the pixels."""
    tags = getattr(image, "tag_v2", None)
    found: dict[MetadataKey, object] = {
        "icc": image.info.get("icc_profile"),
        "exif": image.info.get("exif") if tags is None else _tiff_exif(image),
        "xmp": image.info.get("xmp") or (tags.get(_XMP_TAG) if tags is not None else None),
    }
    result: dict[MetadataKey, bytes] = {}
    for key, value in found.items():
        data = value.encode() if isinstance(value, str) else value
        if isinstance(data, bytes | bytearray) and data:
            result[key] = bytes(data).removeprefix(_EXIF_PREFIX) if key == "exif" else bytes(data)
    return result


def _tiff_exif(image: Image.Image) -> bytes:
    """Return the descriptive tags of a TIFF file as EXIF, which there is spread among the structural ones."""
    exif, kept = image.getexif(), Image.Exif()
    for tag in _DESCRIPTIVE_TAGS:
        if tag in exif:
            kept[tag] = exif[tag]
    for tag in _SUB_DIRECTORIES:
        entries = exif.get_ifd(tag)
        if entries:
            kept[tag] = entries
    return kept.tobytes() if len(kept) else b""
