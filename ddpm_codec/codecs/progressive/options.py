"""What an encoder of progressive files may choose, and what is chosen for it. Importing this loads no torch."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm_codec.codecs.encoding import checked_options
from ddpm_codec.codecs.options import DEFAULT_BLOCK_PIXELS
from ddpm_codec.codecs.progressive.parameters import MAX_REGISTER, MIN_REGISTER, ProgressiveParameters
from ddpm_codec.errors import InputError
from ddpm_codec.models.registry import DEFAULT

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.steps import ProgressiveChain

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
        model: name or file of a model.
        device: ``auto``, ``cpu`` or ``cuda``.
        levels: K of the chain; None: by the size of the picture.
        register_bits: of the trellis; None: by the size of the picture.
        tail_level: level at which indices end; None: by the size of the picture.
        tile: side of tiles below the tail level; None: see TAIL_TILES.
        max_bpp: stop before the file has more bits a pixel; None: do not.
        min_psnr_db: stop when the ``mean`` reconstruction is as good; None: do not.
        strip: leave ICC, EXIF and XMP out.
        first_frame: of pictures with several frames take the first.
        verify: decode what was written and compare, before the file appears.
    """

    model: str = DEFAULT
    device: str = "auto"
    levels: int | None = None
    register_bits: int | None = None
    tail_level: int | None = None
    tile: int | None = None
    max_bpp: float | None = None
    min_psnr_db: float | None = None
    strip: bool = False
    first_frame: bool = False
    verify: bool = False

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: naming the option.
        """
        for name, value in (("bpp", self.max_bpp), ("psnr", self.min_psnr_db)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value:g}: must be a positive number")
        if self.register_bits is not None and not MIN_REGISTER <= self.register_bits <= MAX_REGISTER:
            raise InputError(f"register bits = {self.register_bits}: must lie in {MIN_REGISTER}..{MAX_REGISTER}")


def chosen_steps(model: str, levels: int | None, pixels: int) -> int | None:
    """Return the K of a progressive chain for a picture of so many pixels; None is the model's own.

    Raises:
        ModelError: no such model.
    """
    from ddpm_codec.models import find_model

    if levels is not None:
        return levels
    steps = STEPS if pixels >= BRIDGED_PIXELS else SMALL_STEPS
    return steps if _has_chain(find_model(model), steps) else None


@lru_cache(maxsize=8)
def _has_chain(model: Path, levels: int) -> bool:
    from ddpm_codec.models.opening import open_model

    opened = open_model(model)
    return opened.has_chain(opened.chain_steps(levels) or 0)


def choose_parameters(
    chain: "ProgressiveChain",
    pixels: int,
    register_bits: int | None = None,
    tail_level: int | None = None,
    tile: int | None = None,
) -> ProgressiveParameters:
    """Return the parameters for a picture of so many pixels; None leaves the choice to its size.

    Raises:
        InputError: a parameter does not fit the chain.
    """
    if register_bits is None:
        register_bits = next((bits for most, bits in REGISTERS if pixels <= most), LEAST_REGISTER)
    if tail_level is None:
        noisy = np.flatnonzero(chain.sigmas >= TAIL_SIGMA)
        tail_level = int(noisy[0]) if pixels >= BRIDGED_PIXELS and len(noisy) else 0
    if not 0 <= tail_level <= chain.steps:
        raise InputError(f"tail level = {tail_level}: the chain has levels 0 to {chain.steps}")
    tile = TAIL_TILES[0] if tile is None else tile
    checked_options(DEFAULT_BLOCK_PIXELS, tile)
    return ProgressiveParameters(chain.steps, register_bits, tail_level, tile, DEFAULT_BLOCK_PIXELS)
