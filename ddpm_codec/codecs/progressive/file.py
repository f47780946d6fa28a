"""Encodes a picture into a progressive file, within limits of rate and quality."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import encode_array
from ddpm_codec.codecs.progressive.chains import choose_sessions, session_at
from ddpm_codec.codecs.progressive.encoder import Message, ProgressiveEncoder, Section, cut_sections
from ddpm_codec.codecs.progressive.parameters import (
    FALLBACK_SHARE,
    SMALL_PIXELS,
    ProgressiveOptions,
    ProgressiveParameters,
    choose_parameters,
)
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.container.layout import CODEC_PROGRESSIVE, SHORT_ID_BYTES, Head
from ddpm_codec.container.section_writer import ProgressiveFile, preamble_bytes, section_bytes, write_sections
from ddpm_codec.distortion import psnr_db
from ddpm_codec.errors import InputError
from ddpm_codec.picture import Picture, PictureInfo

Pixels = NDArray[np.uint8]

_FRAMING = 1.1
"""More than the framing of sections adds to their bytes."""


@dataclass(frozen=True)
class EncodedPicture:
    """An encoded picture.

    Attributes:
        file: the progressive file.
        session: the model with its chain.
        parameters: coding parameters.
        sections: sections of messages and of the lossless end, without the alpha plane.
        alpha_bytes: size of the alpha plane.
        lossless: whether the file holds the whole picture.
    """

    file: ProgressiveFile
    session: CodingSession
    parameters: ProgressiveParameters
    sections: tuple[Section, ...]
    alpha_bytes: int
    lossless: bool

    @property
    def has_tiles(self) -> bool:
        """Whether some tiles are exact."""
        return not self.parameters.end and any(section.level < 0 for section in self.sections)


def encode_picture(
    model: Model, picture: Picture, options: ProgressiveOptions, *, file_name: str = ""
) -> EncodedPicture:
    """Encode a picture, RGB or RGBA, into a progressive file.

    Args:
        model: the model.
        picture: the picture.
        options: limits and other encoder options.
        file_name: name of the output file; the name derived from it is not stored.

    Raises:
        InputError: an option is out of range, or the bit limit is too low for a first picture.
        ModelError: the model has no such chain.
    """
    pixels, alpha = picture.array(), None
    if picture.mode == "RGBA":
        alpha = encode_array(np.ascontiguousarray(pixels[:, :, 3]))
    pixels = np.ascontiguousarray(pixels[:, :, :3])
    file = _File(picture.info, pixels, alpha, options, file_name)
    sessions = choose_sessions(model, pixels, options, file.before)
    found = [file.encode(session) for session in sessions]
    quality = options.min_psnr_db is not None and options.max_bpp is None
    if quality and found[0].has_tiles and len(found) == 1 and sessions[0].crossing:
        # Draws reached it here, codewords fall short. At a lower crossing that may take less than exact tiles.
        found.append(file.encode(session_at(model, sessions[0].crossing - 1, picture.info.pixel_count, options)))
    # The first may be lossless within the limit; where a quality is the limit, both reach it.
    first, last = found[0], found[-1]
    shorter = len(first.file.data) <= len(last.file.data)
    return first if (shorter and (first.lossless or quality)) or (first.lossless and not last.lossless) else last


@dataclass(frozen=True)
class _File:
    """The file of a picture, whatever its chain.

    Attributes:
        info: the picture without its pixels.
        pixels: red, green and blue, [H, W, 3].
        alpha: the alpha plane, coded; None if there is none.
        options: limits and other encoder options.
        file_name: name of the output file.
    """

    info: PictureInfo
    pixels: Pixels
    alpha: bytes | None
    options: ProgressiveOptions
    file_name: str

    def before(self, session: CodingSession) -> int:
        """Return the most bytes before the messages of a chain."""
        parameters = self._parameters(session)
        head = _head(session, replace(parameters, end=parameters.steps + 2))
        return preamble_bytes(head, self.info, self.file_name) + (
            0 if self.alpha is None else section_bytes(self.alpha)
        )

    def encode(self, session: CodingSession) -> EncodedPicture:
        """Encode the picture with a chain.

        Raises:
            InputError: the bit limit is too low for a first picture.
        """
        # All sections are encoded before the file is assembled, because the head describes the end.
        with session.environment():
            found = _Choice(session, self._parameters(session), self.pixels, self.options, self.before(session))
            found.choose(self.info.name)
        payloads = ([] if self.alpha is None else [self.alpha]) + [section.payload for section in found.sections]
        return EncodedPicture(
            write_sections(_head(session, found.parameters), self.info, payloads, file_name=self.file_name),
            session,
            found.parameters,
            tuple(found.sections),
            0 if self.alpha is None else len(self.alpha),
            found.lossless,
        )

    def _parameters(self, session: CodingSession) -> ProgressiveParameters:
        return choose_parameters(session.crossing, session.steps, self.info.pixel_count, self.options)


def _head(session: CodingSession, parameters: ProgressiveParameters) -> Head:
    """Return the head of a file. A shipped model is found by its identity, so only others are named."""
    name = "" if session.ships else session.model.name
    identity = bytes.fromhex(session.model_id)[:SHORT_ID_BYTES]
    return Head(CODEC_PROGRESSIVE, name, identity, session.fingerprint(), parameters.values())


class _Stop(Enum):
    """Why the messages end."""

    CROSSING = "level 0 is reached"
    RATE = "the next message exceeds the bit limit"
    QUALITY = "the picture has reached the PSNR"
    FALLBACK = "the fallback takes fewer bytes"


class _Fallback:
    """The other lossless file: the messages of the first levels, as far as they are cheap, and the fallback payload.

    Args:
        payload: of the whole picture.
        steps: K.

    Attributes:
        level: level at which its messages end.
    """

    def __init__(self, payload: bytes, steps: int) -> None:
        self._last = Section(payload, -1, 0.0)
        self._seen: list[Message] = []
        self._bytes = self._kept = self._kept_bytes = 0
        self._none, self.level = steps + 1, steps + 1

    def add(self, message: Message) -> None:
        """Take note of the next message."""
        self._seen.append(message)
        self._bytes += len(message.data)
        if message.ends_level and FALLBACK_SHARE * self._bytes <= len(self._last.payload):
            self._kept, self._kept_bytes, self.level = len(self._seen), self._bytes, message.level

    @property
    def is_shorter(self) -> bool:
        """Whether it takes fewer bytes than all messages so far, whatever follows them."""
        return self._kept_bytes * _FRAMING + section_bytes(self._last.payload) < self._bytes

    def sections(self, limit: float, *, each_level: bool) -> list[Section]:
        """Return its sections, without the messages where they do not fit the limit."""
        found = [*cut_sections(self._seen[: self._kept], each_level=each_level), self._last]
        if _bytes_of(found) > limit:
            self.level = self._none
            return [self._last]
        return found


class _Choice:
    """Chooses the sections of a file within the limits: messages and tiles, or a few messages and the fallback.

    Args:
        session: the model with its chain.
        parameters: coding parameters.
        pixels: the picture, [H, W, 3].
        options: the limits.
        before: bytes before the first section.

    Attributes:
        sections: the chosen sections.
        parameters: coding parameters of the file.
        lossless: whether the sections hold the whole picture.
    """

    def __init__(
        self,
        session: CodingSession,
        parameters: ProgressiveParameters,
        pixels: Pixels,
        options: ProgressiveOptions,
        before: int,
    ) -> None:
        count = pixels.shape[0] * pixels.shape[1]
        self._pixels, self._options, self._before = pixels, options, before
        self.parameters = parameters
        self._limit = math.inf if options.max_bpp is None else options.max_bpp * count / 8 - before
        self._each_level = count >= SMALL_PIXELS or options.min_psnr_db is not None
        code = pixel_code(session)
        self._encoder = ProgressiveEncoder(session.chain, code, parameters, pixels, workers=session.workers())
        self._fallback = self._other_file() if options.fallback else None
        self.sections: list[Section] = []
        self.lossless = False

    def choose(self, name: str) -> None:
        """Choose the sections.

        Raises:
            InputError: the bit limit is too low for a first picture.
        """
        stop, needed = self._send()
        # A part of the picture, where the whole would be within the limit.
        less = stop in (_Stop.RATE, _Stop.FALLBACK) or (stop is _Stop.CROSSING and not self._add_tiles())
        if self._fallback is not None:
            other = self._fallback.sections(self._limit, each_level=self._each_level)
            if less or _bytes_of(other) < _bytes_of(self.sections):
                self.sections, self.lossless = other, True
                self.parameters = replace(self.parameters, end=self._fallback.level + 1)
        if not self.sections:
            count = self._pixels.shape[0] * self._pixels.shape[1]
            raise InputError(f"{name}: the first picture takes {8 * (self._before + needed) / count:.3f} bits/pixel")

    def _send(self) -> tuple[_Stop, int]:
        """Append sections of messages down to level 0 or until a limit is reached.

        Returns:
            The reason, and the bytes that the first message needs.
        """
        goal, size, needed = self._options.min_psnr_db, 0, 0
        for section in cut_sections(self._messages(), each_level=self._each_level):
            needed = needed or section_bytes(section.messages[0].data)
            if size + section_bytes(section.payload) > self._limit:
                self.sections += _fitting(section, self._limit - size)
                return _Stop.RATE, needed
            size += section_bytes(section.payload)
            self.sections.append(section)
            if self._fallback is not None and self._fallback.is_shorter:
                return _Stop.FALLBACK, needed
            # Between levels this would cost a network evaluation per section.
            if goal is not None and self._encoder.walk.at_level_end and self._psnr_db(self._encoder.mean()) >= goal:
                return _Stop.QUALITY, needed
        return _Stop.CROSSING, needed

    def _messages(self) -> Iterator[Message]:
        for message in self._encoder.messages():
            if self._fallback is not None:
                self._fallback.add(message)
            yield message

    def _other_file(self) -> _Fallback | None:
        """Return the file that ends with the fallback, if it is within the limit."""
        payload = encode_array(self._pixels)
        return _Fallback(payload, self.parameters.steps) if section_bytes(payload) <= self._limit else None

    def _add_tiles(self) -> bool:
        """Append tiles, in order, as far as the limits allow; return whether the picture is whole or good enough."""
        tiles, goal = self._encoder.tiles(), self._options.min_psnr_db
        shown = self._encoder.mean() if goal is not None else None
        for number, section in enumerate(tiles):
            if _bytes_of(self.sections) + section_bytes(section.payload) > self._limit:
                return False
            self.sections.append(section)
            if shown is not None and goal is not None:
                view = self._encoder.ending.view
                view(shown, number)[:] = view(self._pixels, number)
                if number + 1 < len(tiles) and self._psnr_db(shown) >= goal:
                    return True
        self.lossless = True
        return True

    def _psnr_db(self, shown: Pixels) -> float:
        return psnr_db(self._pixels, shown)


def _fitting(section: Section, limit: float) -> list[Section]:
    """Return the section of those first messages that take at most ``limit`` bytes; nothing if none does."""
    pieces = (Section.of(section.messages[:count]) for count in range(len(section.messages), 0, -1))
    return [piece for piece in pieces if section_bytes(piece.payload) <= limit][:1]


def _bytes_of(sections: Sequence[Section]) -> int:
    return sum(section_bytes(section.payload) for section in sections)
