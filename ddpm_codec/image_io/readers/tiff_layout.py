"""What of TIFF is read: a list of what is known to come back exactly; all else is refused by name.

Source: TIFF 6.0, Adobe 1992, sections 3 to 23, and the technical notes on tags that came later.
"""

from dataclasses import dataclass
from typing import Final

from ddpm_codec.errors import InputError
from ddpm_codec.image_io.metadata.ifd import Directory
from ddpm_codec.picture import MODES

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
_REFUSED_PHOTOMETRICS: Final = {
    4: "a transparency mask",
    9: "ICC L*a*b* colours",
    10: "ITU L*a*b* colours",
    32803: "the pattern of a colour filter (a camera's raw samples)",
    32844: "LogL colours",
    32845: "LogLuv colours",
    34892: "a camera's linear raw samples",
    51177: "a depth map",
    52527: "a semantic mask",
}
_COLOURS: Final = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3, CIELAB: 3}

NONE, CCITT_RLE, CCITT_T4, CCITT_T6, LZW, JPEG, DEFLATE, PACKBITS = 1, 2, 3, 4, 5, 7, 8, 32773
OLD_DEFLATE, JPEG2000, LZMA, ZSTD, WEBP = 32946, 34712, 34925, 50000, 50001
WEBPS: Final = frozenset({WEBP, 34927})
_CCITT: Final = frozenset({CCITT_RLE, CCITT_T4, CCITT_T6})
_DIFFERENCED: Final = frozenset({LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD, 34926})
"""Compressions behind which a predictor stands; with others, readers disagree on it."""
_WHOLE_SAMPLES: Final = frozenset({JPEG, JPEG2000, *WEBPS})
"""Compressions that know of samples, and take no predictor."""
_COMPRESSIONS: Final = frozenset({NONE, PACKBITS, *_CCITT, *_DIFFERENCED, *_WHOLE_SAMPLES})
_HORIZONTAL, _FLOATING = 2, 3

_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_FORMATS: Final = {
    _SIGNED: "signed integers",
    _FLOAT: "floating-point numbers",
    4: "samples of an unknown kind",
    5: "complex integers",
    6: "complex numbers",
}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MAX_BITS: Final = 32
_LARGE_TILE: Final = 1 << 22
"""Pixels of a tile that may be larger than a small picture."""


@dataclass(frozen=True)
class Layout:
    """How the pixels of a page are stored.

    Attributes:
        size: (width, height).
        mode: the mode of the picture, a key of ``MODES``.
        photometric: what the samples mean, by TIFF's number.
        bits: bits per sample.
        samples: samples per pixel.
        white: see :class:`~ddpm_codec.picture.PictureInfo`.
        compression: by TIFF's number.
        planes: whether each channel is stored by itself.
        offsets: where the strips or tiles stand.
        counts: how many bytes each has.
    """

    size: tuple[int, int]
    mode: str
    photometric: int
    bits: int
    samples: int
    white: int | None
    compression: int
    planes: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def inverted(self) -> bool:
        """Whether samples are stored with white as 0."""
        return self.photometric == WHITE_IS_ZERO

    @property
    def scale(self) -> int:
        """What samples are multiplied with: grey of 2 and 4 bits becomes grey of 8 bits, exactly."""
        return 255 // ((1 << self.bits) - 1) if self.mode == "L" and self.bits in (2, 4) else 1


def layout_of(page: Directory, file_size: int) -> Layout:
    """Return how the pixels of a page are stored.

    Args:
        page: its directory.
        file_size: bytes of the file, in which all pixels must lie.

    Raises:
        InputError: it is damaged, or stored in a way that would not come back.
    """
    size = page.integer(256, 0), page.integer(257, 0)
    if 0 in size:
        raise InputError(f"has no pixels ({size[0]}x{size[1]})")
    photometric, compression = page.integer(262, WHITE_IS_ZERO), page.integer(259, NONE)
    if photometric not in _COLOURS:
        meaning = _REFUSED_PHOTOMETRICS.get(photometric, f"colours of an unknown kind ({photometric})")
        raise InputError(f"holds {meaning}, which would be lost")
    if compression not in _COMPRESSIONS:
        raise InputError(f"has a compression of TIFF that is not read ({compression})")
    if page.integer(32997, 1) != 1:
        raise InputError("is a volume: all slices but the first would be lost")
    bits, samples = _bits(page), page.integer(277, 1)
    alpha = _alpha(page, photometric, samples)
    mode = _mode(page, photometric, bits, alpha, jpeg=compression == JPEG)
    _check_meaning(page, photometric)
    _check_coding(page, photometric, compression, bits)
    planes = page.integer(284, 1) == 2 and samples > 1
    offsets, counts = _segments(page, size, samples * bits, samples if planes else 1, compression, file_size)
    white = _white(mode, bits)
    return Layout(size, mode, photometric, bits, samples, white, compression, planes, offsets, counts)


