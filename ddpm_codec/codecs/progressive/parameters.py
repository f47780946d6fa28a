"""How a progressive file is coded: what encoder and decoder must agree on besides the model."""

from dataclasses import dataclass

from ddpm_codec.codecs.options import DEFAULT_BLOCK_PIXELS, MAX_BLOCK_TILES, MAX_TILE, CodingOptions
from ddpm_codec.container.layout import PROGRESSIVE_PARAMETERS, TAIL_PARAMETERS, Values
from ddpm_codec.errors import FormatError

MIN_REGISTER, MAX_REGISTER = 4, 16

SLACK = {4: 1.4, 6: 1.25, 8: 1.18, 10: 1.13, 12: 1.09, 14: 1.06, 16: 1.05}
"""Bits paid for a bit of KL, by the bits of the register: chosen on training pictures for the end-to-end rate."""

FIRST_SECTION, LARGEST_SMALL_SECTION = 200, 1000
"""Parts share a section until it has so many bytes: the first number at the start, then twice as many as were sent by then,
up to the second. A small picture takes few sections, and none of a large one is long in coming."""


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
