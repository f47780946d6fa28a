"""Decodes a ``.ddpm`` file into picture files. Importing this module does not load torch."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from ddpm_codec.atomic import streamed
from ddpm_codec.codecs.description import FileInfo, describe
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.container import (
    CODEC_PROGRESSIVE,
    DEFAULT_MAX_PIXELS,
    ByteSource,
    file_codec,
    read_container,
    read_sections,
)
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.files.output import EXTENSIONS, PictureSink
from ddpm_codec.files.reports import DecodeReport, Progress
from ddpm_codec.files.source import Source, as_path, open_source
from ddpm_codec.files.streams import STANDARD_OUTPUT
from ddpm_codec.image_io import Picture, PictureInfo
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import ModelName
from ddpm_codec.stopwatch import Stopwatch


@isolated()
def describe_file(source: Source | ByteSource) -> FileInfo:
    """Describe a file without decoding it.

    Raises:
        FormatError: the file is damaged.
        InputError: the file cannot be read.
    """
    with open_source(source) as opened:
        return describe(opened)


@isolated()
def decode_file(
    source: Source | ByteSource,
    output: str | Path | BinaryIO,
    *,
    model: ModelName | None = None,
    device: str = "auto",
    overwrite: bool = False,
    keep_going: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    output_format: str | None = None,
    max_bpp: float | None = None,
    level: int | None = None,
    reconstruction: str | None = None,
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode a file into picture files in lossless formats.

    Args:
        source: the .ddpm file.
        output: a picture file if ``source`` holds one picture and ``output`` is not a folder; otherwise a folder. A new
            folder appears only after everything has been decoded. Or a binary stream, such as standard output, for one
            picture in ``output_format``.
        model: file or name of the model it was coded with; None to look for it among the shipped models.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        overwrite: replace existing files.
        keep_going: write the recoverable pictures of a damaged file; ``damaged`` in the report lists the problems.
        max_pixels: refuse files that declare more pixels.
        output_format: extension of pictures in a folder; the extension of a single picture must match it.
        max_bpp: progressive files: use this many bits per pixel.
        level: progressive files: stop at this level.
        reconstruction: progressive files: ``mean`` (default), ``sample`` or ``flow``.
        progress: called with (pictures done, total pictures); for a progressive file with (sections used, total sections).

    Raises:
        EnvironmentMismatchError: coded in floating point in a different environment.
        FormatError: the file is damaged.
        InputError: an option is invalid, or a format does not support a picture.
        ModelError: the model it was coded with is not available, or is not ``model``.
        OutputExistsError: an output exists.
        OutputError: an output cannot be written.
    """
    whole = Stopwatch()
    with whole, open_source(source) as opened, _place(output, output_format) as target:

        def sink(infos: list[PictureInfo]) -> PictureSink:
            return PictureSink(target, infos, overwrite=overwrite, output_format=output_format)

        if file_codec(opened) == CODEC_PROGRESSIVE:
            sections = read_sections(opened, max_pixels=max_pixels)
            limits = DecodeLimits(max_bpp, level, reconstruction or "mean", keep_going)
            with sink([sections.info]) as pictures:
                reader = ProgressiveReader(sections, model=model, device=device, keep_going=keep_going)
                report = _decode_progressive(reader, limits, pictures, progress)
                pictures.commit()
                report.pictures = pictures.written
        else:
            container = read_container(opened, max_pixels=max_pixels, tolerant=keep_going)
            if (max_bpp, level, reconstruction) != (None, None, None):
                raise InputError(
                    f"{opened.label}: is not progressive; --bpp, --level and --reconstruction do not apply"
                )
            with sink([entry.info for entry in container.images]) as pictures:
                decoder = ArchiveDecoder(container, model=model, device=device)
                report = _decode_archive(decoder, keep_going, pictures, progress)
                if report.damaged and not report.images:
                    raise FormatError(f"{opened.label}: no picture can be recovered ({report.damaged[0]})")
                pictures.commit()
                report.pictures = pictures.written
                report.lossless = not report.damaged
            if model is not None and not container.head.needs_model:
                report.notes.insert(0, f"{opened.label}: needs no model; {model} was ignored")
        if not isinstance(output, str | Path):
            report.notes = [line.replace(str(target), STANDARD_OUTPUT) for line in report.notes]
            report.damaged = [line.replace(str(target), STANDARD_OUTPUT) for line in report.damaged]
            report.pictures = [(name, STANDARD_OUTPUT) for name, _ in report.pictures]
    report.seconds = whole.seconds
    return report


