"""A ``.ddpm`` file to picture files. Importing this loads no torch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_codec.codecs.options import MAX_BLOCK_TILES, MAX_TILE, CodingOptions
from ddpm_codec.codecs.output import PictureSink
from ddpm_codec.codecs.progressive.decoding import DecodeOptions, decode_progressive
from ddpm_codec.codecs.reports import DecodeReport, Progress
from ddpm_codec.container import (
    CODEC_FALLBACK,
    CODEC_PROGRESSIVE,
    DEFAULT_MAX_PIXELS,
    Container,
    file_codec,
    read_container,
)
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.image_io import Picture

if TYPE_CHECKING:
    from ddpm_codec.codecs.lossless import LosslessDecoder
    from ddpm_codec.codecs.session import CodingSession


def decode_file(
    path: Path,
    output: Path,
    *,
    model: Path | None = None,
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
    """Decode a file into picture files of lossless formats.

    Args:
        path: the .ddpm file.
        output: a picture file, where ``path`` holds one picture and ``output`` names no folder; else a folder, which
            appears only when everything has been decoded, unless it is there already.
        model: the model that it was coded with, a file or a name; None: whichever it names among those that ship.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        overwrite: replace files that are there.
        keep_going: of a damaged file write the pictures that can be recovered; ``damaged`` of the report says what
            could not.
        max_pixels: refuse a file that declares more pixels.
        output_format: extension of the pictures within a folder; that of a picture file must agree with it.
        max_bpp: of a progressive file, use so many bits a pixel.
        level: of a progressive file, stop at this level.
        reconstruction: of a progressive file, ``mean`` (default), ``sample`` or ``flow``.
        progress: called with (pictures done, pictures); of a progressive file, with (sections used, sections).

    Raises:
        EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
        FormatError: the file is damaged.
        InputError: an option is at fault, or a format cannot hold a picture.
        ModelError: the model that it was coded with is not here, or is not ``model``.
        OutputExistsError: an output is there.
        OutputError: it cannot be written.
    """
    if file_codec(path) == CODEC_PROGRESSIVE:
        how = DecodeOptions(max_bpp, level, reconstruction or "mean", model, device, keep_going)
        return decode_progressive(
            path,
            output,
            how,
            overwrite=overwrite,
            max_pixels=max_pixels,
            output_format=output_format,
            progress=progress,
        )
    started = time.perf_counter()
    opened = read_container(path, max_pixels=max_pixels, tolerant=keep_going)
    if (max_bpp, level, reconstruction) != (None, None, None):
        raise InputError(f"{path}: is not progressive; it decodes whole or not at all")
    infos = [entry.info for entry in opened.images]
    report = DecodeReport(file_bytes=opened.file_bytes)
    if model is not None and opened.head.codec == CODEC_FALLBACK:
        report.notes.append(f"{path}: needs no model; {model} was not looked at")
    with PictureSink(output, infos, overwrite=overwrite, output_format=output_format) as sink:

        def write(index: int, picture: Picture) -> None:
            try:
                report.notes += sink.write(index, picture)
            except InputError as error:
                if not keep_going:
                    raise
                report.damaged.append(str(error))
                return
            report.images += 1
            report.pixels += picture.info.pixel_count
            report.dims += picture.info.pixel_count * picture.info.layout.channels
            if progress is not None:
                progress(report.images, len(infos))

        damaged = report.damaged if keep_going else None
        session, report.coding_seconds = decode_blocks(opened, device, model, write, damaged)
        if report.damaged and not report.images:
            raise FormatError(f"{path}: no picture can be recovered ({report.damaged[0]})")
        sink.commit()
    if session is not None:
        report.model, report.device = session.model.name, session.device.type
        report.network_seconds = session.network_seconds
    report.coder_seconds = max(0.0, report.coding_seconds - report.network_seconds)
    report.seconds = time.perf_counter() - started
    return report


def decode_blocks(
    opened: Container,
    device: str,
    extra: Path | None,
    take: Callable[[int, Picture], None],
    damaged: list[str] | None = None,
) -> tuple["CodingSession | None", float]:
    """Decode every block and hand each picture to ``take(index, picture)``.

    Args:
        opened: the file.
        device: see :func:`decode_file`.
        extra: the model, where the caller names one.
        take: called once a picture.
        damaged: gets a line for each block and each picture that is lost; None: the first is an error.

    Returns:
        The session, where a model was needed, and the seconds spent on blocks.

    Raises:
        EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
        FormatError: the file is damaged.
        ModelError: the model that it was coded with is not here.
    """
    from ddpm_codec.codecs.lossless import LosslessDecoder

    infos = [entry.info for entry in opened.images]
    session, options = _session_of(opened, device, extra)
    decoder = LosslessDecoder(session.lattice if session else None, options, infos, len(opened.blocks))
    failures: list[str] = [*opened.damaged]
    seconds = 0.0
    try:
        for index, block in enumerate(opened.blocks):
            if block is None:
                continue
            started = time.perf_counter()
            try:
                pictures = _decode_block(opened, index, decoder)
            except FormatError as error:
                if damaged is None:
                    raise
                failures.append(str(error))
                pictures = []
            seconds += time.perf_counter() - started
            for number, picture in pictures:
                take(number, picture)
    finally:
        if session is not None:
            session.close()
    missing = decoder.missing()
    if missing and damaged is None:
        raise FormatError(f"{opened.path}: {len(missing)} pictures are in no block")
    if damaged is not None:
        damaged += [*failures, *(f"{infos[number].name}: lost" for number in missing)]
    return session, seconds


def _decode_block(opened: Container, index: int, decoder: "LosslessDecoder") -> list[tuple[int, Picture]]:
    """Decode one block; whatever is wrong with it becomes one line that names file and block."""
    payload = opened.read_block(index)
    try:
        return decoder.decode(payload)
    except FormatError as error:
        raise FormatError(f"{opened.path}: block {index} cannot be decoded: {error}") from error


def _session_of(opened: Container, device: str, extra: Path | None) -> tuple["CodingSession | None", CodingOptions]:
    head = opened.head
    if head.codec == CODEC_FALLBACK:
        return None, CodingOptions(1, 8)
    from ddpm_codec.codecs.session import CodingSession

    try:
        values = [head.parameters[key] for key in ("block_pixels", "tile", "steps")]
    except KeyError as error:
        raise FormatError(f"{opened.path}: its coding parameters are incomplete ({error})") from error
    if not all(isinstance(value, int) and 1 <= value < 1 << 40 for value in values):
        raise FormatError(f"{opened.path}: its coding parameters are damaged")
    block_pixels, tile, steps = (int(value) for value in values)
    options = CodingOptions(block_pixels, tile)
    if tile % 8 or tile > MAX_TILE or options.square_tiles > MAX_BLOCK_TILES:
        raise FormatError(f"{opened.path}: its coding parameters are damaged (block of {block_pixels}, tile = {tile})")
    session = CodingSession.for_decoding(
        head.model_id.hex(), dict(head.fingerprint), steps, device, extra, str(opened.path)
    )
    return session, options
