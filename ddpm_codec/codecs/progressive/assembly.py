"""One picture on its way to a progressive file: its sections, chosen under the limits, and the file around them."""

import math
from pathlib import Path

import numpy as np
import torch

from ddpm_codec.codecs.fallback import encode_array
from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder, Section
from ddpm_codec.codecs.progressive.options import (
    BRIDGED_PIXELS,
    COMPARED_PIXELS,
    TAIL_TILES,
    ProgressiveOptions,
    choose_parameters,
)
from ddpm_codec.codecs.progressive.parameters import ProgressiveParameters
from ddpm_codec.codecs.reports import ProgressiveReport
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.container.layout import CODEC_PROGRESSIVE, SHORT_ID_BYTES, Head
from ddpm_codec.container.sections import preamble_bytes, section_bytes, write_sections
from ddpm_codec.errors import InputError
from ddpm_codec.picture import Picture


def head_of(session: CodingSession, parameters: ProgressiveParameters) -> Head:
    """Return the head of a file; it names the model only where that does not ship, for the identity alone finds it then."""
    name = "" if session.ships else session.model.name
    identity = bytes.fromhex(session.model_id)[:SHORT_ID_BYTES]
    return Head(CODEC_PROGRESSIVE, name, identity, session.fingerprint(), parameters.values())


class Assembly:
    """One picture on its way to a file."""

    def __init__(self, session: CodingSession, picture: Picture, options: ProgressiveOptions) -> None:
        self._session, self._picture, self._options = session, picture, options
        self._pixels = np.ascontiguousarray(picture.array()[:, :, :3])
        self._parameters = choose_parameters(
            session.chain(), picture.info.pixel_count, options.register_bits, options.tail_level, options.tile
        )
        self._first = 0
        self._good_enough = False
        info = picture.info
        self.report = ProgressiveReport(
            file="",
            dims=info.pixel_count * info.layout.channels,
            pixels=info.pixel_count,
            model=session.model.name,
            device=session.device.type,
        )

    def write(self, path: Path, target: Path, overwrite: bool) -> None:
        """Encode and write ``path``, which will become ``target``."""
        # Everything is encoded first: what the end is like stands in the head.
        alpha = self._alpha()
        sections = self._sections(target, 0 if alpha is None else section_bytes(alpha))
        report, head = self.report, head_of(self._session, self._parameters)
        payloads = ([] if alpha is None else [alpha]) + [section.payload for section in sections]
        start, *ends = write_sections(path, head, self._picture.info, payloads, named_after=target, overwrite=overwrite)
        report.file_bytes = ends[-1]
        report.header_bytes = start + sum(section_bytes(payload) - len(payload) for payload in payloads)
        report.alpha_bytes = 0 if alpha is None else len(alpha)
        for section, end in zip(sections, ends[len(ends) - len(sections) :], strict=True):
            report.sections.append({"level": section.level, "end": end})
            report.index_ideal_bits += section.ideal_bits
            if section.level < 0:
                report.tail_bytes += len(section.payload)
            else:
                report.index_bytes += len(section.payload)
        report.tail_level = self._parameters.tail_level

    def _alpha(self) -> bytes | None:
        if self._picture.mode != "RGBA":
            return None
        return encode_array(np.ascontiguousarray(self._picture.array()[:, :, 3]))

    def _sections(self, target: Path, before: int) -> list[Section]:
        """Return the sections, and settle parameters and losslessness.

        Raises:
            InputError: the bits allowed are too few for a first picture.
        """
        options, pixels = self._options, self._picture.info.pixel_count
        encoder = ProgressiveEncoder(
            self._session.chain(),
            self._session.lattice,
            self._parameters,
            self._pixels,
            threads=torch.get_num_threads(),
            each_level=pixels >= BRIDGED_PIXELS or options.min_psnr_db is not None,
        )
        taken = before + preamble_bytes(head_of(self._session, self._parameters), self._picture.info, target)
        limit = math.inf if options.max_bpp is None else options.max_bpp * pixels / 8 - taken
        found: list[Section] = []
        goes_on = self._index_sections(encoder, found, limit)
        if not found:
            raise InputError(
                f"{self._picture.name}: the first picture takes {8 * (taken + self._first) / pixels:.3f} bits a pixel"
            )
        if not goes_on:
            return found
        tail = encoder.tail(TAIL_TILES if options.tile is None else (options.tile,))
        self._parameters = encoder.parameters
        ends = tail is not None and _bytes_of(found + tail) <= limit and options.min_psnr_db is None
        if self._parameters.tail_level and not (ends and pixels > COMPARED_PIXELS):
            found, tail = self._indices_to_the_end(encoder, found, tail, limit)
        if tail is not None and _bytes_of(found + tail) <= limit:
            found += tail
            self.report.lossless = True
        return found

    def _indices_to_the_end(
        self, encoder: ProgressiveEncoder, found: list[Section], tail: list[Section] | None, limit: float
    ) -> tuple[list[Section], list[Section] | None]:
        """Go on with indices below the tail level; return sections and tail of whichever way ends better.

        That is the smaller of two files that are whole and within the limit; or the one that is; or indices as far as limit
        and quality let them go.
        """
        longer = list(found)
        encoder.go_on_to(0)
        direct = encoder.tail(TAIL_TILES) if self._index_sections(encoder, longer, limit) else None
        if tail is not None and not self._good_enough:
            size = _bytes_of(found + tail)
            if size <= limit and (direct is None or size <= _bytes_of(longer + direct)):
                return found, tail
        self._parameters = encoder.parameters
        return longer, direct

    def _index_sections(self, encoder: ProgressiveEncoder, found: list[Section], limit: float) -> bool:
        """Append sections; say whether all of them fitted and the quality asked for is not reached yet."""
        goal = self._options.min_psnr_db
        size = _bytes_of(found)
        for section in encoder.sections():
            size += section_bytes(section.payload)
            if size > limit:
                self._first = size
                return False
            found.append(section)
            # Between levels it would cost a network evaluation a section.
            if goal is not None and encoder.walk.at_level_end and encoder.psnr_db() >= goal:
                self._good_enough = True
                return False
        return True


def _bytes_of(sections: list[Section]) -> int:
    return sum(section_bytes(section.payload) for section in sections)