def _place(output: str | Path | BinaryIO, output_format: str | None) -> AbstractContextManager[Path]:
    """Return a context with the path to write to; a stream gets what was written there."""
    if isinstance(output, str | Path):
        return nullcontext(as_path(output, "output"))
    if output_format is None:
        raise InputError(f"{STANDARD_OUTPUT}: has no extension, so the format of the picture must be given")
    return streamed(output, f"picture{EXTENSIONS[output_format]}", STANDARD_OUTPUT)


def _decode_progressive(
    reader: ProgressiveReader, limits: DecodeLimits, sink: PictureSink, progress: Progress | None
) -> DecodeReport:
    """Decode the picture as far as the file and the limits allow, and write it."""
    coding, file = Stopwatch(), reader.file
    with coding:
        decoded = reader.decode(limits, progress)
    session, info = reader.decoder.session, file.info
    report = DecodeReport(
        images=1,
        dims=info.pixel_count * info.layout.channels,
        pixels=info.pixel_count,
        file_bytes=file.file_bytes,
        network_seconds=reader.decoder.network_seconds,
        coding_seconds=coding.seconds,
        model=session.model.name,
        device=session.device.type,
        lossless=decoded.lossless,
        level=decoded.level,
        used_bytes=decoded.used_bytes,
    )
    if decoded.damage or file.damaged:
        report.damaged += decoded.damage or [f"{file.label}: is damaged after byte {file.used_bytes}"]
    elif not decoded.lossless:
        missing = f" (truncated, originally {file.whole_bytes:,})" if file.cut else ""
        report.notes.append(
            f"{file.label}: used {decoded.used_bytes:,} of {file.file_bytes:,} bytes{missing}, down to level "
            f"{report.level}; not lossless ({limits.reconstruction})"
        )
    report.notes += sink.write(0, decoded.picture)
    return report


def _decode_archive(
    decoder: ArchiveDecoder, keep_going: bool, sink: PictureSink, progress: Progress | None
) -> DecodeReport:
    """Decode block by block and write the pictures; with ``keep_going``, those that can be recovered."""
    container, session = decoder.container, decoder.session
    report = DecodeReport(file_bytes=container.file_bytes)
    pictures = _recovered(decoder, report) if keep_going else decoder.pictures()
    for index, picture in pictures:
        try:
            report.notes += sink.write(index, picture)
        except InputError as error:
            if not keep_going:
                raise
            report.damaged.append(str(error))
            continue
        _count(report, picture.info)
        if progress is not None:
            progress(report.images, len(decoder.infos))
    if session is not None:
        report.model, report.device = session.model.name, session.device.type
        report.network_seconds = decoder.network_seconds
    report.coding_seconds = decoder.coding.seconds
    return report


def _recovered(decoder: ArchiveDecoder, report: DecodeReport) -> Iterator[tuple[int, Picture]]:
    """Yield the pictures that can be decoded, then add the others to the report."""
    damage, seen = [*decoder.container.damaged], set[int]()
    for block in decoder.blocks():
        if block.damage is not None:
            damage.append(str(block.damage))
        seen.update(index for index, _ in block.pictures)
        yield from block.pictures
    report.damaged += damage
    report.damaged += [f"{info.name}: lost" for index, info in enumerate(decoder.infos) if index not in seen]


def _count(report: DecodeReport, info: PictureInfo) -> None:
    report.images += 1
    report.pixels += info.pixel_count
    report.dims += info.pixel_count * info.layout.channels
