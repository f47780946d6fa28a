"""Picture files to one ``.ddpm`` file. Importing this loads no torch."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_codec.atomic import check_target, proved
from ddpm_codec.codecs.decoding import decode_blocks
from ddpm_codec.codecs.layout import MODEL, BlockHeader
from ddpm_codec.codecs.options import DEFAULT_BLOCK_PIXELS, MAX_BLOCK_TILES, MAX_TILE, CodingOptions
from ddpm_codec.codecs.reports import EncodeReport, Progress
from ddpm_codec.container import (
    CODEC_BITS_BACK,
    CODEC_FALLBACK,
    ROUTE_FALLBACK,
    ROUTE_MODEL,
    ContainerWriter,
    Head,
    ImageEntry,
    read_container,
)
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.image_io import IMAGE_EXTENSIONS, Picture, PictureInfo, list_inputs, read_picture
from ddpm_codec.models.registry import DEFAULT

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession


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
        output: the .ddpm file; its extension must not be that of a picture.
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
    if output.suffix.lower() in IMAGE_EXTENSIONS:
        raise InputError(
            f"{output}: {output.suffix} is the name of a picture; what is written is no such file, use .ddpm"
        )
    check_target(output, overwrite=overwrite)
    files = list_inputs(inputs)
    if output.exists() and any(path.samefile(output) for path, _ in files):
        raise InputError(f"{output}: is one of the pictures; name another output")
    session = _open_session(model, device, levels)
    options = checked_options(block_pixels, tile if tile is not None else (session.model.tile if session else 256))
    run = _Encoding(session, options, strip, first_frame)
    with proved(output, overwrite=overwrite) if verify else nullcontext(output) as target:
        report = run.write(files, target, overwrite, progress)
        if verify:
            verify_file(target, run.digests, Path(model) if session else None, device)
    report.seconds = time.perf_counter() - started
    report.coder_seconds = max(0.0, report.coding_seconds - report.network_seconds)
    return report


def _open_session(model: str, device: str, levels: int | None) -> "CodingSession | None":
    if model == "none":
        return None
    from ddpm_codec.codecs.session import CodingSession

    return CodingSession.for_encoding(model, device, levels)


def checked_options(block_pixels: int, tile: int) -> CodingOptions:
    """Return the sizes of blocks and tiles.

    Raises:
        InputError: they make no sense.
    """
    if not 8 <= tile <= MAX_TILE or tile % 8 or block_pixels < 1:
        raise InputError(f"tile = {tile}, block of {block_pixels} pixels: a tile is a multiple of 8 up to {MAX_TILE}")
    options = CodingOptions(block_pixels, tile)
    if options.square_tiles > MAX_BLOCK_TILES:
        raise InputError(
            f"tile = {tile}, block of {block_pixels} pixels: a block would have {options.square_tiles} tiles, at most "
            f"{MAX_BLOCK_TILES} may be; use larger tiles or smaller blocks"
        )
    return options


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
                picture = read_stripped(path, name, self._first_frame, self._strip)
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
        network_seconds = self._session.network_seconds if self._session else 0.0
        return EncodeReport(
            images=len(infos),
            dims=sum(info.pixel_count * info.layout.channels for info in infos),
            pixels=sum(info.pixel_count for info in infos),
            file_bytes=size,
            net_bits=encoder.totals.net_bits,
            net_dims=encoder.totals.net_dims,
            fallback_images=encoder.totals.fallback_images,
            # The network has run, too, where the fallback turned out smaller.
            network_seconds=network_seconds,
            coding_seconds=coding,
            model=self._session.model.name if self._session and encoder.used_model else None,
            device=self._session.device.type if self._session and network_seconds else "cpu",
        )

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


def read_stripped(path: Path, name: str, first_frame: bool, strip: bool) -> Picture:
    """Read a picture; with ``strip``, without its ICC, EXIF and XMP.

    Raises:
        InputError: it cannot be read.
    """
    picture = read_picture(path, first_frame=first_frame, name=name)
    if not strip:
        return picture
    info = picture.info
    bare = PictureInfo(info.name, info.mode, info.size, info.palette, info.transparency)
    return Picture(bare, picture.pixels)


def write_fallback_file(picture: Picture, target: Path, *, overwrite: bool) -> int:
    """Write a file with one picture, coded by the fallback, and return its bytes.

    Raises:
        OutputExistsError: ``target`` is there.
        OutputError: it cannot be written.
    """
    from ddpm_codec.codecs.lossless import LosslessEncoder

    with ContainerWriter(target, overwrite=overwrite) as writer:

        def emit(_: BlockHeader, payload: bytes) -> None:
            writer.add_block(payload)

        encoder = LosslessEncoder(None, CodingOptions(1, 8), emit)
        encoder.add(picture)
        encoder.finish()
        return writer.finish(Head(CODEC_FALLBACK), [ImageEntry(picture.info, ROUTE_FALLBACK)])


def picture_digest(picture: Picture) -> bytes:
    """Return a SHA-256 of pixels and description."""
    return hashlib.sha256(repr(picture.info).encode("utf-8", "surrogateescape") + picture.pixels).digest()


def verify_file(path: Path, digests: list[bytes], extra: Path | None, device: str) -> None:
    """Decode ``path`` and compare with what was encoded.

    Raises:
        FormatError: a picture did not come back.
    """
    seen: set[int] = set()

    def compare(index: int, picture: Picture) -> None:
        seen.add(index)
        if picture_digest(picture) != digests[index]:
            raise FormatError(f"{picture.name}: did not come back as it was")

    decode_blocks(read_container(path, max_pixels=1 << 62), device, extra, compare)
    if len(seen) != len(digests):
        raise FormatError(f"{len(digests) - len(seen)} pictures did not come back")
