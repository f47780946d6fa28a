"""Encodes a picture into a progressive file, within limits of rate and quality."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import encode_array
from ddpm_codec.codecs.latents import GreyChain
from ddpm_codec.codecs.progressive.message import encode_message
from ddpm_codec.codecs.progressive.parameters import (
    BRIDGED_PIXELS,
    COMPARED_PIXELS,
    FIRST_SECTION,
    LARGEST_SMALL_SECTION,
    TAIL_TILES,
    ProgressiveOptions,
    ProgressiveParameters,
    choose_parameters,
)
from ddpm_codec.codecs.progressive.reconstruction import MEAN, reconstruct
from ddpm_codec.codecs.progressive.steps import ProgressiveChain, StepLaw
from ddpm_codec.codecs.progressive.tail import Tail
from ddpm_codec.codecs.progressive.walk import Walk
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.coding.bits_back import pad_to_multiple
from ddpm_codec.coding.channel_simulation import ChannelCode, TrellisCode
from ddpm_codec.container.layout import CODEC_PROGRESSIVE, SHORT_ID_BYTES, Head
from ddpm_codec.container.section_writer import ProgressiveFile, preamble_bytes, section_bytes, write_sections
from ddpm_codec.distortion import psnr_db
from ddpm_codec.errors import InputError
from ddpm_codec.picture import Picture

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Section:
    """An encoded section.

    Attributes:
        payload: its bytes.
        level: level that this section leads to; -1 for a tail section.
        ideal_bits: KL of its contents; 0 for a tail section.
    """

    payload: bytes
    level: int
    ideal_bits: float


class ProgressiveEncoder:
    """Encodes one picture.

    Args:
        chain: the chain.
        parameters: coding parameters of the file.
        pixels: the picture, [H, W, 3].
        code: the channel code; None for a trellis with the register of the parameters.
        slack: bits spent per bit of KL; None for that of the parameters.
        threads: number of search threads.
        each_level: end a section at every level, however short it is.

    Attributes:
        walk: state of a decoder that has received everything so far.
        parameters: coding parameters; the tail level and tile may change, see :meth:`go_on_to` and :meth:`tail`.
    """

    def __init__(
        self,
        chain: GreyChain,
        parameters: ProgressiveParameters,
        pixels: Pixels,
        *,
        code: ChannelCode | None = None,
        slack: float | None = None,
        threads: int = 1,
        each_level: bool = False,
    ) -> None:
        self._chain, self.parameters, self._pixels = ProgressiveChain(chain), parameters, pixels
        self._padded = padded_pixels(pixels)
        self._code = code or TrellisCode(parameters.register_bits)
        self._slack = slack if slack is not None else parameters.slack
        self._threads = threads
        self._each_level = each_level
        self._sent = 0
        height, width = self._padded.shape[:2]
        self.walk = Walk(self._chain, height, width, parameters.tail_level)

    def sections(self) -> Iterator[Section]:
        """Yield the sections down to the tail level."""
        payload, ideal = bytearray(), 0.0
        while not self.walk.finished:
            level = self.walk.level
            data, bits = self.message()
            payload += data
            ideal += bits
            enough = min(max(FIRST_SECTION, 2 * self._sent), LARGEST_SMALL_SECTION)
            if len(payload) >= enough or self.walk.finished or (self._each_level and self.walk.at_level_end):
                self._sent += len(payload)
                yield Section(bytes(payload), level - 1, ideal)
                payload, ideal = bytearray(), 0.0

    def go_on_to(self, level: int) -> None:
        """Lower the level at which the indices end."""
        self.parameters = replace(self.parameters, tail_level=level)
        self.walk.last = level

    def tail(self, tiles: Sequence[int]) -> list[Section] | None:
        """Encode the tail sections; return None if a region is too small for bits-back.

        Args:
            tiles: candidate tile sides; the first that works for all regions is used.
        """
        for tile in tiles:
            found = self._tail(tile)
            if found is not None:
                self.parameters = replace(self.parameters, tile=tile)
                return found
        return None

    def psnr_db(self) -> float:
        """Return the PSNR of the ``mean`` reconstruction so far, in dB."""
        height, width = self._pixels.shape[:2]
        return psnr_db(self._pixels, reconstruct(self.walk, MEAN)[:height, :width])

    def _tail(self, tile: int) -> list[Section] | None:
        height, width = self._pixels.shape[:2]
        tail = Tail(self.walk, (width, height), tile, self.parameters.block_pixels)
        sections = []
        for number, rect in enumerate(tail.regions):
            region = self._pixels[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width]
            payload = tail.encode(number, np.ascontiguousarray(region))
            if payload is None:
                return None
            sections.append(Section(payload, -1, 0.0))
        return sections

    def message(self) -> tuple[bytes, float]:
        """Encode the next message and advance; return its bytes and its KL in bits."""
        walk = self.walk
        law = walk.patch().law
        coded = encode_message(self._code, law, self._target(law), walk.message(), self._slack, self._threads)
        walk.put(coded.order, coded.labels, coded.law)
        return coded.data, coded.ideal_bits

    def _target(self, law: StepLaw) -> NDArray[np.float64]:
        """Return the mean of q(z_s | z_t, x_0) of the patch in progress, in units of latents, flat."""
        patch = self.walk.at
        y_0 = self._chain.coefficients(self._padded[patch.pixels(self._chain.transform.block)])
        return law.posterior_mean(self.walk.latents[patch.at], y_0).reshape(-1)


def padded_pixels(pixels: Pixels) -> Pixels:
    """Pad a picture [H, W, 3] to multiples of 8 by repeating its last row and column."""
    return np.ascontiguousarray(pad_to_multiple(pixels.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0))


@dataclass(frozen=True)
class EncodedPicture:
    """An encoded picture.

    Attributes:
        file: the progressive file.
        parameters: coding parameters.
        sections: index and tail sections, without the alpha plane.
        alpha_bytes: size of the alpha plane.
        lossless: whether the file holds the whole picture.
    """

    file: ProgressiveFile
    parameters: ProgressiveParameters
    sections: tuple[Section, ...]
    alpha_bytes: int
    lossless: bool


def encode_picture(
    session: CodingSession, picture: Picture, options: ProgressiveOptions, *, file_name: str = ""
) -> EncodedPicture:
    """Encode a picture, RGB or RGBA, into a progressive file.

    Args:
        session: the model with its chain.
        picture: the picture.
        options: limits and other encoder options.
        file_name: name of the output file; the name derived from it is not stored.

    Raises:
        InputError: an option does not fit the chain, or the bit limit is too low for a first picture.
    """
    info, array = picture.info, picture.array()
    chosen = choose_parameters(session.chain.sigmas, info.pixel_count, options)
    alpha = encode_array(np.ascontiguousarray(array[:, :, 3])) if picture.mode == "RGBA" else None
    encoder = ProgressiveEncoder(
        session.chain,
        chosen,
        np.ascontiguousarray(array[:, :, :3]),
        threads=torch.get_num_threads(),
        each_level=info.pixel_count >= BRIDGED_PIXELS or options.min_psnr_db is not None,
    )
    before = preamble_bytes(_head(session, chosen), info, file_name) + (0 if alpha is None else section_bytes(alpha))
    # All sections are encoded before the file is assembled, because the head describes the tail.
    found = _Sections(encoder, options, info.pixel_count, before)
    found.choose(picture.name)
    payloads = ([] if alpha is None else [alpha]) + [section.payload for section in found.sections]
    return EncodedPicture(
        write_sections(_head(session, found.parameters), info, payloads, file_name=file_name),
        found.parameters,
        tuple(found.sections),
        0 if alpha is None else len(alpha),
        found.lossless,
    )


def _head(session: CodingSession, parameters: ProgressiveParameters) -> Head:
    """Return the head of a file. A shipped model is found by its identity, so only others are named."""
    name = "" if session.ships else session.model.name
    identity = bytes.fromhex(session.model_id)[:SHORT_ID_BYTES]
    return Head(CODEC_PROGRESSIVE, name, identity, session.fingerprint(), parameters.values())


class _Stop(Enum):
    """Why the indices end."""

    TAIL = "the tail level is reached"
    RATE = "the next section exceeds the bit limit"
    QUALITY = "the picture has reached the PSNR"


class _Sections:
    """Chooses the sections of a file within the limits, and the shorter of two lossless tails.

    Args:
        encoder: a new encoder.
        options: the limits.
        pixels: number of pixels of the picture.
        before: bytes before the first section.

    Attributes:
        sections: the chosen sections.
        parameters: coding parameters of the file.
        lossless: whether the sections hold the whole picture.
    """

    def __init__(self, encoder: ProgressiveEncoder, options: ProgressiveOptions, pixels: int, before: int) -> None:
        self._encoder, self._options, self._pixels, self._before = encoder, options, pixels, before
        self._limit = math.inf if options.max_bpp is None else options.max_bpp * pixels / 8 - before
        self.sections: list[Section] = []
        self.parameters = encoder.parameters
        self.lossless = False

    def choose(self, name: str) -> None:
        """Choose the sections.

        Raises:
            InputError: the bit limit is too low for a first picture.
        """
        encoder, options = self._encoder, self._options
        stop, needed = self._send(self.sections)
        if not self.sections:
            bpp = 8 * (self._before + needed) / self._pixels
            raise InputError(f"{name}: the first picture takes {bpp:.3f} bits/pixel")
        if stop is not _Stop.TAIL:
            return
        tail = encoder.tail(TAIL_TILES if options.tile is None else (options.tile,))
        self.parameters = encoder.parameters
        fits = tail is not None and _bytes_of(self.sections + tail) <= self._limit
        ends = fits and options.min_psnr_db is None
        if self.parameters.tail_level and not (ends and self._pixels > COMPARED_PIXELS):
            tail = self._by_indices(tail if fits else None)
        if tail is not None and _bytes_of(self.sections + tail) <= self._limit:
            self.sections += tail
            self.lossless = True

    def _by_indices(self, tail: list[Section] | None) -> list[Section] | None:
        """Continue with indices below the tail level; keep the better of the two files and return its tail.

        If both files are lossless and within the limit, that is the smaller one; if only one is, that one; otherwise
        the indices, as far as the limits allow.

        Args:
            tail: tail of the file so far, if within the limit.
        """
        longer = list(self.sections)
        self._encoder.go_on_to(0)
        stop, _ = self._send(longer)
        direct = self._encoder.tail(TAIL_TILES) if stop is _Stop.TAIL else None
        if stop is _Stop.QUALITY:
            tail = None
        if tail is not None and (direct is None or _bytes_of(self.sections + tail) <= _bytes_of(longer + direct)):
            return tail
        self.sections, self.parameters = longer, self._encoder.parameters
        return direct

    def _send(self, found: list[Section]) -> tuple[_Stop, int]:
        """Append sections down to the tail level or until a limit is reached; return the reason and their bytes."""
        goal, size = self._options.min_psnr_db, _bytes_of(found)
        for section in self._encoder.sections():
            size += section_bytes(section.payload)
            if size > self._limit:
                return _Stop.RATE, size
            found.append(section)
            # Between levels this would cost a network evaluation per section.
            if goal is not None and self._encoder.walk.at_level_end and self._encoder.psnr_db() >= goal:
                return _Stop.QUALITY, size
        return _Stop.TAIL, size


def _bytes_of(sections: Sequence[Section]) -> int:
    return sum(section_bytes(section.payload) for section in sections)
