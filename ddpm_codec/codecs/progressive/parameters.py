"""Coding parameters of a progressive file, and the options of its encoder.

Importing this module does not load torch.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS, MAX_TILE, checked_options
from ddpm_codec.container.layout import PROGRESSIVE_PARAMETERS, Values
from ddpm_codec.errors import FormatError, InputError

if TYPE_CHECKING:
    from ddpm_codec.models.protocol import CodecModel

MIN_REGISTER, MAX_REGISTER = 4, 16

MAX_STEPS = 1 << 16

TILE = 256
"""Side of the tiles of the lossless end."""

SLACK = {4: 1.4, 6: 1.25, 8: 1.18, 10: 1.13, 12: 1.09, 14: 1.06, 16: 1.05}
"""Bits spent per bit of KL, by register bits; tuned on training pictures for the end-to-end rate."""

FIRST_SECTION, LARGEST_SMALL_SECTION = 200, 1000
"""Bytes at which a section ends: the first number at the start, then twice the bytes sent so far, up to the second number.
This gives small pictures few sections, and large pictures no very long ones."""


@dataclass(frozen=True)
class ProgressiveParameters:
    """Coding parameters of a file.

    Attributes:
        crossing: index of the crossing that the chain ends at.
        steps: K of the chain.
        register_bits: L of the trellis.
        tile: side of the tiles of the lossless end.
        end: 0 if the messages end at level 0 and tiles follow; m + 1 if they end at level m and the fallback follows.
    """

    crossing: int
    steps: int
    register_bits: int
    tile: int = TILE
    end: int = 0

    def values(self) -> Values:
        """Return the values stored in the head of a file."""
        return {key: getattr(self, key) for key in PROGRESSIVE_PARAMETERS}

    @property
    def last(self) -> int:
        """Level at which the messages end."""
        return max(0, self.end - 1)

    @property
    def slack(self) -> float:
        """Bits to spend per bit of KL."""
        return slack_of(self.register_bits)


def slack_of(register_bits: int) -> float:
    """Return the bits to spend per bit of KL with a register."""
    return SLACK[min(SLACK, key=lambda bits: abs(bits - register_bits))]


def read_parameters(values: Values) -> ProgressiveParameters:
    """Parse the parameters in the head of a file.

    Raises:
        FormatError: they are damaged.
    """
    found = ProgressiveParameters(**{key: int(value) for key, value in values.items()})
    fits = (
        1 <= found.steps <= MAX_STEPS
        and MIN_REGISTER <= found.register_bits <= MAX_REGISTER
        and 8 <= found.tile <= MAX_TILE
        and not found.tile % 8
        and found.end <= found.steps + 2
    )
    if not fits:
        raise FormatError("its coding parameters are damaged")
    return found


STEPS, SMALL_STEPS = 16, 12
"""Steps of the chain where the model does not say: fewer for pictures below SMALL_PIXELS, because every step has some
overhead."""

SMALL_PIXELS = 1 << 14

FALLBACK_SHARE = 8
"""Before a fallback that ends a file, messages take at most this fraction (1/N) of its bytes."""

REGISTERS = ((1 << 14, 16), (1 << 20, 14), (1 << 22, 12))
"""(maximum pixels, register bits): two more bits take four times as long."""

LEAST_REGISTER = 10


@dataclass(frozen=True)
class ProgressiveOptions:
    """Encoder options.

    Attributes:
        steps: K of the chain; None: by picture size.
        register_bits: register bits of the trellis; None: by picture size.
        tile: side of the tiles of the lossless end; None: TILE.
        max_bpp: stop before the file exceeds this many bits per pixel; None: no limit.
        min_psnr_db: stop once the ``mean`` reconstruction has this PSNR, in dB; None: no limit.
        fallback: end with the fallback, after few messages, where that takes fewer bytes.

    Raises:
        InputError: an option is out of range; the message names it.
    """

    steps: int | None = None
    register_bits: int | None = None
    tile: int | None = None
    max_bpp: float | None = None
    min_psnr_db: float | None = None
    fallback: bool = True

    def __post_init__(self) -> None:
        for name, value in (("bpp", self.max_bpp), ("psnr", self.min_psnr_db)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value:g}: must be a positive number")
        if self.register_bits is not None and not MIN_REGISTER <= self.register_bits <= MAX_REGISTER:
            raise InputError(f"register bits = {self.register_bits}: must lie in {MIN_REGISTER}..{MAX_REGISTER}")


def choose_steps(model: "CodecModel", steps: int | None, pixels: int, crossing: int = 0) -> int | None:
    """Return the steps, as a user counts them, of a progressive chain above a crossing; None is the model's default.

    Args:
        model: the model.
        steps: what the user asks for, or None.
        pixels: of the picture.
        crossing: index of the crossing.
    """
    if steps is not None:
        return steps
    wanted = model.progressive_steps or (STEPS if pixels >= SMALL_PIXELS else SMALL_STEPS)
    return wanted if model.has_chain(model.chain_steps(wanted) or 0, crossing) else None


def choose_parameters(crossing: int, steps: int, pixels: int, options: ProgressiveOptions) -> ProgressiveParameters:
    """Choose the parameters for a picture.

    Args:
        crossing: index of the crossing.
        steps: K of the chain.
        pixels: number of pixels of the picture.
        options: values set by the caller; the others are chosen here.

    Raises:
        InputError: an option is out of range.
    """
    register_bits = options.register_bits or register_for(pixels)
    tile = TILE if options.tile is None else options.tile
    checked_options(DEFAULT_BLOCK_PIXELS, tile)
    return ProgressiveParameters(crossing, steps, register_bits, tile)


def register_for(pixels: int) -> int:
    """Return the register bits for a picture with this number of pixels."""
    return next((bits for most, bits in REGISTERS if pixels <= most), LEAST_REGISTER)
