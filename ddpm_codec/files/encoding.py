"""Encodes picture files into an archive, or a progressive file each. Importing this module does not load torch."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ddpm_codec.atomic import check_target, new_file, proved, reason, removed_if_empty, spooled, writing
from ddpm_codec.codecs.lossless.archive import FALLBACK_OPTIONS, ArchiveDecoder, ArchiveEncoder, encode_archive
from ddpm_codec.codecs.lossless.layout import COLOUR_MODES
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions, choose_steps
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS, checked_options
from ddpm_codec.container import ByteSource, read_container, read_sections
from ddpm_codec.errors import FormatError, InputError, OutputError
from ddpm_codec.files.reports import EncodeReport, Progress, ProgressiveReport
from ddpm_codec.files.source import open_source
from ddpm_codec.image_io import IMAGE_EXTENSIONS, Picture, PictureInfo, list_inputs, read_picture
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import DEFAULT, ModelName
from ddpm_codec.stopwatch import Stopwatch

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.encoder import EncodedPicture
    from ddpm_codec.codecs.session import CodingSession, Model

_UNLIMITED = 1 << 62
"""Pixel limit for files that were just written."""


@dataclass(frozen=True)
class EncodeOptions:
    """Encoding options.

    Attributes:
        model: name or file of a model; ``none`` to use the fallback only.
        device: ``auto``, ``cpu`` or ``cuda``.
        steps: K of the chain; None: chosen by the codec.
        tile: side of the tiles of large pictures, a multiple of 8; None: chosen by the codec.
        block_pixels: archives: pixels per block, the unit of damage.
        progressive: write a progressive file per picture instead of one archive.
        max_bpp: progressive files: stop before exceeding this many bits per pixel; None: no limit.
        min_psnr_db: progressive files: stop once the picture has this PSNR, in dB; None: no limit.
        register_bits: progressive files: register bits of the trellis; None: by picture size.
        tail_level: progressive files: level at which the indices end; None: by picture size.
        overwrite: replace existing outputs.
        strip: omit ICC, EXIF and XMP.
        first_frame: encode the first frame of pictures with several.
        verify: decode and compare before an output appears.

    Raises:
        InputError: options that cannot be combined.
    """

    model: ModelName = DEFAULT
    device: str = "auto"
    steps: int | None = None
    tile: int | None = None
    block_pixels: int = DEFAULT_BLOCK_PIXELS
    progressive: bool = False
    max_bpp: float | None = None
    min_psnr_db: float | None = None
    register_bits: int | None = None
    tail_level: int | None = None
    overwrite: bool = False
    strip: bool = False
    first_frame: bool = False
    verify: bool = False

    def __post_init__(self) -> None:
        if self.progressive and self.model == "none":
            raise InputError("progressive files need a model; model none codes archives alone")
        if self.progressive and self.block_pixels != DEFAULT_BLOCK_PIXELS:
            raise InputError("block-pixels does not apply to progressive files")
        if not self.progressive and any(
            value is not None for value in (self.max_bpp, self.min_psnr_db, self.register_bits, self.tail_level)
        ):
            raise InputError("--bpp, --psnr and --register-bits need --progressive")


@isolated()
def encode(
    inputs: Sequence[Path], output: Path, options: EncodeOptions, *, progress: Progress | None = None
) -> EncodeReport | list[ProgressiveReport]:
    """Encode picture files and folders.

    Args:
        inputs: files and folders.
        output: the .ddpm file, or a folder for several progressive files. Must not have an image extension.
        options: encoding options.
        progress: called with (pictures done, total pictures).

    Returns:
        The report of the archive, or one report per progressive file.

    Raises:
        InputError: an input or option is invalid, or the device is not available.
        ModelError: the model does not exist, is damaged, or has no such chain.
        OutputExistsError: an output exists.
        OutputError: an output cannot be written.
    """
    if output.suffix.lower() in IMAGE_EXTENSIONS:
        raise InputError(f"{output}: {output.suffix} is an image extension; name the output *.ddpm")
    if options.progressive:
        return _encode_each(inputs, output, options, progress)
    return _encode_together(inputs, output, options, progress)


def encode_files(
    inputs: Sequence[Path],
    output: Path,
    *,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - fields of EncodeOptions
) -> EncodeReport:
    """Encode picture files and folders into one archive; ``options`` are those of :class:`EncodeOptions`.

    Raises:
        DdpmCodecError: see :func:`encode`.
    """
    report = encode(inputs, output, EncodeOptions(**options), progress=progress)
    if isinstance(report, list):
        raise TypeError("encode_files writes archives; use encode_progressive_files for progressive files")
    return report


def encode_progressive_files(
    inputs: Sequence[Path],
    output: Path,
    *,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - fields of EncodeOptions
) -> list[ProgressiveReport]:
    """Encode each picture into its own progressive file; ``options`` are those of :class:`EncodeOptions`.

    Raises:
        DdpmCodecError: see :func:`encode`.
    """
    report = encode(inputs, output, EncodeOptions(progressive=True, **options), progress=progress)
    if isinstance(report, EncodeReport):
        raise TypeError("encode_progressive_files writes progressive files; use encode_files for archives")
    return report


def _encode_together(
    inputs: Sequence[Path], output: Path, options: EncodeOptions, progress: Progress | None
) -> EncodeReport:
    """Encode all pictures into one archive."""
    whole = Stopwatch()
    with whole:
        files = list_inputs(inputs)
        check_target(output, overwrite=options.overwrite, sources=(path for path, _ in files))
        session = _open_session(options)
        own_tile = session.model.tile if session else 256
        cut = checked_options(options.block_pixels, own_tile if options.tile is None else options.tile)
        place = proved(output, overwrite=options.overwrite) if options.verify else nullcontext(output)
        with place as target:
            with spooled(target, overwrite=options.overwrite) as spool:
                encoder = ArchiveEncoder(session, cut, spool)
                digests = _add_all(encoder, files, target, options, progress)
                with new_file(target, overwrite=options.overwrite) as temporary, temporary.open("wb") as file:
                    size = encoder.write(file)
            if progress is not None:
                progress(len(files), len(files))
            if options.verify:
                _verify_archive(target, digests, options.model if session else None, options.device)
    return _archive_report(encoder, session, size, whole.seconds)


def _open_session(options: EncodeOptions) -> "CodingSession | None":
    if options.model == "none":
        return None
    from ddpm_codec.codecs.session import CodingSession

    return CodingSession.for_encoding(options.model, options.device, options.steps)


def _add_all(
    encoder: ArchiveEncoder,
    files: list[tuple[Path, str]],
    target: Path,
    options: EncodeOptions,
    progress: Progress | None,
) -> list[bytes]:
    """Encode all pictures and return their digests, for verification."""
    digests = []
    for done, (path, name) in enumerate(files):
        picture = _read(path, name, options)
        if options.verify:
            digests.append(picture_digest(picture))
        with writing(target):
            encoder.add(picture)
        if progress is not None:
            progress(done, len(files))
    with writing(target):
        encoder.finish()
    return digests


def _archive_report(
    encoder: ArchiveEncoder, session: "CodingSession | None", size: int, seconds: float
) -> EncodeReport:
    infos, totals = encoder.infos, encoder.totals
    network_seconds = session.network_seconds if session else 0.0
    return EncodeReport(
        images=len(infos),
        dims=sum(info.pixel_count * info.layout.channels for info in infos),
        pixels=sum(info.pixel_count for info in infos),
        file_bytes=size,
        net_bits=totals.net_bits,
        net_dims=totals.net_dims,
        fallback_images=totals.fallback_images,
        seconds=seconds,
        # The network has run even if the fallback turned out smaller.
        network_seconds=network_seconds,
        coding_seconds=encoder.coding.seconds,
        model=session.model.name if session and encoder.used_model else None,
        device=session.device.type if session and network_seconds else "cpu",
    )


def _verify_archive(path: Path, digests: list[bytes], model: ModelName | None, device: str) -> None:
    with open_source(path) as source:
        container = read_container(source, max_pixels=_UNLIMITED)
        _compare(ArchiveDecoder(container, model=model, device=device), digests)


def _encode_each(
    inputs: Sequence[Path], output: Path, options: EncodeOptions, progress: Progress | None
) -> list[ProgressiveReport]:
    """Encode each picture into a progressive file."""
    # Invalid options are refused before any picture is read.
    how = ProgressiveOptions(
        steps=options.steps,
        register_bits=options.register_bits,
        tail_level=options.tail_level,
        tile=options.tile,
        max_bpp=options.max_bpp,
        min_psnr_db=options.min_psnr_db,
    )
    files = list_inputs(inputs)
    reports: list[ProgressiveReport] = []
    # Leave no empty folder behind if the first picture fails.
    with removed_if_empty(output):
        targets = _progressive_targets(inputs, files, output, overwrite=options.overwrite)
        from ddpm_codec.codecs.session import Model

        opened: Model | None = None
        for (path, name), target in zip(files, targets, strict=True):
            picture = _read(path, name, options)
            opened = opened or Model.open(options.model, device=options.device)
            reports.append(_encode_one(opened, picture, target, how, options))
            if progress is not None:
                progress(len(reports), len(files))
    return reports


def _encode_one(
    model: "Model", picture: Picture, target: Path, how: ProgressiveOptions, options: EncodeOptions
) -> ProgressiveReport:
    """Write the file of one picture: progressive if the model supports its mode, else lossless by the fallback."""
    whole = Stopwatch()
    with whole:
        make = _progressive_file if picture.mode in COLOUR_MODES else _fallback_file
        data, report = make(model, picture, target, how, options.verify)
        with new_file(target, overwrite=options.overwrite) as temporary:
            temporary.write_bytes(data)
    report.file, report.seconds = str(target), whole.seconds
    return report


def _progressive_file(
    model: "Model", picture: Picture, target: Path, how: ProgressiveOptions, verify: bool
) -> tuple[bytes, ProgressiveReport]:
    from ddpm_codec.codecs.progressive.encoder import encode_picture

    session = model.session(choose_steps(model.codec_model, how.steps, picture.info.pixel_count))
    network_seconds = session.network_seconds
    encoded = encode_picture(session, picture, how, file_name=target.name)
    report = ProgressiveReport.of(encoded, picture.info, session.network_seconds - network_seconds)
    report.model, report.device = session.model.name, session.device.type
    if verify:
        with _named_after(target):
            _verify_progressive(encoded, model, picture, target)
    return encoded.file.data, report


def _verify_progressive(encoded: "EncodedPicture", model: "Model", picture: Picture, target: Path) -> None:
    source = ByteSource(encoded.file.data, str(target), target.name)
    file = read_sections(source, max_pixels=_UNLIMITED)
    decoded = ProgressiveReader(file, model=model.path, device=model.device.type).decode(DecodeLimits())
    same = picture_digest(decoded.picture) == picture_digest(picture)
    if decoded.lossless != encoded.lossless or (encoded.lossless and not same):
        raise FormatError(f"{picture.name}: does not decode to the same picture")


@contextmanager
def _named_after(target: Path) -> Iterator[None]:
    """Add to an error of verification that nothing was written."""
    try:
        yield
    except FormatError as error:
        named = "" if str(target) in str(error) else f"{target}: "
        raise FormatError(f"{named}{error}; nothing was written") from error


def _fallback_file(
    _model: "Model", picture: Picture, target: Path, how: ProgressiveOptions, verify: bool
) -> tuple[bytes, ProgressiveReport]:
    """Encode a picture in a mode the model does not support: lossless, by the fallback, not progressive."""
    if how.max_bpp is not None or how.min_psnr_db is not None:
        raise InputError(
            f"{picture.name}: mode {picture.mode} cannot be progressive; --bpp and --psnr need RGB or RGBA"
        )
    data = encode_archive([picture], None, FALLBACK_OPTIONS)
    if verify:
        container = read_container(ByteSource(data, str(target)), max_pixels=_UNLIMITED)
        with _named_after(target):
            _compare(ArchiveDecoder(container), [picture_digest(picture)])
    note = f"{picture.name}: mode {picture.mode} is coded by the fallback: lossless, but not progressive"
    return data, ProgressiveReport.of_whole(picture.info, len(data), note)


def _progressive_targets(
    inputs: Sequence[Path], files: list[tuple[Path, str]], output: Path, *, overwrite: bool
) -> list[Path]:
    """Return the output file of each picture, and create the folders.

    Args:
        inputs: the inputs as named by the user.
        files: the pictures found there, with their names.
        output: the file of one picture, or a folder.
        overwrite: replace existing files.

    Raises:
        InputError: ``output`` is the input, or one file for several pictures.
        OutputExistsError: an output exists.
        OutputError: an output cannot be written.
    """
    if len(files) == 1 and not inputs[0].is_dir() and not output.is_dir():
        check_target(output, overwrite=overwrite, sources=[files[0][0]])
        return [output]
    if output.suffix == ".ddpm" and not output.is_dir():
        raise InputError(
            f"{output}: a progressive file holds one picture; with {len(files)} inputs, the output must be a folder"
        )
    names = [str(PurePosixPath(name).with_suffix(".ddpm")) for _, name in files]
    if len({name.casefold() for name in names}) < len(names):
        names = [f"{name}.ddpm" for _, name in files]
    targets = [output / name for name in names]
    for target in targets:
        if target.parent.is_dir():
            check_target(target, overwrite=overwrite)
    try:
        for folder in dict.fromkeys(target.parent for target in targets):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: the folder cannot be created ({reason(error)})") from error
    for target in targets:
        check_target(target, overwrite=overwrite)
    return targets


def _read(path: Path, name: str, options: EncodeOptions) -> Picture:
    """Read a picture; ``strip`` omits its ICC, EXIF and XMP."""
    picture = read_picture(path, first_frame=options.first_frame, name=name)
    if not options.strip:
        return picture
    info = picture.info
    bare = PictureInfo(info.name, info.mode, info.size, info.palette, info.transparency)
    return Picture(bare, picture.pixels)


def picture_digest(picture: Picture) -> bytes:
    """Return a SHA-256 of the pixels and the picture info."""
    return hashlib.sha256(repr(picture.info).encode("utf-8", "surrogateescape") + picture.pixels).digest()


def _compare(decoder: ArchiveDecoder, digests: list[bytes]) -> None:
    """Decode an archive and compare it with the encoded pictures.

    Args:
        decoder: decoder of the archive.
        digests: digests of the encoded pictures, in order; see :func:`picture_digest`.

    Raises:
        FormatError: a picture is missing or differs.
    """
    seen: set[int] = set()
    for index, picture in decoder.pictures():
        seen.add(index)
        if picture_digest(picture) != digests[index]:
            raise FormatError(f"{picture.name}: does not decode to the same picture")
    if len(seen) != len(digests):
        raise FormatError(f"{len(digests) - len(seen)} pictures are missing after decoding")
