"""A picture to the sections of a progressive file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.progressive.parameters import FIRST_SECTION, LARGEST_SMALL_SECTION, ProgressiveParameters
from ddpm_codec.codecs.progressive.part import encode_part
from ddpm_codec.codecs.progressive.reconstruction import MEAN, reconstruct
from ddpm_codec.codecs.progressive.steps import ProgressiveChain, StepLaw
from ddpm_codec.codecs.progressive.tail import Tail
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.coding.bits_back import pad_to_multiple
from ddpm_codec.coding.channel_simulation import ChannelCode, TrellisCode
from ddpm_codec.distortion import psnr_db

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Section:
    """A section and what it stands for.

    Attributes:
        payload: its bytes.
        level: that the picture is on its way to with this section; -1 for the lossless end.
        ideal_bits: KL of what it sends; 0 for the lossless end.
    """

    payload: bytes
    level: int
    ideal_bits: float


class ProgressiveEncoder:
    """Encodes one picture.

    Args:
        chain: the chain.
        lattice: opens the lattice model of the same chain, for a tail level above 0.
        parameters: of the file.
        pixels: the picture, [H, W, 3].
        code: the channel code; None: a trellis of the parameters' register.
        slack: bits paid for a bit of KL; None: that of the parameters.
        threads: to search with.
        each_level: end a section where a level ends, however short it is.

    Attributes:
        walk: what a decoder of everything so far knows.
        parameters: of the file; the tail level and the tile may change, see :meth:`go_on_to` and :meth:`tail`.
    """

    def __init__(
        self,
        chain: ProgressiveChain,
        lattice: Callable[[], DiffusionLattice],
        parameters: ProgressiveParameters,
        pixels: Pixels,
        *,
        code: ChannelCode | None = None,
        slack: float | None = None,
        threads: int = 1,
        each_level: bool = False,
    ) -> None:
        self._chain, self._lattice, self.parameters, self._pixels = chain, lattice, parameters, pixels
        self._padded = padded_pixels(pixels)
        self._code = code or TrellisCode(parameters.register_bits)
        self._slack = slack if slack is not None else parameters.slack
        self._threads = threads
        self._each_level = each_level
        self._sent = 0
        height, width = self._padded.shape[:2]
        self.walk = Walk(chain, height, width, parameters.tail_level)

    def sections(self) -> Iterator[Section]:
        """Yield the sections down to the tail level."""
        payload, ideal = bytearray(), 0.0
        while not self.walk.finished:
            level = self.walk.level
            data, bits = self.part()
            payload += data
            ideal += bits
            enough = min(max(FIRST_SECTION, 2 * self._sent), LARGEST_SMALL_SECTION)
            if len(payload) >= enough or self.walk.finished or (self._each_level and self.walk.at_level_end):
                self._sent += len(payload)
                yield Section(bytes(payload), level - 1, ideal)
                payload, ideal = bytearray(), 0.0

    def go_on_to(self, level: int) -> None:
        """Let the indices end at a lower level than they did."""
        self.parameters = replace(self.parameters, tail_level=level)
        self.walk.last = level

    def tail(self, tiles: Sequence[int]) -> list[Section] | None:
        """Return the sections of the lossless end; None where a region is too small for bits-back.

        Args:
            tiles: sides of tiles, of which the first is taken that all regions can be started with.
        """
        for tile in tiles:
            found = self._tail(tile)
            if found is not None:
                self.parameters = replace(self.parameters, tile=tile)
                return found
        return None

    def psnr_db(self) -> float:
        """Return the PSNR of the ``mean`` reconstruction of everything so far, in decibels."""
        height, width = self._pixels.shape[:2]
        return psnr_db(self._pixels, reconstruct(self.walk, MEAN)[:height, :width])

    def _tail(self, tile: int) -> list[Section] | None:
        height, width = self._pixels.shape[:2]
        tail = Tail(self.walk, (width, height), self._lattice, tile, self.parameters.block_pixels)
        sections = []
        for number, rect in enumerate(tail.regions):
            region = self._pixels[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
            payload = tail.encode(number, np.ascontiguousarray(region))
            if payload is None:
                return None
            sections.append(Section(payload, -1, 0.0))
        return sections

    def part(self) -> tuple[bytes, float]:
        """Encode the next part and walk on; return its bytes and the KL of what it sends, in bits."""
        walk = self.walk
        state = walk.patch()
        part = encode_part(self._code, state.law, self._target(state.law), walk.part(), self._slack, self._threads)
        walk.put(part.order, part.labels, part.law)
        return part.data, part.ideal_bits

    def _target(self, law: StepLaw) -> NDArray[np.float64]:
        """Return the mean of q(z_s | z_t, x_0) of the patch in progress, in units of latents, flat."""
        patch = self.walk.at
        y_0 = self._chain.coefficients(self._padded[patch.pixels(self._chain.transform.block)])
        return law.posterior_mean(self.walk.latents[patch.at], y_0).reshape(-1)


def padded_pixels(pixels: Pixels) -> Pixels:
    """Return a picture [H, W, 3] with its last row and column repeated up to multiples of eight."""
    return np.ascontiguousarray(pad_to_multiple(pixels.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0))
