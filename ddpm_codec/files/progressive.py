"""Encodes pictures into progressive files, one each."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ddpm_codec.atomic import check_target, new_file, reason, removed_if_empty
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder, encode_archive
from ddpm_codec.codecs.lossless.layout import can_be_progressive
from ddpm_codec.codecs.lossless.opening import FALLBACK_OPTIONS
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.container import ByteSource, read_container, read_sections
from ddpm_codec.errors import FormatError, InputError, OutputError
from ddpm_codec.files.inputs import Entry, Inputs
from ddpm_codec.files.options import EncodeOptions
from ddpm_codec.files.reports import Progress, ProgressiveReport, ProgressiveReports
from ddpm_codec.files.streams import StreamPicture
from ddpm_codec.files.verification import UNLIMITED, compare, named_after, picture_digest
from ddpm_codec.picture import Picture
from ddpm_codec.stopwatch import Stopwatch

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.file import EncodedPicture
    from ddpm_codec.codecs.session import Model


def write_progressive(
    given: Sequence[Path | StreamPicture], inputs: Inputs, output: Path, progress: Progress | None
) -> ProgressiveReports:
    """Encode each picture into a progressive file.

    Args:
        given: the inputs as named by the user.
        inputs: the pictures found there.
        output: the file of one picture, or a folder.
        progress: called with (pictures done, total pictures).

    Raises:
        DdpmCodecError: see :func:`~ddpm_codec.files.encoding.encode`.
    """
    options = inputs.options
    # Invalid options are refused before any picture is read.
    how = ProgressiveOptions(
        steps=options.steps,
        register_bits=options.register_bits,
        tile=options.tile,
        max_bpp=options.max_bpp,
        min_psnr_db=options.min_psnr_db,
        fallback=options.fallback,
    )

    def check(picture: Picture) -> None:
        _check_limits(picture, how)

    entries = inputs.entries
    inputs.check_headers(check)
    targets = _targets(given, entries, output)
    _check_targets(list(targets.values()), output, inputs)
    if len(inputs.entries) > 1 and not options.keep_going:
        # Files appear one by one, so damage that only decoding shows must be known before the first of them.
        for _ in inputs.pictures(check):
            pass
    reports = ProgressiveReports(inputs.refused, inputs.left_out)
    # Leave no empty folder behind if the first picture fails.
    with removed_if_empty(output):
        if output not in targets.values():
            _make_folder(output, output)
        from ddpm_codec.codecs.session import Model, cached_model

        opened: Model | None = None
        for entry, picture in inputs.pictures(check):
            opened = opened or cached_model(options.model, options.device)
            reports.append(_encode_one(opened, picture, targets[entry.name], output, how, options))
            reports[-1].notes += inputs.notes_of(entry)
            if progress is not None:
                progress(len(reports), len(inputs.entries))
    return reports


def _encode_one(
    model: "Model", picture: Picture, target: Path, output: Path, how: ProgressiveOptions, options: EncodeOptions
) -> ProgressiveReport:
    """Write the file of one picture: progressive if the model supports its mode, else lossless by the fallback."""
    whole = Stopwatch()
    with whole:
        make = _progressive_file if can_be_progressive(picture.info) else _fallback_file
        data, report = make(model, picture, target, how, options.verify)
        _make_folder(target.parent, output)
        with new_file(target, overwrite=options.overwrite) as temporary:
            temporary.write_bytes(data)
    report.file, report.seconds = str(target), whole.seconds
    return report


def _progressive_file(
    model: "Model", picture: Picture, target: Path, how: ProgressiveOptions, verify: bool
) -> tuple[bytes, ProgressiveReport]:
    from ddpm_codec.codecs.progressive.file import encode_picture

    network_seconds = model.network_seconds
    encoded = encode_picture(model, picture, how, file_name=target.name)
    report = ProgressiveReport.of(encoded, picture.info, model.network_seconds - network_seconds)
    report.model, report.device = model.name, model.device.type
    if verify:
        with named_after(target):
            _verify_progressive(encoded, model, picture, target)
    return encoded.file.data, report


def _verify_progressive(encoded: "EncodedPicture", model: "Model", picture: Picture, target: Path) -> None:
    source = ByteSource(encoded.file.data, str(target), target.name)
    file = read_sections(source, max_pixels=UNLIMITED)
    decoded = ProgressiveReader(file, model=model).decode(DecodeLimits())
    same = picture_digest(decoded.picture) == picture_digest(picture)
    if decoded.lossless != encoded.lossless or (encoded.lossless and not same):
        raise FormatError(f"{picture.name}: does not decode to the same picture")


def _check_limits(picture: Picture, how: ProgressiveOptions) -> None:
    """Refuse to cut a picture that cannot be progressive."""
    if can_be_progressive(picture.info):
        return
    if how.max_bpp is not None or how.min_psnr_db is not None:
        raise InputError(
            f"{picture.name}: mode {picture.mode} cannot be progressive; --bpp and --psnr need RGB or RGBA"
        )


def _fallback_file(
    _model: "Model", picture: Picture, target: Path, how: ProgressiveOptions, verify: bool
) -> tuple[bytes, ProgressiveReport]:
    """Encode a picture in a mode the model does not support: lossless, by the fallback, not progressive."""
    data = encode_archive([picture], None, FALLBACK_OPTIONS, file_name=target.name)
    if verify:
        container = read_container(ByteSource(data, str(target), target.name), max_pixels=UNLIMITED)
        with named_after(target):
            compare(ArchiveDecoder(container), [picture_digest(picture)])
    note = f"{picture.name}: mode {picture.mode} is coded by the fallback: lossless, but not progressive"
    return data, ProgressiveReport.of_whole(picture.info, len(data), note)


def _targets(given: Sequence[Path | StreamPicture], entries: list[Entry], output: Path) -> dict[str, Path]:
    """Return the output file of each picture, by the picture's name.

    Raises:
        InputError: ``output`` is one file for several pictures.
    """
    if len(given) == len(entries) == 1 and not output.is_dir():
        one = given[0]
        if isinstance(one, StreamPicture) or not one.is_dir():
            return {entries[0].name: output}
    if output.suffix == ".ddpm" and not output.is_dir():
        raise InputError(
            f"{output}: a progressive file holds one picture; with {len(entries)} inputs, the output must be a folder"
        )
    names = [str(PurePosixPath(entry.name).with_suffix(".ddpm")) for entry in entries]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{entry.name}.ddpm" for entry in entries]
    return {entry.name: output / name for entry, name in zip(entries, names, strict=True)}


def _check_targets(targets: list[Path], output: Path, inputs: Inputs) -> None:
    """Check that all files can be written, except for their folders.

    Raises:
        InputError: a target is one of the inputs.
        OutputExistsError: an output exists.
        OutputError: an output cannot be written.
    """
    for target in targets:
        if target == output or target.parent.is_dir():
            check_target(target, overwrite=inputs.options.overwrite, sources=inputs.paths)
            continue
        for folder in target.parents:
            if os.path.lexists(folder):
                if not folder.is_dir():
                    raise OutputError(f"{output}: the folder cannot be created ({folder} is a file)")
                break


def _make_folder(folder: Path, output: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: the folder cannot be created ({reason(error)})") from error
