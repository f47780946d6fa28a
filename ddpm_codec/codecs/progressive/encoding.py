"""Pictures to progressive files. Importing this loads no torch."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ddpm_codec.atomic import check_target, proved, reason
from ddpm_codec.codecs.encoding import picture_digest, read_stripped, verify_file, write_fallback_file
from ddpm_codec.codecs.progressive.options import ProgressiveOptions, chosen_steps
from ddpm_codec.codecs.reports import Progress, ProgressiveReport
from ddpm_codec.errors import FormatError, InputError, OutputError
from ddpm_codec.image_io import IMAGE_EXTENSIONS, Picture, list_inputs

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession


def encode_progressive(
    inputs: Sequence[Path],
    output: Path,
    options: ProgressiveOptions,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[ProgressiveReport]:
    """Encode each picture into a progressive file of its own.

    Args:
        inputs: files and folders.
        output: the .ddpm file of a single picture; of several, the folder that gets one file each.
        options: see there.
        overwrite: replace files that are there.
        progress: called with (pictures done, pictures).

    Raises:
        InputError: an input, an option or the device is at fault.
        ModelError: no such model or chain.
        OutputExistsError: an output is there.
        OutputError: it cannot be written.
    """
    options.check()
    files = list_inputs(inputs)
    # Not a folder that stays empty where the first picture fails.
    with _folders_made_here(output):
        targets = _targets(inputs, files, output, overwrite)
        return list(_encode_all(files, targets, options, overwrite, progress))


@contextmanager
def _folders_made_here(output: Path) -> Iterator[None]:
    """Remove ``output`` again where it was not there and the block fails before anything is in it."""
    new = not os.path.lexists(output)
    try:
        yield
    except BaseException:
        if new and output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise


def _encode_all(
    files: list[tuple[Path, str]],
    targets: list[Path],
    options: ProgressiveOptions,
    overwrite: bool,
    progress: Progress | None,
) -> Iterator[ProgressiveReport]:
    """Encode one picture after the other, with one session for each chain."""
    from ddpm_codec.codecs.session import CodingSession

    sessions: dict[int | None, CodingSession] = {}
    for done, ((path, name), target) in enumerate(zip(files, targets, strict=True)):
        picture = read_stripped(path, name, options.first_frame, options.strip)
        steps = chosen_steps(options.model, options.levels, picture.info.pixel_count)
        if steps not in sessions:
            sessions[steps] = CodingSession.for_encoding(options.model, options.device, steps)
        session = sessions[steps]
        encode = _encode_one if picture.mode in ("RGB", "RGBA") else _encode_whole
        yield encode(session, picture, target, options, overwrite)
        if progress is not None:
            progress(done + 1, len(files))


def _targets(inputs: Sequence[Path], files: list[tuple[Path, str]], output: Path, overwrite: bool) -> list[Path]:
    """Return the file that each picture goes to, the folders made.

    Raises:
        InputError: ``output`` has the name of a picture.
        OutputExistsError: one is there.
        OutputError: one cannot be written.
    """
    if output.suffix.lower() in IMAGE_EXTENSIONS:
        raise InputError(
            f"{output}: {output.suffix} is the name of a picture; what is written is no such file, use .ddpm"
        )
    if len(files) == 1 and not inputs[0].is_dir() and not output.is_dir():
        check_target(output, overwrite=overwrite)
        if output.exists() and files[0][0].samefile(output):
            raise InputError(f"{output}: is the picture itself; name another output")
        return [output]
    if output.suffix == ".ddpm" and not output.is_dir():
        raise InputError(f"{output}: a progressive file holds one picture; name a folder for {len(files)}")
    names = [str(PurePosixPath(name).with_suffix(".ddpm")) for _, name in files]
    taken = {name.casefold() for name in names}
    if len(taken) < len(names):
        names = [f"{name}.ddpm" for _, name in files]
    targets = [output / name for name in names]
    for target in targets:
        if target.parent.is_dir():
            check_target(target, overwrite=overwrite)
    try:
        for folder in dict.fromkeys(target.parent for target in targets):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made a folder ({reason(error)})") from error
    for target in targets:
        check_target(target, overwrite=overwrite)
    return targets


def _encode_one(
    session: "CodingSession", picture: Picture, target: Path, options: ProgressiveOptions, overwrite: bool
) -> ProgressiveReport:
    from ddpm_codec.codecs.progressive.assembly import Assembly

    started, network = time.perf_counter(), session.network_seconds
    run = Assembly(session, picture, options)
    report = run.report
    with proved(target, overwrite=overwrite) if options.verify else nullcontext(target) as written:
        run.write(written, target, overwrite)
        if options.verify:
            _verify(written, picture, options, report.lossless)
    report.file = str(target)
    report.seconds = time.perf_counter() - started
    report.network_seconds = session.network_seconds - network
    return report


def _encode_whole(
    _session: "CodingSession", picture: Picture, target: Path, options: ProgressiveOptions, overwrite: bool
) -> ProgressiveReport:
    """Write a picture that the model does not serve: lossless, by the fallback, and not progressive."""
    started = time.perf_counter()
    if options.max_bpp is not None or options.min_psnr_db is not None:
        raise InputError(f"{picture.name}: mode {picture.mode} is stored whole; --bpp and --psnr need RGB or RGBA")
    with proved(target, overwrite=overwrite) if options.verify else nullcontext(target) as written:
        size = write_fallback_file(picture, written, overwrite=overwrite)
        if options.verify:
            verify_file(written, [picture_digest(picture)], None, options.device)
    info = picture.info
    report = ProgressiveReport(str(target), info.pixel_count * info.layout.channels, info.pixel_count, size)
    report.lossless = True
    report.notes.append(
        f"{picture.name}: mode {picture.mode} goes to the fallback whole: lossless, but not progressive"
    )
    report.seconds = time.perf_counter() - started
    return report


def _verify(path: Path, picture: Picture, options: ProgressiveOptions, lossless: bool) -> None:
    """Decode ``path`` and compare with what was encoded.

    Raises:
        FormatError: it is not what it should be.
    """
    from ddpm_codec.codecs.progressive.decoding import DecodeOptions, decode_picture
    from ddpm_codec.container.sections import read_sections

    decoded, report = decode_picture(
        read_sections(path, max_pixels=1 << 62), DecodeOptions(model=Path(options.model), device=options.device)
    )
    # The usual name of a picture depends on that of its file, which is a temporary one here.
    renamed = replace(decoded, info=replace(decoded.info, name=picture.info.name))
    if report.lossless != lossless or (lossless and picture_digest(renamed) != picture_digest(picture)):
        raise FormatError(f"{picture.name}: did not come back as it was")
