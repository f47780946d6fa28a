"""Files in, files out: what the command line and most users call. Importing this loads no torch."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_codec.atomic import check_target, publish
from ddpm_codec.codecs.layout import MODEL, BlockHeader
from ddpm_codec.codecs.options import CodingOptions
from ddpm_codec.codecs.output import PictureSink
from ddpm_codec.codecs.reports import DecodeReport, EncodeReport
from ddpm_codec.container import (
    CODEC_BITS_BACK,
    CODEC_FALLBACK,
    DEFAULT_MAX_PIXELS,
    ROUTE_FALLBACK,
    ROUTE_MODEL,
    Container,
    ContainerWriter,
    Head,
    ImageEntry,
    read_container,
)
from ddpm_codec.errors import DdpmCodecError, FormatError, InputError
from ddpm_codec.image_io import Picture, PictureInfo, list_inputs, read_picture
from ddpm_codec.zoo.registry import DEFAULT

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession

Progress = Callable[[int, int], None]
DEFAULT_BLOCK_PIXELS = 1 << 22


def encode_files(
    inputs: Sequence[Path],
    output: Path,
    *,
    model: str = DEFAULT,
    device: str = "auto",
    overwrite: bool = False,
    strip: bool = False,
    first_frame: bool = False,
    verify: bool = False,
    block_pixels: int = DEFAULT_BLOCK_PIXELS,
    tile: int | None = None,
    levels: int | None = None,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode picture files and folders of them into one file, without loss.

    Args:
        inputs: files and folders.
        output: the .ddpm file.
        model: name or file of a model; ``none``: everything goes through the fallback.
        device: ``auto``, ``cpu`` or ``cuda``.
        overwrite: replace ``output``.
        strip: leave ICC, EXIF and XMP out.
        first_frame: of pictures with several frames take the first.
        verify: decode what was written and compare, before ``output`` appears.
        block_pixels: pixels of a block, the unit of damage.
        tile: side of the tiles of large pictures, a multiple of 8; None: the model's own.
        levels: K of the chain; None: the model's own.
        progress: called with (pictures done, pictures).

    Raises:
        InputError: an input, an option or the device is at fault.
        ModelError: no such model or chain.
        OutputExistsError: ``output`` is there.
        OutputError: it cannot be written.
    """
    started = time.perf_counter()
    check_target(output, overwrite=overwrite)
    files = list_inputs(inputs)
    session = _open_session(model, device, levels)
    side = tile if tile is not None else (session.model.tile if session else 256)
    if side < 8 or side % 8 or block_pixels < 1:
        raise InputError(
            f"tile = {side}, block of {block_pixels} pixels: a tile needs a multiple of 8, a block a pixel"
        )
    options = CodingOptions(block_pixels, side)
    target = output.with_name(f".{output.name}.unverified") if verify else output
    run = _Encoding(session, options, strip, first_frame)
    try:
        report = run.write(files, target, overwrite or verify, progress)
        if verify:
            _verify(target, run.digests, Path(model) if session and Path(model).is_file() else None, device)
            publish(target, output, overwrite=overwrite)
    finally:
        if verify:
            target.unlink(missing_ok=True)
    report.seconds = time.perf_counter() - started
    report.coder_seconds = max(0.0, report.coding_seconds - report.network_seconds)
    return report


def _open_session(model: str, device: str, levels: int | None) -> "CodingSession | None":
    if model == "none":
        return None
    from ddpm_codec.codecs.session import CodingSession

    return CodingSession.for_encoding(model, device, levels)


