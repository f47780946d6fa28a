"""Picture files to one archive. Importing this loads no torch."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_codec.atomic import check_target, proved
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder, ArchiveEncoder
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS, checked_options
from ddpm_codec.container import read_container
from ddpm_codec.errors import InputError
from ddpm_codec.files.pictures import UNLIMITED, compare, picture_digest, read_stripped
from ddpm_codec.files.reports import EncodeReport, Progress
from ddpm_codec.files.source import open_source
from ddpm_codec.files.targets import check_output_name, spooled, write_spooled, writing
from ddpm_codec.image_io import list_inputs
from ddpm_codec.models.registry import DEFAULT, ModelName
from ddpm_codec.stopwatch import Stopwatch

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession


def encode_files(
    inputs: Sequence[Path],
    output: Path,
    *,
    model: ModelName = DEFAULT,
    device: str = "auto",
    overwrite: bool = False,
    strip: bool = False,
    first_frame: bool = False,
    verify: bool = False,
    block_pixels: int = DEFAULT_BLOCK_PIXELS,
    tile: int | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode picture files and folders of them into one file, without loss.

    Args:
        inputs: files and folders.
        output: the .ddpm file; its extension must not be that of a picture.
        model: name or file of a model; ``none``: everything goes through the fallback.
        device: ``auto``, ``cpu`` or ``cuda``.
        overwrite: replace ``output``.
        strip: leave ICC, EXIF and XMP out.
        first_frame: of pictures with several frames take the first.
        verify: decode what was written and compare, before ``output`` appears.
        block_pixels: pixels of a block, the unit of damage.
        tile: side of the tiles of large pictures, a multiple of 8; None: the model's own.
        steps: K of the chain; None: the model's own.
        progress: called with (pictures done, pictures).

    Raises:
        InputError: an input, an option or the device is at fault.
        ModelError: no such model or chain.
        OutputExistsError: ``output`` is there.
        OutputError: it cannot be written.
    """
    whole = Stopwatch()
    with whole:
        check_output_name(output)
        check_target(output, overwrite=overwrite)
        files = list_inputs(inputs)
        if output.exists() and any(path.samefile(output) for path, _ in files):
            raise InputError(f"{output}: is one of the pictures; name another output")
        session = _open_session(model, device, steps)
        options = checked_options(block_pixels, tile if tile is not None else (session.model.tile if session else 256))
        with proved(output, overwrite=overwrite) if verify else nullcontext(output) as target:
            with spooled(target, overwrite=overwrite) as spool:
                encoder = ArchiveEncoder(session, options, spool)
                digests = _encode(encoder, files, target, strip, first_frame, progress)
                size = write_spooled(encoder, target, overwrite=overwrite)
            if progress is not None:
                progress(len(files), len(files))
            if verify:
                _verify(target, digests, model if session else None, device)
    return _report(encoder, session, size, whole.seconds)


def _encode(
    encoder: ArchiveEncoder,
    files: list[tuple[Path, str]],
    target: Path,
    strip: bool,
    first_frame: bool,
    progress: Progress | None,
) -> list[bytes]:
    """Encode picture after picture and return their digests."""
    digests = []
    for done, (path, name) in enumerate(files):
        picture = read_stripped(path, name, first_frame, strip)
        digests.append(picture_digest(picture))
        with writing(target):
            encoder.add(picture)
        if progress is not None:
            progress(done, len(files))
    with writing(target):
        encoder.finish()
    return digests


def _report(encoder: ArchiveEncoder, session: "CodingSession | None", size: int, seconds: float) -> EncodeReport:
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
        # The network has run, too, where the fallback turned out smaller.
        network_seconds=network_seconds,
        coding_seconds=encoder.coding.seconds,
        model=session.model.name if session and encoder.used_model else None,
        device=session.device.type if session and network_seconds else "cpu",
    )


def _open_session(model: ModelName, device: str, steps: int | None) -> "CodingSession | None":
    if model == "none":
        return None
    from ddpm_codec.codecs.session import CodingSession

    return CodingSession.for_encoding(model, device, steps)


def _verify(path: Path, digests: list[bytes], model: ModelName | None, device: str) -> None:
    with open_source(path) as source:
        container = read_container(source, max_pixels=UNLIMITED)
        compare(ArchiveDecoder(container, model=model, device=device), digests)
