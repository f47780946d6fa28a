"""Encodes picture files into an archive, or a progressive file each. Importing this module does not load torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ddpm_codec.atomic import streamed
from ddpm_codec.errors import InputError
from ddpm_codec.files.archive import write_archive
from ddpm_codec.files.inputs import Inputs
from ddpm_codec.files.options import EncodeOptions
from ddpm_codec.files.progressive import write_progressive
from ddpm_codec.files.reports import EncodeReport, Progress, ProgressiveReports
from ddpm_codec.files.source import as_path
from ddpm_codec.files.streams import STANDARD_OUTPUT, StreamPicture
from ddpm_codec.image_io import IMAGE_EXTENSIONS, UNREADABLE_EXTENSIONS
from ddpm_codec.isolation import isolated

Input = str | Path | StreamPicture
"""A picture file, a folder of pictures, or a picture that came through a stream."""


@isolated()
def encode(
    inputs: Sequence[Input], output: str | Path | BinaryIO, options: EncodeOptions, *, progress: Progress | None = None
) -> EncodeReport | ProgressiveReports:
    """Encode picture files and folders.

    All headers are looked at before anything is coded. If a picture cannot be used, all that cannot are named, and nothing
    is written, unless ``keep_going`` says otherwise.

    Args:
        inputs: files, folders, and pictures that came through streams.
        output: the .ddpm file, which must not have an image extension; a folder for several progressive files; or a binary
            stream, such as standard output.
        options: encoding options.
        progress: called with (pictures done, total pictures).

    Returns:
        The report of the archive, or one report per progressive file.

    Raises:
        InputError: an option is invalid, a path is empty, or the device is not available.
        LeftOutError: with ``strict``, something in a folder is not a picture.
        ModelError: the model does not exist, is damaged, or has no such chain.
        OutputExistsError: an output exists.
        OutputError: an output cannot be written.
        RefusedInputsError: pictures cannot be used; it lists them all.
    """
    given = [one if isinstance(one, StreamPicture) else as_path(one, "input") for one in inputs]
    if isinstance(output, str | Path):
        return _encode_to(given, as_path(output, "output"), options, progress)
    with streamed(output, "picture.ddpm", STANDARD_OUTPUT) as path:
        report = _encode_to(given, path, options, progress)
    if isinstance(report, ProgressiveReports):
        report[0].file = STANDARD_OUTPUT
    return report


def _encode_to(
    given: list[Path | StreamPicture], output: Path, options: EncodeOptions, progress: Progress | None
) -> EncodeReport | ProgressiveReports:
    extension = output.suffix.lower()
    if extension in IMAGE_EXTENSIONS or extension in UNREADABLE_EXTENSIONS:
        raise InputError(f"{output}: {output.suffix} is an image extension; name the output *.ddpm")
    inputs = Inputs.found(given, options, output)
    if options.progressive:
        return write_progressive(given, inputs, output, progress)
    return write_archive(inputs, output, progress)


def encode_files(
    inputs: Sequence[Input],
    output: str | Path | BinaryIO,
    *,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - fields of EncodeOptions
) -> EncodeReport:
    """Encode picture files and folders into one archive; ``options`` are those of :class:`EncodeOptions`.

    Raises:
        DdpmCodecError: see :func:`encode`.
    """
    report = encode(inputs, output, EncodeOptions(**options), progress=progress)
    if isinstance(report, ProgressiveReports):
        raise TypeError("encode_files writes archives; use encode_progressive_files for progressive files")
    return report


def encode_progressive_files(
    inputs: Sequence[Input],
    output: str | Path | BinaryIO,
    *,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - fields of EncodeOptions
) -> ProgressiveReports:
    """Encode each picture into its own progressive file; ``options`` are those of :class:`EncodeOptions`.

    Raises:
        DdpmCodecError: see :func:`encode`.
    """
    report = encode(inputs, output, EncodeOptions(progressive=True, **options), progress=progress)
    if isinstance(report, EncodeReport):
        raise TypeError("encode_progressive_files writes progressive files; use encode_files for archives")
    return report
