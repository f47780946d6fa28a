"""Pixels as TIFF, written by tifffile: Deflate with the predictor that serves best, packed bits where white is not the largest."""

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tifffile
from numpy.typing import NDArray

from ddpm_codec.image_io.metadata.ifd import Order
from ddpm_codec.picture import Picture, PictureInfo

_PHOTOMETRICS: Final = {
    **dict.fromkeys(("1", "L", "LA", "La", "I", "I;16", "I;16B", "F", "PA"), "minisblack"),
    **dict.fromkeys(("LA;16", "La;16", "L;32", "LA;32", "LA;F", "La;F"), "minisblack"),
    **dict.fromkeys(("RGB", "RGBA", "RGBa", "RGB;16", "RGBA;16", "RGBa;16", "RGB;32", "RGBA;32"), "rgb"),
    **dict.fromkeys(("RGB;F", "RGBA;F", "RGBa;F"), "rgb"),
    "P": "palette",
    "CMYK": "separated",
    "CMYK;16": "separated",
    "YCbCr": "ycbcr",
    "LAB": "cielab",
}
"""By mode; tifffile writes no palette with alpha, so that PA is grey with alpha until its directory is written anew."""

TIFF_MODES: Final = frozenset(_PHOTOMETRICS)
"""Modes that TIFF holds."""

_ASSOCIATED, _UNASSOCIATED = 1, 2
_PREDICTED_BITS: Final = frozenset({8, 16, 32})
_SCALED_BITS: Final = frozenset({2, 4})
_LARGE_BYTES: Final = 1 << 26
_MAX_CLASSIC_BYTES: Final = (1 << 32) - (1 << 26)


@dataclass(frozen=True)
class Packing:
    """How samples are packed.

    Attributes:
        compressed: by Deflate.
        predictor: before it, differences of neighbours are taken.
    """

    compressed: bool
    predictor: bool = False


def bits_of(info: PictureInfo) -> int | None:
    """Return the bits per sample that a TIFF file of a picture has; None if its white is not that of any number of bits."""
    if info.white is None:
        return info.layout.sample_bits
    bits = info.white.bit_length()
    smallest = {8: 1, 16: 9, 32: 17}.get(info.layout.sample_bits, 64)
    fits = smallest <= bits < info.layout.sample_bits and info.white == (1 << bits) - 1
    # One bit of grey is mode 1, and grey of 2 and 4 bits is read as 8 bits; with ink, white is no amount of it.
    is_other = info.mode == "L" and bits in (1, *_SCALED_BITS)
    return (
        None if not fits or is_other or _PHOTOMETRICS.get(info.mode) in (None, "separated", "ycbcr", "cielab") else bits
    )


def packings_of(picture: Picture) -> list[Packing]:
    """Return the ways to pack the samples of a picture that are worth trying, the usual one first."""
    if picture.info.white is not None:
        return [Packing(compressed=False)]
    plain = picture.info.layout.has_palette or picture.info.layout.sample_bits not in _PREDICTED_BITS
    deflate = [] if plain else [Packing(compressed=True, predictor=True)]
    if plain or len(picture.pixels) <= _LARGE_BYTES:
        deflate.append(Packing(compressed=True))
    return deflate


def needs_big(picture: Picture, metadata_bytes: int) -> bool:
    """Whether a file may need offsets of more than 32 bits."""
    return len(picture.pixels) + metadata_bytes > _MAX_CLASSIC_BYTES


def write_pixels(picture: Picture, packing: Packing, order: Order, *, big: bool) -> bytearray:
    """Return a TIFF file of the pixels of a picture alone.

    Args:
        picture: of a mode in ``TIFF_MODES``, whose white :func:`bits_of` knows.
        packing: how to pack samples.
        order: the byte order.
        big: write a BigTIFF.
    """
    mode = picture.mode
    options: dict[str, Any] = {"photometric": _PHOTOMETRICS[mode]}
    samples: NDArray[Any] = picture.samples()
    if samples.ndim == 3:
        options["planarconfig"] = "contig"
    letters = mode.partition(";")[0]
    if letters[-1] in "Aa":
        options["extrasamples"] = [_ASSOCIATED if letters.endswith("a") else _UNASSOCIATED]
    if mode == "P":
        options["colormap"] = colour_map(picture)
    if mode == "YCbCr":
        options["subsampling"] = (1, 1)
    if picture.info.white is not None:
        options["bitspersample"] = bits_of(picture.info)
    if packing.compressed:
        options |= {"compression": "adobe_deflate", "predictor": packing.predictor, "maxworkers": 1}
    out = io.BytesIO()
    with tifffile.TiffWriter(out, bigtiff=big, byteorder=order) as tiff:
        tiff.write(samples, metadata=None, software=False, **options)
    return bytearray(out.getbuffer())


def colour_map(picture: Picture) -> NDArray[np.uint16]:
    """Return the palette of a picture as the 3 * 256 values of a ColorMap."""
    colours = np.zeros((256, 3), np.uint16)
    if picture.palette is not None:
        given = np.frombuffer(picture.palette.colours, np.uint8).reshape(-1, picture.palette.channels)
        colours[: len(given)] = given[:, :3]
    return np.ascontiguousarray((colours * np.uint16(257)).T)
