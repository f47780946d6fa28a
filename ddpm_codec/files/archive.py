"""Encodes pictures into one archive."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_codec.atomic import check_target, new_file, proved, spooled, writing
from ddpm_codec.codecs.lossless.archive import ArchiveDecoder, ArchiveEncoder
from ddpm_codec.codecs.tiling import checked_options
from ddpm_codec.container import read_container
from ddpm_codec.files.inputs import Inputs
from ddpm_codec.files.options import EncodeOptions
from ddpm_codec.files.reports import EncodeReport, Progress
from ddpm_codec.files.source import open_source
from ddpm_codec.files.verification import UNLIMITED, compare, picture_digest
from ddpm_codec.models.registry import ModelName
from ddpm_codec.stopwatch import Stopwatch

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession


def write_archive(inputs: Inputs, output: Path, progress: Progress | None) -> EncodeReport:
    """Encode all pictures into one archive.

    Raises:
        DdpmCodecError: see :func:`~ddpm_codec.files.encoding.encode`.
    """
    options, whole = inputs.options, Stopwatch()
    with whole:
        check_target(output, overwrite=options.overwrite, sources=inputs.paths)
        inputs.check_headers()
        session = _open_session(options)
        own_tile = session.model.tile if session else 256
        cut = checked_options(options.block_pixels, own_tile if options.tile is None else options.tile)
        place = proved(output, overwrite=options.overwrite) if options.verify else nullcontext(output)
        with place as target:
            with spooled(target, overwrite=options.overwrite) as spool:
                encoder = ArchiveEncoder(session, cut, spool)
                digests = _add_all(encoder, inputs, target, progress)
                with new_file(target, overwrite=options.overwrite) as temporary, temporary.open("wb") as file:
                    size = encoder.write(file, file_name=output.name)
            if progress is not None:
                progress(len(inputs.entries), len(inputs.entries))
            if options.verify:
                _verify_archive(target, output.name, digests, options.model if session else None, options.device)
    report = _archive_report(encoder, session, size, whole.seconds)
    report.refused, report.left_out = inputs.refused, inputs.left_out
    report.notes = [note for entry in inputs.entries for note in inputs.notes_of(entry)]
    return report


def _open_session(options: EncodeOptions) -> "CodingSession | None":
    if options.model == "none":
        return None
    from ddpm_codec.codecs.session import CodingSession

    return CodingSession.for_encoding(options.model, options.device, options.steps)


def _add_all(encoder: ArchiveEncoder, inputs: Inputs, target: Path, progress: Progress | None) -> list[bytes]:
    """Encode all pictures and return their digests, for verification."""
    digests = []
    for done, (_, picture) in enumerate(inputs.pictures()):
        if inputs.options.verify:
            digests.append(picture_digest(picture))
        with writing(target):
            encoder.add(picture)
        if progress is not None:
            progress(done, len(inputs.entries))
    with writing(target):
        encoder.finish()
    return digests


def _archive_report(
    encoder: ArchiveEncoder, session: "CodingSession | None", size: int, seconds: float
) -> EncodeReport:
    infos, totals = encoder.infos, encoder.totals
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
        network_seconds=encoder.network_seconds,
        coding_seconds=encoder.coding.seconds,
        model=session.model.name if session and encoder.used_model else None,
        device=session.device.type if session and encoder.network_seconds else "cpu",
    )


def _verify_archive(path: Path, name: str, digests: list[bytes], model: ModelName | None, device: str) -> None:
    """Read back what was written to ``path`` and will be called ``name``."""
    with open_source(path, file_name=name) as source:
        container = read_container(source, max_pixels=UNLIMITED)
        compare(ArchiveDecoder(container, model=model, device=device), digests)
