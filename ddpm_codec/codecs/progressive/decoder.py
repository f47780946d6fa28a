"""Decodes the sections of a progressive file into a picture."""

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import decode_array
from ddpm_codec.codecs.latents import GreyChain
from ddpm_codec.codecs.progressive.message import decode_message
from ddpm_codec.codecs.progressive.parameters import ProgressiveParameters, read_parameters
from ddpm_codec.codecs.progressive.reconstruction import reconstruct
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.codecs.progressive.tail import Tail
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.coding.bits_back import PADDING
from ddpm_codec.coding.channel_simulation import ChannelCode, TrellisCode
from ddpm_codec.container.layout import Head
from ddpm_codec.errors import FormatError
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.varint import Reader

Pixels = NDArray[np.uint8]


class SectionDecoder:
    """Decodes one picture, section by section.

    Args:
        chain: the chain.
        parameters: coding parameters of the file.
        size: (width, height) of the picture.
        code: the channel code; None for a trellis with the register of the parameters.

    Attributes:
        walk: the current state.
    """

    def __init__(
        self,
        chain: GreyChain,
        parameters: ProgressiveParameters,
        size: tuple[int, int],
        *,
        code: ChannelCode | None = None,
    ) -> None:
        width, height = size
        self._size, self._parameters = size, parameters
        self._code = code or TrellisCode(parameters.register_bits)
        self.walk = Walk(
            ProgressiveChain(chain), height + -height % PADDING, width + -width % PADDING, parameters.tail_level
        )
        self._tail: Tail | None = None
        self._done: list[Pixels] = []

    @property
    def lossless(self) -> bool:
        """Whether the picture is complete."""
        return self._tail is not None and len(self._done) == len(self._tail.regions)

    @property
    def level(self) -> int:
        """Level at which the latents of the whole picture are known; K + 1: none yet, -1: the picture itself."""
        return -1 if self.lossless else self.walk.level

    def feed(self, payload: bytes) -> None:
        """Decode the next section.

        Raises:
            FormatError: it is damaged, or the picture is already complete.
        """
        reader = Reader(payload)
        if self.walk.finished:
            self._feed_tail(reader)
            return
        while reader.left and not self.walk.finished:
            state = self.walk.patch()
            self.walk.put(*decode_message(self._code, state.law, self.walk.message(), reader))
        if reader.left or not payload:
            raise FormatError("a section has the wrong length")

    def picture(self, how: str) -> Pixels:
        """Reconstruct the picture from the sections so far, [H, W, 3].

        Args:
            how: see :func:`~ddpm_codec.codecs.progressive.reconstruction.reconstruct`; ignored once the picture is
                complete.

        Raises:
            InputError: unknown reconstruction.
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
            self._tail = Tail(self.walk, self._size, self._parameters.tile, self._parameters.block_pixels)
        if self.lossless:
            raise FormatError("it has extra sections after the picture is complete")
        self._done.append(self._tail.decode(len(self._done), reader))


class PictureDecoder:
    """Decodes a progressive file section by section, including its alpha plane.

    Args:
        head: head of the file.
        info: its picture, without pixels.
        model: the model it was coded with; None to look for it among the shipped models.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        label: what messages call the file.

    Attributes:
        info: see above.
        parameters: coding parameters.
        session: the model.
        used: number of sections decoded, not counting the alpha plane.

    Raises:
        EnvironmentMismatchError: coded in floating point in a different environment.
        FormatError: the coding parameters are damaged.
        ModelError: the model is not available.
    """

    def __init__(
        self,
        head: Head,
        info: PictureInfo,
        *,
        model: ModelName | Model | None = None,
        device: str = "auto",
        label: str = "<bytes>",
    ) -> None:
        self.info, self._label = info, label
        try:
            self.parameters = read_parameters(head.parameters)
        except FormatError as error:
            raise FormatError(f"{label}: {error}") from None
        identity, recorded = head.model_id.hex(), dict(head.fingerprint)
        self.session = CodingSession.for_decoding(identity, recorded, self.parameters.steps, device, model, label)
        self._network_before = self.session.network_seconds
        self._decoder = SectionDecoder(self.session.chain, self.parameters, info.size)
        self._alpha_bytes: bytes | None = None
        self._alpha: Pixels | None = None
        self.used = 0

    @property
    def lossless(self) -> bool:
        """Whether the picture is complete."""
        return self._decoder.lossless

    @property
    def level(self) -> int:
        """Level at which the latents of the whole picture are known; K + 1: none yet, -1: the picture itself."""
        return self._decoder.level

    @property
    def network_seconds(self) -> float:
        """Time spent in the network."""
        return self.session.network_seconds - self._network_before

    @property
    def at_level_end(self) -> bool:
        """Whether no step beyond :attr:`level` has begun."""
        return self._decoder.walk.at_level_end

    def feed(self, payload: bytes) -> None:
        """Decode the next section of the file; the alpha plane, if any, comes first.

        Raises:
            FormatError: the section cannot be decoded.
        """
        has_alpha = self.info.mode == "RGBA"
        if has_alpha and self._alpha_bytes is None:
            self._alpha_bytes = payload
            return
        try:
            with self.session.environment():
                self._decoder.feed(payload)
        except FormatError as error:
            number = self.used + has_alpha
            raise FormatError(f"{self._label}: section {number} cannot be decoded: {error}") from error
        self.used += 1

    def picture(self, reconstruction: str) -> Picture:
        """Reconstruct the picture from the sections so far.

        Args:
            reconstruction: see :func:`~ddpm_codec.codecs.progressive.reconstruction.reconstruct`.

        Raises:
            FormatError: the alpha plane cannot be decoded.
            InputError: unknown reconstruction.
        """
        try:
            with self.session.environment():
                pixels = self._decoder.picture(reconstruction)
            if self._alpha_bytes is not None:
                if self._alpha is None:
                    self._alpha = decode_array(self._alpha_bytes, (self.info.size[1], self.info.size[0]))
                pixels = np.dstack([pixels, self._alpha])
        except FormatError as error:
            raise FormatError(f"{self._label}: {error}") from error
        return Picture(self.info, np.ascontiguousarray(pixels).tobytes())
