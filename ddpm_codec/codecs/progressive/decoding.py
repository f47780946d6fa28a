"""Progressive files, or what there is of them, to pictures. Importing this loads no torch."""

import math
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.fallback import decode_array
from ddpm_codec.codecs.output import PictureSink
from ddpm_codec.codecs.progressive.parameters import ProgressiveParameters, read_parameters
from ddpm_codec.codecs.reports import DecodeReport, Progress
from ddpm_codec.container.layout import DEFAULT_MAX_PIXELS
from ddpm_codec.container.sections import SectionFile, read_sections
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.image_io import Picture
from ddpm_codec.models.registry import shipped_name

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.decoder import ProgressiveDecoder
    from ddpm_codec.codecs.session import CodingSession


@dataclass(frozen=True)
class DecodeOptions:
    """How far to decode, and how to show what is known there.

    Attributes:
        max_bpp: use no section that ends beyond so many bits a pixel; None: use all.
        level: stop when the latents of this level are known; None: do not.
        reconstruction: ``mean``, ``sample`` or ``flow``.
        model: the model that it was coded with, where that does not ship.
        device: ``auto``, ``cpu`` or ``cuda``.
        keep_going: of a damaged file use the sections before the damage.
    """

    max_bpp: float | None = None
    level: int | None = None
    reconstruction: str = "mean"
    model: Path | None = None
    device: str = "auto"
    keep_going: bool = False


class OpenedProgressive:
    """A progressive file with its model at hand, decoded section by section; used in a ``with`` block.

    Args:
        file: what there is of it.
        options: see there.

    Attributes:
        file: what there is of it.
        parameters: how it is coded.
        session: its model.
        decoder: where it stands.
        used: sections that were used.

    Raises:
        EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
        FormatError: the file is damaged, or too short for a first picture.
        ModelError: the model that it was coded with is not here.
    """

    parameters: ProgressiveParameters
    session: "CodingSession"
    decoder: "ProgressiveDecoder"

    def __init__(self, file: SectionFile, options: DecodeOptions) -> None:
        from ddpm_codec.codecs.progressive.decoder import ProgressiveDecoder
        from ddpm_codec.codecs.session import CodingSession

        self.file, path = file, file.path
        if not options.keep_going:
            self.file.require_whole()
        info = self.file.info
        self._first = 1 if info.mode == "RGBA" else 0
        if len(self.file.sections) <= self._first:
            raise FormatError(f"{path}: is too short for a first picture")
        head = self.file.head
        try:
            self.parameters = read_parameters(head.parameters)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from None
        self.session = CodingSession.for_decoding(
            head.model_id.hex(),
            dict(head.fingerprint),
            self.parameters.steps,
            options.device,
            options.model,
            str(path),
        )
        self._alpha: NDArray[np.uint8] | None = None
        self.used = 0
        session = self.session
        self.decoder = ProgressiveDecoder(session.chain(), session.lattice, self.parameters, info.size)

    def __enter__(self) -> "OpenedProgressive":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    @property
    def remaining(self) -> int:
        """Sections that have not been used."""
        return len(self.file.sections) - self._first - self.used

    @property
    def used_bytes(self) -> int:
        """Bytes of the file up to the last section used."""
        count = self.used + self._first
        return self.file.ends[count - 1] if count else self.file.start

    @property
    def next_end(self) -> int:
        """Bytes of the file up to the end of the next section."""
        return self.file.ends[self._first + self.used]

    def feed(self) -> None:
        """Use the next section.

        Raises:
            FormatError: it cannot be decoded.
        """
        number = self._first + self.used
        try:
            self.decoder.feed(self.file.sections[number])
        except FormatError as error:
            raise FormatError(f"{self.file.path}: section {number} cannot be decoded: {error}") from error
        self.used += 1

    def picture(self, how: str) -> Picture:
        """Return the picture as far as it is known.

        Raises:
            FormatError: its alpha cannot be decoded.
            InputError: there is no such reconstruction.
        """
        info = self.file.info
        try:
            pixels = self.decoder.picture(how)
        except FormatError as error:
            raise FormatError(f"{self.file.path}: {error}") from error
        if info.mode == "RGBA":
            if self._alpha is None:
                try:
                    self._alpha = decode_array(self.file.sections[0], (info.size[1], info.size[0]))
                except FormatError as error:
                    raise FormatError(f"{self.file.path}: {error}") from error
            pixels = np.dstack([pixels, self._alpha])
        return Picture(info, np.ascontiguousarray(pixels).tobytes())


