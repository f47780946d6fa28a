"""How a progressive file is coded: what both sides must agree on besides the model, and what an encoder may choose.

Importing this loads no torch.
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
"""Bits paid for a bit of KL, by the bits of the register: chosen on training pictures for the end-to-end rate."""

FIRST_SECTION, LARGEST_SMALL_SECTION = 200, 1000
"""Messages share a section until it has so many bytes: the first number at the start, then twice as many as were sent by
then, up to the second. A small picture takes few sections, and none of a large one is long in coming."""


@dataclass(frozen=True)
class ProgressiveParameters:
    """Parameters of a file.

    Attributes:
        steps: K of the chain.
        register_bits: L of the trellis.
        tail_level: level at which the indices end: 0, or where bits-back takes over.
        tile: side of the tiles below the tail level, of no account where that is 0.
        block_pixels: pixels of a block of these, likewise.
    """

    steps: int
    register_bits: int
    tail_level: int
    tile: int
    block_pixels: int

    def values(self) -> Values:
        """Return them for the head of a file."""
        keys = (*PROGRESSIVE_PARAMETERS, *(TAIL_PARAMETERS if self.tail_level else ()))
        return {key: getattr(self, key) for key in keys}

    @property
    def slack(self) -> float:
        """Bits to pay for a bit of KL."""
        nearest = min(SLACK, key=lambda bits: abs(bits - self.register_bits))
        return SLACK[nearest]


def read_parameters(values: Values) -> ProgressiveParameters:
    """Return the parameters in the head of a file.

    Raises:
        FormatError: none that an encoder writes.
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
"""Steps of a progressive chain: more and smaller ones than bits-back wants; fewer for pictures below BRIDGED_PIXELS, where
every step costs some bytes of its own."""

TAIL_SIGMA = 4.0
"""Grey levels of noise at which bits-back takes over from the indices: finer than that, no eye sees the steps."""

BRIDGED_PIXELS = 1 << 14
"""From so many pixels on, bits-back ends the file; smaller pictures cannot start it cheaply."""

COMPARED_PIXELS = 1 << 16
"""Up to so many pixels, indices to the end are tried as well and the smaller file is kept."""

TAIL_TILES = (256, 128, 64)
"""Sides of tiles below the tail level: the first of them that can be started."""

REGISTERS = ((1 << 14, 16), (1 << 20, 14), (1 << 22, 12))
"""Up to so many pixels, so many bits of register: each two bits more cost four times the time."""

LEAST_REGISTER = 10


@dataclass(frozen=True)
class ProgressiveOptions:
    """What an encoder may choose.

    Attributes:
        steps: K of the chain; None: by the size of the picture.
        register_bits: of the trellis; None: by the size of the picture.
        tail_level: level at which indices end; None: by the size of the picture.
        tile: side of tiles below the tail level; None: see TAIL_TILES.
        max_bpp: stop before the file has more bits a pixel; None: do not.
        min_psnr_db: stop when the ``mean`` reconstruction is as good; None: do not.

    Raises:
        InputError: naming the option that makes no sense.
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
    """Return the K of a progressive chain for a picture of so many pixels; None is the model's own."""
    if steps is not None:
        return steps
    wanted = STEPS if pixels >= BRIDGED_PIXELS else SMALL_STEPS
    return wanted if model.has_chain(model.chain_steps(wanted) or 0) else None


def choose_parameters(sigmas: NDArray[np.float64], pixels: int, options: ProgressiveOptions) -> ProgressiveParameters:
    """Return the parameters for a picture of so many pixels.

    Args:
        sigmas: noise of the levels of the chain in grey levels, [K + 1].
        pixels: of the picture.
        options: what the caller chooses; the rest is chosen here.

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
