"""Decodes the sections of a progressive file into a picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import decode_array
from ddpm_codec.codecs.latents import GreyChain
from ddpm_codec.codecs.pixel_code import PixelCode
from ddpm_codec.codecs.progressive.ending import TileEnd, checksum_bytes, pixel_checksum
from ddpm_codec.codecs.progressive.message import decode_message
from ddpm_codec.codecs.progressive.parameters import ProgressiveParameters, read_parameters
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.progressive.reconstruction import Reconstruction
from ddpm_codec.codecs.progressive.steps import ProgressiveChain
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.coding.bits_back import PADDING
from ddpm_codec.coding.channel_simulation import ChannelCode, TrellisCode
from ddpm_codec.container.layout import Head
from ddpm_codec.errors import FormatError
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture, PictureInfo
from ddpm_codec.varint import Reader
from ddpm_codec.workers import Workers

Pixels = NDArray[np.uint8]


class SectionDecoder:
    """Decodes one picture, section by section.

    Args:
        chain: the chain.
        pixel_code: p(x_0 | z_0).
        parameters: coding parameters of the file.
        size: (width, height) of the picture.
        code: the channel code; None for a trellis with the register of the parameters.
        workers: decode tiles side by side; None: one after the other, in the calling thread.

    Attributes:
        walk: the current state.
    """

    def __init__(
        self,
        chain: GreyChain,
        pixel_code: PixelCode,
        parameters: ProgressiveParameters,
        size: tuple[int, int],
        *,
        code: ChannelCode | None = None,
        workers: Workers | None = None,
    ) -> None:
        width, height = size
        self._parameters = parameters
        self._code = code or TrellisCode(parameters.register_bits)
        progressive = ProgressiveChain(chain)
        self.walk = Walk(progressive, height + -height % PADDING, width + -width % PADDING, parameters.last)
        self._ending = TileEnd(progressive, pixel_code, size, parameters.tile, workers)
        self._reconstruction = Reconstruction(pixel_code, self._ending)
        self._tiles: dict[int, Pixels] = {}
        self._whole: Pixels | None = None
        self._next_tile = 0

    @property
    def lossless(self) -> bool:
        """Whether the picture is complete."""
        return self._whole is not None or len(self._tiles) == len(self._ending.tiles)

    @property
    def level(self) -> int:
        """Level at which the latents of the whole picture are known; K + 1: none yet, -1: the picture itself."""
        return -1 if self.lossless else self.walk.level

    @property
    def takes_tiles(self) -> bool:
        """Whether all messages are known and tiles follow: sections that do not depend on each other."""
        return self.walk.finished and not self._parameters.end

    def feed(self, payload: bytes) -> None:
        """Decode the next section.

        Raises:
            FormatError: it is damaged, or the picture is already complete.
        """
        if self.takes_tiles:
            for error in self.feed_tiles([payload]).values():
                raise error
            return
        if self.walk.finished:
            self._feed_whole(payload)
            return
        reader = Reader(payload)
        while reader.left and not self.walk.finished:
            state = self.walk.patch()
            self.walk.put(*decode_message(self._code, state.law, self.walk.message(), reader))
        if reader.left or not payload:
            raise FormatError("a section has the wrong length")

    def feed_tiles(self, payloads: Sequence[bytes | None]) -> dict[int, FormatError]:
        """Decode the sections of the next tiles, and return what is wrong with those that are damaged, by place.

        Args:
            payloads: the sections; None is one that is lost.
        """
        first, self._next_tile = self._next_tile, self._next_tile + len(payloads)
        tiles, checksums, streams = self._ending.tiles, dict[int, bytes](), dict[int, bytes]()
        errors: dict[int, FormatError] = {}
        for number, payload in enumerate(payloads, first):
            if payload is None:
                continue
            if number >= len(tiles):
                errors[number] = FormatError("it has extra sections after the picture is complete")
            else:
                count = checksum_bytes(tiles[number].pixels)
                checksums[number], streams[number] = payload[:count], payload[count:]
        for number, found in self._ending.decode(self.walk.latents, streams).items():
            if isinstance(found, FormatError):
                errors[number] = found
            elif pixel_checksum(found) != checksums[number]:
                errors[number] = FormatError("its pixels do not match their checksum")
            else:
                self._tiles[number] = found
        return {number - first: error for number, error in errors.items()}

    def picture(self, how: str) -> Pixels:
        """Reconstruct the picture from the sections so far, [H, W, 3].

        Args:
            how: see :mod:`~ddpm_codec.codecs.progressive.reconstruction`; ignored once the picture is complete.

        Raises:
            InputError: unknown reconstruction.
        """
        if self._whole is not None:
            return self._whole
        width, height = self._ending.size
        lossless = len(self._tiles) == len(self._ending.tiles)
        canvas = np.empty((height, width, 3), np.uint8) if lossless else self._reconstruction.picture(self.walk, how)
        for number, pixels in self._tiles.items():
            self._ending.view(canvas, number)[:] = pixels
        return canvas

    def _feed_whole(self, payload: bytes) -> None:
        if self._whole is not None:
            raise FormatError("it has extra sections after the picture is complete")
        width, height = self._ending.size
        self._whole = decode_array(payload, (height, width, 3))


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
        steps, crossing = self.parameters.steps, self.parameters.crossing
        self.session = CodingSession.for_decoding(identity, recorded, steps, device, model, label, crossing=crossing)
        self._network_before = self.session.network_seconds
        self._decoder = SectionDecoder(
            self.session.chain,
            pixel_code(self.session),
            self.parameters,
            info.size,
            workers=self.session.workers(),
        )
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

    @property
    def takes_tiles(self) -> bool:
        """Whether tiles follow: sections that do not depend on each other."""
        return self._decoder.takes_tiles

    def feed(self, payload: bytes) -> None:
        """Decode the next section of the file; the alpha plane, if any, comes first.

        Raises:
            FormatError: the section cannot be decoded.
        """
        if self.info.mode == "RGBA" and self._alpha_bytes is None:
            self._alpha_bytes = payload
            return
        try:
            with self.session.environment():
                self._decoder.feed(payload)
        except FormatError as error:
            raise FormatError(self._damaged(self.used, error)) from error
        self.used += 1

    def feed_tiles(self, payloads: Sequence[bytes | None]) -> list[str]:
        """Decode the next sections of the file, all of them tiles, side by side where the network allows it.

        Args:
            payloads: the sections; None is one that is lost.

        Returns:
            A line for each that cannot be decoded; the others are in the picture.
        """
        with self.session.environment():
            errors = self._decoder.feed_tiles(payloads)
        lines = [self._damaged(self.used + place, error) for place, error in sorted(errors.items())]
        self.used += len(payloads)
        return lines

    def _damaged(self, number: int, error: FormatError) -> str:
        return f"{self._label}: section {number + (self.info.mode == 'RGBA')} cannot be decoded: {error}"

    def picture(self, reconstruction: str) -> Picture:
        """Reconstruct the picture from the sections so far.

        Args:
            reconstruction: see :mod:`~ddpm_codec.codecs.progressive.reconstruction`.

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