def _bits(page: Directory) -> int:
    bits = page.integers(258, (1,))
    if not bits or len(set(bits)) > 1:
        raise InputError(f"has channels of different depths ({', '.join(map(str, bits))} bits), which are not read")
    if not 1 <= bits[0] <= _MAX_BITS:
        raise InputError(f"has samples of {bits[0]} bits, of which more than {_MAX_BITS} would be lost")
    return bits[0]


def _alpha(page: Directory, photometric: int, samples: int) -> str:
    """Return ``A`` or ``a`` where there is an alpha channel, separate or multiplied with, else nothing."""
    kinds, extra = page.integers(338), samples - _COLOURS[photometric]
    if extra < 0 or samples < 1:
        raise InputError(f"is damaged (it has {samples} channels, and its colours want {_COLOURS[photometric]})")
    if not extra:
        # Kinds without a channel are a common mistake of writers.
        return ""
    if extra == 1 and not kinds and photometric == RGB:
        # Readers agree that a fourth channel of RGB without a kind is alpha.
        return "A"
    if extra == 1 and kinds in ((_UNASSOCIATED,), (_ASSOCIATED,)):
        return "A" if kinds == (_UNASSOCIATED,) else "a"
    which = "an extra channel" if extra == 1 else f"{extra} extra channels"
    raise InputError(f"has {which} beside its colours (ExtraSamples {kinds or 'missing'}), which would be lost")


def _mode(page: Directory, photometric: int, bits: int, alpha: str, *, jpeg: bool) -> str:
    """Return the mode that holds the samples.

    Raises:
        InputError: there is none.
    """
    formats = set(page.integers(339, (_UNSIGNED,)))
    kind = formats.pop() if len(formats) == 1 else 0
    grey = photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    letters = {RGB: "RGB", SEPARATED: "CMYK", PALETTE: "P", CIELAB: "LAB", YCBCR: "RGB" if jpeg else "YCbCr"}
    base = letters.get(photometric, "L") + alpha
    mode = ""
    if kind == _UNSIGNED:
        mode = _unsigned_mode(page, photometric, base, bits)
    elif photometric == BLACK_IS_ZERO and not alpha and (kind, bits) == (_SIGNED, 32):
        mode = "I"
    elif photometric in (BLACK_IS_ZERO, RGB) and (kind, bits) == (_FLOAT, 32):
        mode = "F" if base == "L" else f"{base};F"
    if mode not in MODES:
        name = f"{'grey' if grey else base}{' with alpha' if grey and alpha else ''}"
        what = f"{bits}-bit {_FORMATS.get(kind, 'samples' if kind else 'samples of mixed kinds')}"
        white = ", white as 0" if photometric == WHITE_IS_ZERO else ""
        raise InputError(f"has {what} ({name}{white}), for which there is no mode: they would be lost")
    return mode


def _unsigned_mode(page: Directory, photometric: int, base: str, bits: int) -> str:
    if photometric in (PALETTE, YCBCR, CIELAB):
        allowed = bits in (1, 2, 4, 8) and base == "P" if photometric == PALETTE else bits == 8
        return base if allowed or (base, bits) == ("PA", 8) else ""
    if photometric == SEPARATED and bits not in (8, 16):
        return ""
    # Of others, some readers give the stored numbers and some the grey that they mean.
    if photometric == WHITE_IS_ZERO and (base != "L" or bits not in (1, 2, 4, 8)):
        return ""
    if base == "L" and bits == 1:
        return "1"
    if bits <= 8:
        return base
    if base == "L" and bits <= 16:
        return "I;16B" if page.order == ">" and bits == 16 else "I;16"
    return f"{base};{16 if bits <= 16 else 32}"


