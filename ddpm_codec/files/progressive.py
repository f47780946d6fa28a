"""Picture files to progressive files, one each. Importing this loads no torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_codec.atomic import new_file
from ddpm_codec.codecs.lossless.archive import FALLBACK_OPTIONS, ArchiveDecoder, encode_archive
from ddpm_codec.codecs.lossless.layout import COLOUR_MODES
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions, choose_steps
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.container import ByteSource, read_container, read_sections
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.files.pictures import UNLIMITED, compare, picture_digest, read_stripped
from ddpm_codec.files.reports import Progress, ProgressiveReport
from ddpm_codec.files.targets import progressive_targets, removed_if_empty
from ddpm_codec.image_io import Picture, list_inputs
from ddpm_codec.models.registry import DEFAULT, ModelName
from ddpm_codec.stopwatch import Stopwatch

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.encoder import EncodedPicture
    from ddpm_codec.codecs.session import Model


def encode_progressive_files(
    inputs: Sequence[Path],
    output: Path,
    options: ProgressiveOptions,
    *,
    model: ModelName = DEFAULT,
    device: str = "auto",
    overwrite: bool = False,
    strip: bool = False,
    first_frame: bool = False,
    verify: bool = False,
    progress: Progress | None = None,
) -> list[ProgressiveReport]:
    """Encode each picture into a progressive file of its own.

    Args:
        inputs: files and folders.
        output: the .ddpm file of a single picture; of several, the folder that gets one file each.
        options: limits, and what else an encoder may choose.
        model: name or file of a model.
        device: ``auto``, ``cpu`` or ``cuda``.
        overwrite: replace files that are there.
        strip: leave ICC, EXIF and XMP out.
        first_frame: of pictures with several frames take the first.
        verify: decode what was encoded and compare, before the file appears.
        progress: called with (pictures done, pictures).

    Raises:
        InputError: an input, an option or the device is at fault.
        ModelError: no such model or chain.
        OutputExistsError: an output is there.
        OutputError: it cannot be written.
    """
    files = list_inputs(inputs)
    reports: list[ProgressiveReport] = []
    # Not a folder that stays empty where the first picture fails.
    with removed_if_empty(output):
        targets = progressive_targets(inputs, files, output, overwrite=overwrite)
        from ddpm_codec.codecs.session import Model

        opened: Model | None = None
        for (path, name), target in zip(files, targets, strict=True):
            picture = read_stripped(path, name, first_frame, strip)
            opened = opened or Model.open(model, device=device)
            reports.append(_encode_progressive(opened, picture, target, options, overwrite, verify))
            if progress is not None:
                progress(len(reports), len(files))
    return reports


def _encode_progressive(
    model: "Model", picture: Picture, target: Path, options: ProgressiveOptions, overwrite: bool, verify: bool
) -> ProgressiveReport:
    """Write the file of one picture: progressive where the model serves its mode, else lossless by the fallback."""
    whole = Stopwatch()
    with whole:
        if picture.mode in COLOUR_MODES:
            data, report = _progressive_file(model, picture, target, options, verify)
        else:
            data, report = _fallback_file(picture, target, options, verify)
        with new_file(target, overwrite=overwrite) as temporary:
            temporary.write_bytes(data)
    report.file, report.seconds = str(target), whole.seconds
    return report


def _progressive_file(
    model: "Model", picture: Picture, target: Path, options: ProgressiveOptions, verify: bool
) -> tuple[bytes, ProgressiveReport]:
    from ddpm_codec.codecs.progressive.encoder import encode_picture

    session = model.session(choose_steps(model.codec_model, options.steps, picture.info.pixel_count))
    network_seconds = session.network_seconds
    encoded = encode_picture(session, picture, options, file_name=target.name)
    report = ProgressiveReport.of(encoded, picture.info, session.network_seconds - network_seconds)
    report.model, report.device = session.model.name, session.device.type
    if verify:
        with _named_after(target):
            _verify(encoded, model, picture, target)
    return encoded.file.data, report


def _verify(encoded: "EncodedPicture", model: "Model", picture: Picture, target: Path) -> None:
    source = ByteSource(encoded.file.data, str(target), target.name)
    file = read_sections(source, max_pixels=UNLIMITED)
    decoded = ProgressiveReader(file, model=model.path, device=model.device.type).decode(DecodeLimits())
    same = picture_digest(decoded.picture) == picture_digest(picture)
    if decoded.lossless != encoded.lossless or (encoded.lossless and not same):
        raise FormatError(f"{picture.name}: did not come back as it was")


@contextmanager
def _named_after(target: Path) -> Iterator[None]:
    """Say of a file that does not verify that it was not written."""
    try:
        yield
    except FormatError as error:
        named = "" if str(target) in str(error) else f"{target}: "
        raise FormatError(f"{named}{error}; nothing was written") from error


def _fallback_file(
    picture: Picture, target: Path, options: ProgressiveOptions, verify: bool
) -> tuple[bytes, ProgressiveReport]:
    """Code a picture that the model does not serve: lossless, by the fallback, and not progressive."""
    if options.max_bpp is not None or options.min_psnr_db is not None:
        raise InputError(f"{picture.name}: mode {picture.mode} is stored whole; --bpp and --psnr need RGB or RGBA")
    data = encode_archive([picture], None, FALLBACK_OPTIONS)
    if verify:
        container = read_container(ByteSource(data, str(target)), max_pixels=UNLIMITED)
        with _named_after(target):
            compare(ArchiveDecoder(container), [picture_digest(picture)])
    note = f"{picture.name}: mode {picture.mode} goes to the fallback whole: lossless, but not progressive"
    return data, ProgressiveReport.of_whole(picture.info, len(data), note)