def decode_progressive(
    path: Path,
    output: Path,
    options: DecodeOptions,
    *,
    overwrite: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    output_format: str | None = None,
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode a progressive file, or what there is of it, into a picture file of a lossless format.

    Args:
        path: the file.
        output: see :func:`~ddpm_codec.codecs.decoding.decode_file`.
        options: how far, and how to show it.
        overwrite: replace a file that is there.
        max_pixels: refuse a file that declares more.
        output_format: extension of the picture within a folder.
        progress: called with (sections used, sections).

    Raises:
        DdpmCodecError: see :class:`OpenedProgressive` and :func:`~ddpm_codec.codecs.decoding.decode_file`.
    """
    started = time.perf_counter()
    file = read_sections(path, max_pixels=max_pixels)
    with PictureSink(output, [file.info], overwrite=overwrite, output_format=output_format) as sink:
        picture, report = decode_picture(file, options, progress=progress)
        report.notes += sink.write(0, picture)
        sink.commit()
    report.seconds = time.perf_counter() - started
    return report


def decode_picture(
    file: SectionFile, options: DecodeOptions, *, progress: Progress | None = None
) -> tuple[Picture, DecodeReport]:
    """Return the picture of a progressive file as far as the file and the options go, and what was used.

    Raises:
        DdpmCodecError: see :class:`OpenedProgressive`.
        InputError: the options allow no picture at all.
    """
    started = time.perf_counter()
    with OpenedProgressive(file, options) as opened:
        info = file.info
        limit = None if options.max_bpp is None else options.max_bpp * info.pixel_count / 8
        if limit is not None and not 0 < limit < math.inf:
            raise InputError(f"bpp = {options.max_bpp:g}: must be a positive number")
        if options.level is not None and not 0 <= options.level <= opened.parameters.steps:
            raise InputError(f"level = {options.level}: the file has levels 0 to {opened.parameters.steps}")
        failed = _feed(opened, limit, options, progress)
        if not opened.used:
            raise (
                FormatError(failed)
                if failed
                else InputError(
                    f"{file.path}: the first picture takes {8 * opened.next_end / info.pixel_count:.3f} bits a pixel"
                )
            )
        picture = opened.picture(options.reconstruction)
        report = _report(opened, picture, failed, options)
    report.coding_seconds = time.perf_counter() - started
    report.coder_seconds = max(0.0, report.coding_seconds - report.network_seconds)
    return picture, report


def _feed(opened: OpenedProgressive, limit: float | None, options: DecodeOptions, progress: Progress | None) -> str:
    """Use sections as far as the options go; with ``keep_going``, return why an earlier one was the last."""
    while opened.remaining and (limit is None or opened.next_end <= limit):
        if options.level is not None and opened.decoder.level <= options.level:
            break
        try:
            opened.feed()
        except FormatError as error:
            if not options.keep_going:
                raise
            return str(error)
        if progress is not None:
            progress(opened.used, opened.used + opened.remaining)
    return ""


def _report(opened: OpenedProgressive, picture: Picture, failed: str, options: DecodeOptions) -> DecodeReport:
    info, file = picture.info, opened.file
    report = DecodeReport(
        images=1,
        dims=info.pixel_count * info.layout.channels,
        pixels=info.pixel_count,
        file_bytes=file.file_bytes,
        network_seconds=opened.session.network_seconds,
        model=opened.session.model.name,
        device=opened.session.device.type,
        lossless=opened.decoder.lossless,
        level=opened.decoder.level,
        used_bytes=opened.used_bytes,
    )
    if failed or file.damaged:
        report.damaged.append(failed or f"{file.path}: is damaged behind byte {file.used_bytes}")
    elif not report.lossless:
        missing = f" (the file is cut: it had {file.whole_bytes:,})" if file.cut else ""
        report.notes.append(
            f"{file.path}: used {opened.used_bytes:,} of {file.file_bytes:,} bytes{missing}, down to level {report.level}; "
            f"not lossless ({options.reconstruction})"
        )
    return report


def describe_progressive(path: Path) -> dict[str, Any]:
    """Return what a progressive file holds, without decoding it.

    Raises:
        FormatError: the file is damaged in its head, or cut there.
        InputError: it cannot be read.
    """
    opened = read_sections(path, max_pixels=1 << 62)
    info, head = opened.info, opened.head
    starts = (opened.start, *opened.ends)
    return {
        "file": str(path),
        "codec": "progressive",
        "file_bytes": opened.file_bytes,
        "file_bpd": 8 * opened.file_bytes / (info.pixel_count * info.layout.channels),
        "images": 1,
        "pixels": info.pixel_count,
        "model": head.model_name or shipped_name(head.model_id.hex()),
        "model_id": head.model_id.hex(),
        "arithmetic": "float" if head.fingerprint else "exact",
        "whole_sections": len(opened.sections),
        "whole_bytes": opened.used_bytes,
        "damaged": opened.damaged,
        "cut": opened.cut,
        **{f"coding_{key}": value for key, value in head.parameters.items()},
        **{f"environment_{key}": value for key, value in head.fingerprint.items()},
        "pictures": [
            {
                "name": info.name,
                "width": info.size[0],
                "height": info.size[1],
                "mode": info.mode,
                "metadata": ", ".join(info.metadata) or None,
            }
        ],
        "sections": [
            {"bytes": end - start, "end": end, "bits_per_pixel": 8 * end / info.pixel_count}
            for start, end in pairwise(starts)
        ],
    }