class _Encoding:
    """One encoding, from files to a file."""

    def __init__(self, session: "CodingSession | None", options: CodingOptions, strip: bool, first_frame: bool) -> None:
        self._session, self._options = session, options
        self._strip, self._first_frame = strip, first_frame
        self.digests: list[bytes] = []

    def write(
        self, files: list[tuple[Path, str]], target: Path, overwrite: bool, progress: Progress | None
    ) -> EncodeReport:
        """Encode ``files`` into ``target`` and report sizes and times."""
        from ddpm_codec.codecs.lossless import LosslessEncoder

        infos: list[PictureInfo] = []
        routes: dict[int, int] = {}
        coding = 0.0
        with ContainerWriter(target, overwrite=overwrite) as writer:

            def emit(header: BlockHeader, payload: bytes) -> None:
                writer.add_block(payload)
                route = ROUTE_MODEL if header.kind == MODEL else ROUTE_FALLBACK
                routes.update(dict.fromkeys(header.pictures, route))

            encoder = LosslessEncoder(self._session.lattice if self._session else None, self._options, emit)
            for done, (path, name) in enumerate(files):
                picture = self._read(path, name)
                infos.append(picture.info)
                self.digests.append(picture_digest(picture))
                started = time.perf_counter()
                encoder.add(picture)
                coding += time.perf_counter() - started
                if progress is not None:
                    progress(done, len(files))
            started = time.perf_counter()
            encoder.finish()
            coding += time.perf_counter() - started
            images = [ImageEntry(info, routes[index]) for index, info in enumerate(infos)]
            size = writer.finish(self._head(encoder.used_model), images)
        if progress is not None:
            progress(len(files), len(files))
        session = self._session if encoder.used_model else None
        return EncodeReport(
            images=len(infos),
            dims=sum(info.pixel_count * info.layout.channels for info in infos),
            pixels=sum(info.pixel_count for info in infos),
            file_bytes=size,
            net_bits=encoder.totals.net_bits,
            net_dims=encoder.totals.net_dims,
            fallback_images=encoder.totals.fallback_images,
            network_seconds=session.network_seconds if session else 0.0,
            coding_seconds=coding,
            model=session.model.name if session else None,
            device=session.device.type if session else "cpu",
        )

    def _read(self, path: Path, name: str) -> Picture:
        picture = read_picture(path, first_frame=self._first_frame, name=name)
        if not self._strip:
            return picture
        info = picture.info
        bare = PictureInfo(info.name, info.mode, info.size, info.palette, info.transparency)
        return Picture(bare, picture.pixels)

    def _head(self, used_model: bool) -> Head:
        if self._session is None or not used_model:
            return Head(CODEC_FALLBACK)
        session = self._session
        parameters: dict[str, int | str] = {
            "block_pixels": self._options.block_pixels,
            "tile": self._options.tile,
            "steps": session.steps,
        }
        name, identity = session.model.name, bytes.fromhex(session.model_id)
        return Head(CODEC_BITS_BACK, name, identity, session.fingerprint(), parameters)


def picture_digest(picture: Picture) -> bytes:
    """Return a SHA-256 of pixels and description."""
    return hashlib.sha256(repr(picture.info).encode("utf-8", "surrogateescape") + picture.pixels).digest()


