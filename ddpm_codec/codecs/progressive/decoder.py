"""The sections of a progressive file to a picture, as far as they go."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.lattice import DiffusionLattice
from ddpm_codec.codecs.progressive.parameters import ProgressiveParameters
from ddpm_codec.codecs.progressive.part import decode_part
from ddpm_codec.codecs.progressive.reconstruction import reconstruct
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.codecs.progressive.tail import Tail
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.coding.bits_back import PADDING
from ddpm_codec.coding.channel_simulation import ChannelCode, TrellisCode
from ddpm_codec.errors import FormatError
from ddpm_codec.varint import Reader

Pixels = NDArray[np.uint8]


class ProgressiveDecoder:
    """Decodes one picture, section by section.

    Args:
        chain: the chain.
        lattice: opens the lattice model of the same chain, for a tail level above 0.
        parameters: of the file.
        size: (width, height) of the picture.
        code: the channel code; None: a trellis of the parameters' register.

    Attributes:
        walk: where it stands.
    """

    def __init__(
        self,
        chain: ProgressiveChain,
        lattice: Callable[[], DiffusionLattice],
        parameters: ProgressiveParameters,
        size: tuple[int, int],
        *,
        code: ChannelCode | None = None,
    ) -> None:
        width, height = size
        self._size, self._parameters, self._lattice = size, parameters, lattice
        self._code = code or TrellisCode(parameters.register_bits)
        self.walk = Walk(chain, height + -height % PADDING, width + -width % PADDING, parameters.tail_level)
        self._tail: Tail | None = None
        self._done: list[Pixels] = []

    @property
    def lossless(self) -> bool:
        """Whether the picture is complete."""
        return self._tail is not None and len(self._done) == len(self._tail.regions)

    @property
    def level(self) -> int:
        """Level of the latents that are known of the whole picture: K + 1 is nothing, -1 the picture itself."""
        return -1 if self.lossless else self.walk.level

    def feed(self, payload: bytes) -> None:
        """Take the next section.

        Raises:
            FormatError: it is damaged, or one too many.
        """
        reader = Reader(payload)
        if self.walk.finished:
            self._feed_tail(reader)
            return
        while reader.left and not self.walk.finished:
            state = self.walk.patch()
            self.walk.put(*decode_part(self._code, state.law, self.walk.part(), reader))
        if reader.left or not payload:
            raise FormatError("a section does not end where it should")

    def picture(self, how: str) -> Pixels:
        """Return the picture as far as it is known, [H, W, 3].

        Args:
            how: see :func:`~ddpm_codec.codecs.progressive.reconstruction.reconstruct`; of no account once the picture is
                complete.

        Raises:
            InputError: there is no such reconstruction.
        """
        width, height = self._size
        if self._tail is None:
            return reconstruct(self.walk, how)[:height, :width]
        canvas = np.empty((height, width, 3), np.uint8) if self.lossless else reconstruct(self.walk, how)
        for rect, pixels in zip(self._tail.regions, self._done, strict=False):
            canvas[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width] = pixels
        return canvas[:height, :width]

    def _feed_tail(self, reader: Reader) -> None:
        if self._tail is None:
            self._tail = Tail(
                self.walk, self._size, self._lattice, self._parameters.tile, self._parameters.block_pixels
            )
        if self.lossless:
            raise FormatError("it has more sections than its picture")
        self._done.append(self._tail.decode(len(self._done), reader))
