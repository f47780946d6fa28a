"""A picture as exact bytes: what must come back from a file, and nothing else.

Every mode has a number that is never reused and a layout of its pixels: rows from the top, samples interleaved, without
padding; multi-byte samples little-endian except ``I;16B``; mode ``1`` packs eight pixels into a byte, leftmost in the highest
bit, and each row starts a new byte. Modes 1 to 19 are Pillow's; the others, for which Pillow has none, are named alike: the
channels (a small ``a`` where the others are multiplied by alpha), then ``;16`` or ``;32`` for unsigned integers of so many
bits, ``;F`` for float32.
"""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.errors import InputError

MetadataKey = Literal["icc", "exif", "xmp", "iptc", "comment", "density", "png"]
Transparency = int | bytes | tuple[int, ...]

METADATA_KEYS: Final[tuple[MetadataKey, ...]] = ("icc", "exif", "xmp", "iptc", "comment", "density", "png")
"""Kinds of metadata, in the order of their columns in a file."""

MAX_NAME_BYTES: Final = 4096


@dataclass(frozen=True)
class Mode:
    """A pixel mode.

    Attributes:
        name: Pillow's name of it.
        number: its number in a file, never reused.
        channels: samples per pixel.
        sample_bits: bits per sample.
        has_palette: samples (the first, for PA) index a palette.
        stored: NumPy's type of a sample as it is stored; of the packed pixels, for mode 1.
    """

    name: str
    number: int
    channels: int
    sample_bits: int = 8
    has_palette: bool = False
    stored: str = "u1"

    @property
    def has_white(self) -> bool:
        """Whether a sample value can be white other than the largest: samples are unsigned integers, not indices."""
        return np.dtype(self.stored).kind == "u" and self.sample_bits > 1 and not self.has_palette

    @property
    def in_pillow(self) -> bool:
        """Whether Pillow has this mode."""
        return self.number <= _LAST_OF_PILLOW

    @property
    def pixel_bytes(self) -> int:
        """Bytes per pixel; 0 for mode 1, whose pixels are smaller than a byte."""
        return self.channels * self.sample_bits // 8

    def byte_count(self, size: tuple[int, int]) -> int:
        """Return the bytes of a picture of ``size`` (width, height)."""
        width, height = size
        return height * ((width * self.channels * self.sample_bits + 7) // 8)


_ALL: Final = (
    Mode("1", 1, 1, 1),
    Mode("L", 2, 1),
    Mode("LA", 3, 2),
    Mode("La", 4, 2),
    Mode("P", 5, 1, has_palette=True),
    Mode("PA", 6, 2, has_palette=True),
    Mode("RGB", 7, 3),
    Mode("RGBA", 8, 4),
    Mode("RGBa", 9, 4),
    Mode("RGBX", 10, 4),
    Mode("CMYK", 11, 4),
    Mode("YCbCr", 12, 3),
    Mode("LAB", 13, 3),
    Mode("HSV", 14, 3),
    Mode("I", 15, 1, 32, stored="<i4"),
    Mode("I;16", 16, 1, 16, stored="<u2"),
    Mode("I;16B", 17, 1, 16, stored=">u2"),
    Mode("I;16L", 18, 1, 16, stored="<u2"),
    Mode("F", 19, 1, 32, stored="<f4"),
    Mode("LA;16", 20, 2, 16, stored="<u2"),
    Mode("La;16", 21, 2, 16, stored="<u2"),
    Mode("RGB;16", 22, 3, 16, stored="<u2"),
    Mode("RGBA;16", 23, 4, 16, stored="<u2"),
    Mode("RGBa;16", 24, 4, 16, stored="<u2"),
    Mode("CMYK;16", 25, 4, 16, stored="<u2"),
    Mode("L;32", 26, 1, 32, stored="<u4"),
    Mode("LA;32", 27, 2, 32, stored="<u4"),
    Mode("RGB;32", 28, 3, 32, stored="<u4"),
    Mode("RGBA;32", 29, 4, 32, stored="<u4"),
    Mode("LA;F", 30, 2, 32, stored="<f4"),
    Mode("La;F", 31, 2, 32, stored="<f4"),
    Mode("RGB;F", 32, 3, 32, stored="<f4"),
    Mode("RGBA;F", 33, 4, 32, stored="<f4"),
    Mode("RGBa;F", 34, 4, 32, stored="<f4"),
)
_LAST_OF_PILLOW: Final = 19
MODES: Final = {mode.name: mode for mode in _ALL}
MODES_BY_NUMBER: Final = {mode.number: mode for mode in _ALL}

_ARRAY_MODES: Final = {
    "uint8": ("L", "LA", "RGB", "RGBA"),
    "uint16": ("I;16", "LA;16", "RGB;16", "RGBA;16"),
    "uint32": ("L;32", "LA;32", "RGB;32", "RGBA;32"),
    "float32": ("F", "LA;F", "RGB;F", "RGBA;F"),
}
"""Modes of arrays of one to four channels, by their type."""


@dataclass(frozen=True)
class Palette:
    """The colours that the samples of mode P and PA stand for.

    Attributes:
        channels: 3 (RGB) or 4 (RGBA).
        colours: ``channels`` bytes an entry, at most 256 entries.
    """

    channels: int
    colours: bytes


@dataclass(frozen=True)
class PictureInfo:
    r"""A picture without its pixels.

    Attributes:
        name: relative path with forward slashes (see :func:`check_name`).
        mode: a key of ``MODES``.
        size: (width, height) in pixels.
        palette: for modes P and PA.
        transparency: Pillow's ``info["transparency"]``: a grey value or palette index, the alpha of the palette's first
            entries, or a colour; None where there is none.
        metadata: those that are present of

            - ``icc``: the ICC profile;
            - ``exif``: EXIF, a TIFF structure without the prefix ``Exif\0\0``;
            - ``xmp``: the XMP packet;
            - ``iptc``: the IPTC-IIM records (the contents of TIFF tag 33723, of the image resource 0x0404 in Photoshop's);
            - ``comment``: the comment of a JPEG or GIF file, text in the encoding that it had there;
            - ``density``: ASCII text, pixels per unit across and down and the unit, ``"72 72 inch"``: integers or fractions
              such as ``3000001/10000``; the unit is ``inch``, ``cm``, ``m``, or ``none`` where only their ratio counts;
            - ``png``: all other ancillary chunks of a PNG file in their order, each as in the file but without its CRC:
              length (u32, big-endian), type, data. An ``IDAT`` without data stands for the pixels if chunks follow them, a
              ``PLTE`` without data for the palette if the chunks' types do not tell on which side of it they are.
        white: the sample value that is white, where it is not the largest that the mode's samples can have (1023 in a file
            of 10-bit samples); None otherwise, and for floating-point samples.

    Examples:
        >>> import numpy as np
        >>> import ddpm_codec
        >>> info = ddpm_codec.open_archive(ddpm_codec.encode(np.zeros((4, 6, 3), np.uint8))).infos[0]
        >>> info.mode, info.size, info.pixel_count
        ('RGB', (6, 4), 24)
    """

    name: str
    mode: str
    size: tuple[int, int]
    palette: Palette | None = None
    transparency: Transparency | None = None
    metadata: dict[MetadataKey, bytes] = field(default_factory=dict)
    white: int | None = None

    @property
    def pixel_count(self) -> int:
        """Width times height."""
        return self.size[0] * self.size[1]

    @property
    def layout(self) -> Mode:
        """The :class:`Mode` of ``mode``."""
        return MODES[self.mode]


@dataclass(frozen=True)
class Picture:
    """A picture: its description and its pixels, laid out as this module's docstring says."""

    info: PictureInfo
    pixels: bytes

    def without_metadata(self) -> "Picture":
        """Return the picture without what does not belong to its pixels."""
        info = self.info
        bare = PictureInfo(info.name, info.mode, info.size, info.palette, info.transparency, white=info.white)
        return Picture(bare, self.pixels)

    @property
    def name(self) -> str:
        """See :class:`PictureInfo`."""
        return self.info.name

    @property
    def mode(self) -> str:
        """See :class:`PictureInfo`."""
        return self.info.mode

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.info.size

    @property
    def palette(self) -> Palette | None:
        """See :class:`PictureInfo`."""
        return self.info.palette

    @property
    def transparency(self) -> Transparency | None:
        """See :class:`PictureInfo`."""
        return self.info.transparency

    @property
    def metadata(self) -> dict[MetadataKey, bytes]:
        """See :class:`PictureInfo`."""
        return self.info.metadata

    def array(self) -> NDArray[np.uint8]:
        """Return the pixels as [height, width, channels] uint8, read-only and not copied (modes with 8-bit samples).

        Raises:
            ValueError: the mode does not have 8-bit samples.
        """
        if self.info.layout.sample_bits != 8:
            raise ValueError(f"mode {self.mode} does not have 8-bit samples")
        width, height = self.size
        return np.frombuffer(self.pixels, np.uint8).reshape(height, width, self.info.layout.channels)

    def samples(self) -> NDArray[Any]:
        """Return the exact samples as a read-only array in the machine's byte order.

        Returns:
            [height, width] for one channel, else [height, width, channels]: bool for mode 1, int32 for I, float32 for F and
            modes with ``;F``, uint16 for those with ``;16``, uint32 for those with ``;32``, uint8 for all others. Palette
            modes give the indices, not the colours.
        """
        layout = self.info.layout
        width, height = self.size
        samples: NDArray[Any]
        if layout.sample_bits == 1:
            rows = np.frombuffer(self.pixels, np.uint8).reshape(height, -1)
            samples = np.unpackbits(rows, axis=1, count=width).view(np.bool_)
        else:
            stored = np.dtype(layout.stored)
            shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
            samples = np.frombuffer(self.pixels, stored).reshape(shape).astype(stored.newbyteorder("="), copy=False)
        samples.flags.writeable = False
        return samples


def picture_from_array(array: NDArray[Any], name: str) -> Picture:
    """Return an array as a picture.

    Args:
        array: uint8, uint16, uint32 or float32 of shape [height, width] (grey), [height, width, 2] (grey and alpha),
            [height, width, 3] (RGB) or [height, width, 4] (RGBA); any strides and byte order.
        name: the picture's name, a plain relative path (see :func:`check_name`).

    Raises:
        TypeError: ``array`` is not a NumPy array, or has another dtype.
        InputError: it has another shape or no pixels, or the name is unusable.
    """
    kinds = "a uint8, uint16, uint32 or float32 array"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected {kinds}, got {type(array).__name__}")
    modes = _ARRAY_MODES.get(array.dtype.newbyteorder("=").name)
    if modes is None:
        raise TypeError(f"expected {kinds}, got dtype {array.dtype}")
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 and array.shape[2] > 1 else 0
    if not 1 <= channels <= len(modes) or 0 in array.shape:
        expected = "[height, width] or [height, width, 2 to 4], not empty"
        raise InputError(f"{name}: expected an array of shape {expected}; got {list(array.shape)}")
    check_name(name)
    layout = MODES[modes[channels - 1]]
    info = PictureInfo(name, layout.name, (array.shape[1], array.shape[0]))
    return Picture(info, array.astype(layout.stored, copy=False).tobytes())


def check_name(name: str) -> None:
    """Check that ``name`` is a relative path that stays inside the folder it is joined to.

    Raises:
        InputError: it is empty, absolute, too long, leads upwards, or has a backslash, a NUL, or bytes that are not text.
    """
    try:
        length = len(encode_name(name))
    except UnicodeEncodeError:
        raise InputError(f"name {name!r} is not text") from None
    path = PurePosixPath(name)
    plain = str(path) == name and name != "." and not path.is_absolute() and ".." not in path.parts
    if not plain or "\\" in name or "\0" in name or length > MAX_NAME_BYTES:
        raise InputError(f"name {name[:100]!r} is not a plain relative path")


def encode_name(name: str) -> bytes:
    """Return a name as UTF-8; bytes that the file system gave and that are not UTF-8 stay as they were."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(data: bytes) -> str:
    """Undo :func:`encode_name`."""
    return data.decode("utf-8", "surrogateescape")