def _white(mode: str, bits: int) -> int | None:
    if not MODES[mode].has_white or bits == MODES[mode].sample_bits or (mode == "L" and bits in (2, 4)):
        return None
    return (1 << bits) - 1


def _check_meaning(page: Directory, photometric: int) -> None:
    """Refuse what changes the meaning of samples in a way that no mode has."""
    if photometric == SEPARATED:
        if page.integer(332, 1) != 1 or page.integer(334, 4) != 4:
            raise InputError("has inks other than cyan, magenta, yellow and black, which would be lost")
        if len(page.integers(336)) and page.integers(336)[:2] not in ((0, 255), (0, 65535)):
            raise InputError("has inks whose range is not the whole one (DotRange), which would be lost")


def _check_coding(page: Directory, photometric: int, compression: int, bits: int) -> None:
    """Refuse combinations on which readers disagree."""
    predictor = page.integer(317, 1)
    if predictor != 1 and compression not in _WHOLE_SAMPLES:
        fits = (predictor == _HORIZONTAL and bits in (8, 16, 32)) or (predictor == _FLOATING and bits == _MAX_BITS)
        if compression not in _DIFFERENCED or not fits:
            raise InputError(f"has a predictor ({predictor}) that is not read with compression {compression}")
    if predictor == _FLOATING and page.integer(339, _UNSIGNED) != _FLOAT:
        raise InputError("is damaged (its predictor is for floating-point samples)")
    if compression in _CCITT and (bits, page.integer(277, 1)) != (1, 1):
        raise InputError("is damaged (a fax compression on samples of more than one bit)")
    if compression in _WHOLE_SAMPLES and (bits not in (8, 16) or (bits == 16 and compression != JPEG2000)):
        raise InputError(f"has samples of {bits} bits in compression {compression}, which is not read")
    if compression == JPEG and photometric == YCBCR and (page.integer(277, 1), page.integer(284, 1)) != (3, 1):
        raise InputError("has YCbCr with alpha or in separate planes of JPEG, which is not read")
    if photometric == YCBCR and compression != JPEG and page.integers(530, (1, 1)) != (1, 1):
        raise InputError("has YCbCr with subsampled colours and no JPEG compression, which is not read")
    if page.integer(266, 1) not in (1, 2) or page.integer(284, 1) not in (1, 2):
        raise InputError("is damaged (FillOrder or PlanarConfiguration is neither 1 nor 2)")


def _segments(
    page: Directory, size: tuple[int, int], bits: int, planes: int, compression: int, file_size: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return offsets and lengths of all strips or tiles.

    Raises:
        InputError: some are missing, or do not lie inside the file.
    """
    tiled = page.find(322) is not None
    across, down = (page.integer(322, 0), page.integer(323, 0)) if tiled else (size[0], page.integer(278, size[1]))
    down = down if tiled else min(down, size[1])
    if across < 1 or down < 1 or page.integer(32998, 1) != 1:
        raise InputError("is damaged (its strips or tiles have no size)")
    if tiled and across * down > max(4 * size[0] * size[1], _LARGE_TILE):
        raise InputError(f"has tiles of {across}x{down} pixels, far more than the picture")
    wanted = -(-size[0] // across) * -(-size[1] // down) * planes
    name = "tiles" if tiled else "strips"
    offsets, counts = page.integers(324 if tiled else 273), page.integers(325 if tiled else 279)
    if not counts and compression == NONE and wanted == 1:
        counts = (-(-size[0] * bits // 8) * size[1],)
    if len(offsets) != wanted or len(counts) != wanted:
        raise InputError(f"is damaged (it has {min(len(offsets), len(counts))} of {wanted} {name})")
    empty = sum(not offset or not count for offset, count in zip(offsets, counts, strict=True))
    if empty:
        raise InputError(f"is sparse or damaged: {empty} of {wanted} {name} are not in the file")
    if any(offset + count > file_size for offset, count in zip(offsets, counts, strict=True)):
        raise InputError(f"is damaged (the file ends before the end of its {name})")
    return offsets, counts
