"""Encodes a picture into the messages and tiles of a progressive file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.latents import GreyChain
from ddpm_codec.codecs.pixel_code import PixelCode
from ddpm_codec.codecs.progressive.ending import TileEnd, pixel_checksum
from ddpm_codec.codecs.progressive.message import encode_message
from ddpm_codec.codecs.progressive.parameters import FIRST_SECTION, LARGEST_SMALL_SECTION, ProgressiveParameters
from ddpm_codec.codecs.progressive.reconstruction import MEAN, Reconstruction
from ddpm_codec.codecs.progressive.steps import ProgressiveChain, StepLaw
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.coding.bits_back import pad_to_multiple
from ddpm_codec.coding.channel_simulation import ChannelCode, TrellisCode
from ddpm_codec.workers import Workers

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Message:
    """An encoded message.

    Attributes:
        data: its bytes.
        level: level that its step leads to.
        ends_level: whether the level is complete with it.
        ideal_bits: KL of its contents.
    """

    data: bytes
    level: int
    ends_level: bool
    ideal_bits: float


@dataclass(frozen=True)
class Section:
    """An encoded section.

    Attributes:
        payload: its bytes.
        level: level that this section leads to; -1 in the lossless end.
        ideal_bits: KL of its contents; 0 in the lossless end.
        messages: what it holds; none in the lossless end.
    """

    payload: bytes
    level: int
    ideal_bits: float
    messages: tuple[Message, ...] = ()

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Self:
        """Return the section of some messages, at least one."""
        payload = b"".join(message.data for message in messages)
        return cls(payload, messages[-1].level, sum(message.ideal_bits for message in messages), tuple(messages))


class ProgressiveEncoder:
    """Encodes one picture.

    Args:
        chain: the chain.
        pixel_code: p(x_0 | z_0).
        parameters: coding parameters of the file.
        pixels: the picture, [H, W, 3].
        code: the channel code; None for a trellis with the register of the parameters.
        slack: bits spent per bit of KL; None for that of the parameters.
        workers: search and encode side by side; None: in the calling thread.

    Attributes:
        walk: state of a decoder that has received everything so far.
        ending: the tiles of the picture.
    """

    def __init__(
        self,
        chain: GreyChain,
        pixel_code: PixelCode,
        parameters: ProgressiveParameters,
        pixels: Pixels,
        *,
        code: ChannelCode | None = None,
        slack: float | None = None,
        workers: Workers | None = None,
    ) -> None:
        self._chain, self._pixels = ProgressiveChain(chain), pixels
        self._padded = padded_pixels(pixels)
        self._code = code or TrellisCode(parameters.register_bits)
        self._slack = slack if slack is not None else parameters.slack
        self._workers = workers
        height, width = self._padded.shape[:2]
        self.walk = Walk(self._chain, height, width, 0)
        size = pixels.shape[1], pixels.shape[0]
        self.ending = TileEnd(self._chain, pixel_code, size, parameters.tile, workers)
        self._reconstruction = Reconstruction(pixel_code, self.ending)

    def messages(self) -> Iterator[Message]:
        """Yield the messages down to level 0."""
        while not self.walk.finished:
            yield self.message()

    def message(self) -> Message:
        """Encode the next message and advance."""
        walk, threads = self.walk, 1 if self._workers is None else self._workers.count
        level, law = walk.level - 1, walk.patch().law
        coded = encode_message(self._code, law, self._target(law), walk.message(), self._slack, threads)
        walk.put(coded.order, coded.labels, coded.law)
        return Message(coded.data, level, walk.at_level_end, coded.ideal_bits)

    def tiles(self) -> list[Section]:
        """Return the sections of the tiles, once all messages have been sent."""
        found = enumerate(self.streams())
        return [Section(pixel_checksum(self.ending.view(self._pixels, n)) + stream, -1, 0.0) for n, stream in found]

    def streams(self) -> list[bytes]:
        """Return the streams of the tiles alone, once all messages have been sent."""
        return self.ending.encode(self.walk.latents, self._pixels)

    def mean(self) -> Pixels:
        """Return the ``mean`` reconstruction so far, [H, W, 3]."""
        return self._reconstruction.picture(self.walk, MEAN)

    def _target(self, law: StepLaw) -> NDArray[np.float64]:
        """Return the mean of q(z_s | z_t, x_0) of the patch in progress, in units of latents, flat."""
        patch = self.walk.at
        y_0 = self._chain.coefficients(self._padded[patch.pixels(self._chain.transform.block)])
        return law.posterior_mean(self.walk.latents[patch.at], y_0).reshape(-1)


def padded_pixels(pixels: Pixels) -> Pixels:
    """Pad a picture [H, W, 3] to multiples of 8 by repeating its last row and column."""
    return np.ascontiguousarray(pad_to_multiple(pixels.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0))


def cut_sections(messages: Iterable[Message], *, each_level: bool) -> Iterator[Section]:
    """Join messages into sections, as they come.

    Args:
        messages: the messages of a file, from the first.
        each_level: end a section at every level, however short it is.
    """
    sent, size, gathered = 0, 0, list[Message]()
    for message in messages:
        gathered.append(message)
        size += len(message.data)
        enough = min(max(FIRST_SECTION, 2 * sent), LARGEST_SMALL_SECTION)
        if size >= enough or (each_level and message.ends_level):
            yield Section.of(gathered)
            sent, size, gathered = sent + size, 0, []
    if gathered and size:
        yield Section.of(gathered)