def _verify(path: Path, digests: list[bytes], extra: Path | None, device: str) -> None:
    """Decode ``path`` and compare with what was encoded.

    Raises:
        FormatError: a picture did not come back.
    """
    seen = 0

    def compare(index: int, picture: Picture) -> None:
        nonlocal seen
        seen += 1
        if picture_digest(picture) != digests[index]:
            raise FormatError(f"{picture.name}: did not come back as it was; nothing was written")

    _decode(read_container(path, max_pixels=1 << 62), device, extra, compare, keep_going=False)
    if seen != len(digests):
        raise FormatError(f"{len(digests) - seen} pictures did not come back; nothing was written")


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
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode a file into picture files of lossless formats.

    Args:
        path: the .ddpm file.
        output: a picture file, where ``path`` holds one picture and ``output`` names no folder; else a folder, which
            appears only when everything has been decoded, unless it is there already.
        model: a model file beyond those that ship.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        overwrite: replace files that are there.
        keep_going: of a damaged file write the pictures that can be recovered; ``damaged`` of the report says what
            could not.
        max_pixels: refuse a file that declares more pixels.
        output_format: extension of the pictures within a folder.
        progress: called with (pictures done, pictures).

    Raises:
        EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
        FormatError: the file is damaged.
        InputError: an option is at fault, or a format cannot hold a picture.
        ModelError: the model that it was coded with is not here.
        OutputExistsError: an output is there.
        OutputError: it cannot be written.
    """
    started = time.perf_counter()
    opened = read_container(path, max_pixels=max_pixels, tolerant=keep_going)
    infos = [entry.info for entry in opened.images]
    report = DecodeReport()
    with PictureSink(output, infos, overwrite=overwrite, output_format=output_format) as sink:

        def write(index: int, picture: Picture) -> None:
            report.notes += sink.write(index, picture)
            report.images += 1
            report.pixels += picture.info.pixel_count
            if progress is not None:
                progress(report.images, len(infos))

        session = _decode(opened, device, model, write, keep_going=keep_going, damaged=report.damaged, report=report)
        if report.damaged and not report.images:
            raise FormatError(f"{path}: no picture can be recovered ({report.damaged[0]})")
        sink.commit()
    if session is not None:
        report.model, report.device = session.model.name, session.device.type
        report.network_seconds = session.network_seconds
    report.coder_seconds = max(0.0, report.coding_seconds - report.network_seconds)
    report.seconds = time.perf_counter() - started
    return report


def _decode(
    opened: Container,
    device: str,
    extra: Path | None,
    take: Callable[[int, Picture], None],
    *,
    keep_going: bool,
    damaged: list[str] | None = None,
    report: DecodeReport | None = None,
) -> "CodingSession | None":
    """Decode every block and hand the pictures to ``take``; with ``keep_going``, list in ``damaged`` what fails."""
    from ddpm_codec.codecs.lossless import LosslessDecoder

    failures = damaged if damaged is not None else []
    failures += opened.damaged
    infos = [entry.info for entry in opened.images]
    session, options = _session_of(opened, device, extra)
    decoder = LosslessDecoder(session.lattice if session else None, options, infos)
    seconds = 0.0
    for index, block in enumerate(opened.blocks):
        if block is None:
            continue
        started = time.perf_counter()
        try:
            pictures = list(_decode_block(opened, index, decoder))
        except FormatError as error:
            if not keep_going:
                raise
            failures.append(str(error))
            pictures = []
        seconds += time.perf_counter() - started
        for number, picture in pictures:
            take(number, picture)
    missing = decoder.missing()
    if missing and not keep_going:
        raise FormatError(f"{opened.path}: {len(missing)} pictures are in no block")
    failures += [f"{infos[number].name}: lost" for number in missing]
    if report is not None:
        report.coding_seconds = seconds
    return session


def _decode_block(opened: Container, index: int, decoder: Any) -> Sequence[tuple[int, Picture]]:  # noqa: ANN401
    """Decode one block; whatever is wrong with it becomes one line that names file and block."""
    payload = opened.read_block(index)
    try:
        return list(decoder.decode(payload))
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
    if not all(isinstance(value, int) and 1 <= value < 1 << 40 for value in values) or int(values[1]) % 8:
        raise FormatError(f"{opened.path}: its coding parameters are damaged")
    block_pixels, tile, steps = (int(value) for value in values)
    session = CodingSession.for_decoding(
        head.model_id.hex(), dict(head.fingerprint), steps, device, extra, str(opened.path)
    )
    return session, CodingOptions(block_pixels, tile)


def describe_file(path: Path) -> dict[str, Any]:
    """Return what a file holds, without decoding it: facts, and ``pictures``, a list of rows.

    Raises:
        FormatError: the file is damaged.
        InputError: it cannot be read.
    """
    opened = read_container(path, max_pixels=1 << 62)
    head = opened.head
    rows = [
        {
            "name": entry.info.name,
            "width": entry.info.size[0],
            "height": entry.info.size[1],
            "mode": entry.info.mode,
            "coded_by": "model" if entry.route == ROUTE_MODEL else "fallback",
            "metadata": ", ".join(entry.info.metadata) or None,
        }
        for entry in opened.images
    ]
    dims = sum(entry.info.pixel_count * entry.info.layout.channels for entry in opened.images)
    return {
        "file": str(path),
        "codec": "fallback only" if head.codec == CODEC_FALLBACK else "bits-back lossless",
        "file_bytes": opened.file_bytes,
        "file_bpd": 8 * opened.file_bytes / dims if dims else None,
        "images": len(rows),
        "pixels": opened.pixel_count,
        "blocks": len(opened.blocks),
        "model": head.model_name or None,
        "model_id": head.model_id.hex() or None,
        **{f"coding_{key}": value for key, value in head.parameters.items()},
        **{f"environment_{key}": value for key, value in head.fingerprint.items()},
        "pictures": rows,
    }


__all__ = [
    "DEFAULT_BLOCK_PIXELS",
    "DEFAULT_MAX_PIXELS",
    "DdpmCodecError",
    "DecodeReport",
    "EncodeReport",
    "decode_file",
    "describe_file",
    "encode_files",
]
