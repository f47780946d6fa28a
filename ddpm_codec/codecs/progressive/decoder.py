"""The sections of a progressive file to a picture, as far as they go."""

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
from ddpm_codec.codecs.session import CodingSession
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
        parameters: of the file.
        size: (width, height) of the picture.
        code: the channel code; None: a trellis of the parameters' register.

    Attributes:
        walk: where it stands.
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
            self.walk.put(*decode_message(self._code, state.law, self.walk.message(), reader))
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
            self._tail = Tail(self.walk, self._size, self._parameters.tile, self._parameters.block_pixels)
        if self.lossless:
            raise FormatError("it has more sections than its picture")
        self._done.append(self._tail.decode(len(self._done), reader))


class PictureDecoder:
    """A progressive file with its model at hand, decoded section by section.

    Args:
        head: of the file.
        info: its picture without the pixels.
        model: the model that it was coded with, where the caller says which it is.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        label: what messages call the file.

    Attributes:
        info: see above.
        parameters: how it is coded.
        session: its model.
        used: sections taken so far, that of the alpha plane not counted.

    Raises:
        EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
        FormatError: its parameters are damaged.
        ModelError: the model that it was coded with is not here.
    """

    def __init__(
        self,
        head: Head,
        info: PictureInfo,
        *,
        model: ModelName | None = None,
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
        """Level of the latents that are known of the whole picture: K + 1 is nothing, -1 the picture itself."""
        return self._decoder.level

    @property
    def network_seconds(self) -> float:
        """Time spent in the network."""
        return self.session.network_seconds - self._network_before

    @property
    def at_level_end(self) -> bool:
        """Whether nothing is known beyond :attr:`level`."""
        return self._decoder.walk.at_level_end

    def feed(self, payload: bytes) -> None:
        """Take the next section of the file: that of the alpha plane first, where there is one.

        Raises:
            FormatError: it cannot be decoded.
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
        """Return the picture as far as it is known.

        Args:
            reconstruction: see :func:`~ddpm_codec.codecs.progressive.reconstruction.reconstruct`.

        Raises:
            FormatError: its alpha plane cannot be decoded.
            InputError: there is no such reconstruction.
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
