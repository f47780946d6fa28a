"""Image files to :class:`Picture`."""

import stat
import struct
from pathlib import Path
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from ddpm_codec.atomic import reason
from ddpm_codec.errors import DdpmCodecError, InputError
from ddpm_codec.image_io.exact import palette_of, pixels_of, transparency_of
from ddpm_codec.image_io.pillow import pixel_limit
from ddpm_codec.picture import MODES, MetadataKey, Picture, PictureInfo, Transparency, check_name

DEFAULT_MAX_PIXELS: Final = 1 << 28
"""Largest picture that is read unless told otherwise: 268 million pixels, 0.8 GB of RGB."""

_EXIF_PREFIX: Final = b"Exif\0\0"
_XMP_TAG: Final = 700
_BITS_PER_SAMPLE_TAG: Final = 258
# Of a TIFF file's tags, those that describe the picture and not how the file stores it: description, camera,
# orientation, software, date, artist, copyright. Then the two sub-directories, EXIF and GPS.
_DESCRIPTIVE_TAGS: Final = (270, 271, 272, 274, 305, 306, 315, 33432)
_SUB_DIRECTORIES: Final = (34665, 34853)


def read_picture(
    path: Path, *, first_frame: bool = False, name: str | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Picture:
    """Read an image file without changing a value: no orientation is applied, no colour converted.

    Args:
        path: the file.
        first_frame: of a file with several frames take the first instead of refusing.
        name: the picture's name; None: the file's.
        max_pixels: larger pictures are refused before they are unpacked.

    Raises:
        InputError: the file is missing, unreadable, no image, damaged, too large, of several frames, or of a kind whose
            values Pillow cannot give exactly (16-bit colour).
    """
    try:
        _check_regular(path)
        with path.open("rb") as file, pixel_limit(max_pixels):
            return _read(file, path, name or path.name, first_frame=first_frame, max_pixels=max_pixels)
    except DdpmCodecError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not an image (or is of a kind that Pillow does not read)") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has more than {max_pixels} pixels") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory") from None
    except Exception as error:  # Pillow's readers raise almost anything on damaged files.
        raise InputError(f"{path}: is damaged ({' '.join(str(error).split())[:200]})") from error


def _check_regular(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: is not a regular file")


def _read(file: Any, path: Path, name: str, *, first_frame: bool, max_pixels: int) -> Picture:  # noqa: ANN401 - as Pillow takes
    with Image.open(file) as image:
        if image.width * image.height > max_pixels:
            raise InputError(f"{path}: has {image.width * image.height} pixels, more than {max_pixels}")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and not first_frame:
            raise InputError(f"{path}: has {frames} frames (--first-frame takes the first)")
        if frames > 1:
            image.seek(0)
        rawmode = _rawmode(image)
        if image.mode not in MODES:
            raise InputError(f"{path}: pixel mode {image.mode} is not supported")
        if _loses_bits(image, rawmode, path):
            raise InputError(f"{path}: has more than 8 bits a colour sample, of which Pillow gives only 8")
        image.load()
        check_name(name)
        try:
            info = PictureInfo(
                name,
                image.mode,
                image.size,
                palette_of(image),
                _scaled(transparency_of(image), rawmode),
                _metadata(image),
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return Picture(info, pixels_of(image))


def _rawmode(image: Image.Image) -> str:
    """Return what Pillow says of the samples in the file, such as ``RGB;16B`` or ``L;4``; empty where it does not."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ()
    if isinstance(arguments, tuple) and arguments:
        arguments = arguments[0]
    return arguments if isinstance(arguments, str) else ""


def _loses_bits(image: Image.Image, rawmode: str, path: Path) -> bool:
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
        return _jpeg2000_bits(path) > 8
    return False


def _jpeg2000_bits(path: Path) -> int:
    """Return the largest bit depth in the SIZ marker of a JPEG 2000 code stream."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
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
