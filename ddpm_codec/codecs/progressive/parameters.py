"""Coding parameters of a progressive file, and the options of its encoder.

Importing this module does not load torch.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS, MAX_BLOCK_TILES, MAX_TILE, CodingOptions, checked_options
from ddpm_codec.container.layout import PROGRESSIVE_PARAMETERS, TAIL_PARAMETERS, Values
from ddpm_codec.errors import FormatError, InputError

if TYPE_CHECKING:
    from ddpm_codec.models.protocol import CodecModel

MIN_REGISTER, MAX_REGISTER = 4, 16

SLACK = {4: 1.4, 6: 1.25, 8: 1.18, 10: 1.13, 12: 1.09, 14: 1.06, 16: 1.05}
"""Bits spent per bit of KL, by register bits; tuned on training pictures for the end-to-end rate."""

FIRST_SECTION, LARGEST_SMALL_SECTION = 200, 1000
"""Bytes at which a section ends: the first number at the start, then twice the bytes sent so far, up to the second number.
This gives small pictures few sections, and large pictures no very long ones."""


@dataclass(frozen=True)
class ProgressiveParameters:
    """Coding parameters of a file.

    Attributes:
        steps: K of the chain.
        register_bits: L of the trellis.
        tail_level: level at which the indices end: 0, or where bits-back takes over.
        tile: side of the tiles below the tail level; unused if that is 0.
        block_pixels: pixels per block of these tiles; unused if the tail level is 0.
    """

    steps: int
    register_bits: int
    tail_level: int
    tile: int
    block_pixels: int

    def values(self) -> Values:
        """Return the values stored in the head of a file."""
        keys = (*PROGRESSIVE_PARAMETERS, *(TAIL_PARAMETERS if self.tail_level else ()))
        return {key: getattr(self, key) for key in keys}

    @property
    def slack(self) -> float:
        """Bits to spend per bit of KL."""
        nearest = min(SLACK, key=lambda bits: abs(bits - self.register_bits))
        return SLACK[nearest]


def read_parameters(values: Values) -> ProgressiveParameters:
    """Parse the parameters in the head of a file.

    Raises:
        FormatError: they are damaged.
    """
    unused = {"tile": MAX_TILE, "block_pixels": DEFAULT_BLOCK_PIXELS}
    found = ProgressiveParameters(**unused | {key: int(value) for key, value in values.items()})
    fits = (
        1 <= found.steps <= 1 << 16
        and MIN_REGISTER <= found.register_bits <= MAX_REGISTER
        and found.tail_level <= found.steps
        and 8 <= found.tile <= MAX_TILE
        and not found.tile % 8
        and found.block_pixels >= 1
        and CodingOptions(found.block_pixels, found.tile).square_tiles <= MAX_BLOCK_TILES
    )
    if not fits:
        raise FormatError("its coding parameters are damaged")
    return found


STEPS, SMALL_STEPS = 16, 12
"""Steps of a progressive chain: more and smaller steps than for bits-back, but fewer for pictures below BRIDGED_PIXELS,
because every step has some overhead."""

TAIL_SIGMA = 4.0
"""Noise in grey levels at which bits-back takes over from the indices; finer steps are invisible."""

BRIDGED_PIXELS = 1 << 14
"""Minimum number of pixels for a bits-back tail; its initial bits are too expensive for smaller pictures."""

COMPARED_PIXELS = 1 << 16
"""Up to this many pixels, indices down to level 0 are tried as well and the smaller file is kept."""

TAIL_TILES = (256, 128, 64)
"""Candidate sides of tiles below the tail level; the first that works is used."""

REGISTERS = ((1 << 14, 16), (1 << 20, 14), (1 << 22, 12))
"""(maximum pixels, register bits): two more bits take four times as long."""

LEAST_REGISTER = 10


@dataclass(frozen=True)
class ProgressiveOptions:
    """Encoder options.

    Attributes:
        steps: K of the chain; None: by picture size.
        register_bits: register bits of the trellis; None: by picture size.
        tail_level: level at which the indices end; None: by picture size.
        tile: side of the tiles below the tail level; None: see TAIL_TILES.
        max_bpp: stop before the file exceeds this many bits per pixel; None: no limit.
        min_psnr_db: stop once the ``mean`` reconstruction has this PSNR, in dB; None: no limit.

    Raises:
        InputError: an option is out of range; the message names it.
    """

    steps: int | None = None
    register_bits: int | None = None
    tail_level: int | None = None
    tile: int | None = None
    max_bpp: float | None = None
    min_psnr_db: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("bpp", self.max_bpp), ("psnr", self.min_psnr_db)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value:g}: must be a positive number")
        if self.register_bits is not None and not MIN_REGISTER <= self.register_bits <= MAX_REGISTER:
            raise InputError(f"register bits = {self.register_bits}: must lie in {MIN_REGISTER}..{MAX_REGISTER}")


def choose_steps(model: "CodecModel", steps: int | None, pixels: int) -> int | None:
    """Return K of a progressive chain for a picture with this number of pixels; None is the model's default."""
    if steps is not None:
        return steps
    wanted = STEPS if pixels >= BRIDGED_PIXELS else SMALL_STEPS
    return wanted if model.has_chain(model.chain_steps(wanted) or 0) else None


def choose_parameters(sigmas: NDArray[np.float64], pixels: int, options: ProgressiveOptions) -> ProgressiveParameters:
    """Choose the parameters for a picture.

    Args:
        sigmas: sigma of each level of the chain in grey levels, [K + 1].
        pixels: number of pixels of the picture.
        options: values set by the caller; the others are chosen here.

    Raises:
        InputError: an option does not fit the chain.
    """
    steps, register_bits, tail_level = len(sigmas) - 1, options.register_bits, options.tail_level
    if register_bits is None:
        register_bits = next((bits for most, bits in REGISTERS if pixels <= most), LEAST_REGISTER)
    if tail_level is None:
        noisy = np.flatnonzero(sigmas >= TAIL_SIGMA)
        tail_level = int(noisy[0]) if pixels >= BRIDGED_PIXELS and len(noisy) else 0
    if not 0 <= tail_level <= steps:
        raise InputError(f"tail level = {tail_level}: the chain has levels 0 to {steps}")
    tile = TAIL_TILES[0] if options.tile is None else options.tile
    checked_options(DEFAULT_BLOCK_PIXELS, tile)
    return ProgressiveParameters(steps, register_bits, tail_level, tile, DEFAULT_BLOCK_PIXELS)
