"""Pictures to progressive files. Importing this loads no torch."""

import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from ddpm_codec.atomic import check_target, publish, reason
from ddpm_codec.codecs.encoding import Progress, checked_options, picture_digest, read_stripped, write_fallback_file
from ddpm_codec.codecs.fallback import encode_array
from ddpm_codec.codecs.options import DEFAULT_BLOCK_PIXELS
from ddpm_codec.codecs.progressive.parameters import MAX_REGISTER, MIN_REGISTER, ProgressiveParameters
from ddpm_codec.codecs.reports import ProgressiveReport
from ddpm_codec.container.layout import CODEC_PROGRESSIVE, ROUTE_MODEL, SHORT_ID_BYTES, Head, ImageEntry
from ddpm_codec.container.sections import SectionWriter, preamble_bytes, section_bytes
from ddpm_codec.errors import FormatError, InputError, OutputError
from ddpm_codec.image_io import IMAGE_EXTENSIONS, Picture, PictureInfo, list_inputs
from ddpm_codec.zoo.registry import DEFAULT

if TYPE_CHECKING:
    from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder, Section
    from ddpm_codec.codecs.progressive.steps import ProgressiveChain
    from ddpm_codec.codecs.session import CodingSession

STEPS, SMALL_STEPS = 16, 12
"""Steps of a progressive chain: more and smaller ones than bits-back wants; fewer for pictures below BRIDGED_PIXELS, where
every step costs some bytes of its own."""

TAIL_SIGMA = 4.0
"""Grey levels of noise at which bits-back takes over from the indices: finer than that, no eye sees the steps."""

BRIDGED_PIXELS = 1 << 14
"""From so many pixels on, bits-back ends the file; smaller pictures cannot start it cheaply."""

COMPARED_PIXELS = 1 << 16
"""Up to so many pixels, indices to the end are tried as well and the smaller file is kept."""

TAIL_TILES = (256, 128, 64)
"""Sides of tiles below the tail level: the first of them that can be started."""

REGISTERS = ((1 << 14, 16), (1 << 20, 14), (1 << 22, 12))
"""Up to so many pixels, so many bits of register: each two bits more cost four times the time."""

LEAST_REGISTER = 10


@dataclass(frozen=True)
class ProgressiveOptions:
    """What an encoder may choose.

    Attributes:
        model: name or file of a model.
        device: ``auto``, ``cpu`` or ``cuda``.
        levels: K of the chain; None: by the size of the picture.
        register_bits: of the trellis; None: by the size of the picture.
        tail_level: level at which indices end; None: by the size of the picture.
        tile: side of tiles below the tail level; None: see TAIL_TILES.
        max_bpp: stop before the file has more bits a pixel; None: do not.
        min_psnr_db: stop when the ``mean`` reconstruction is as good; None: do not.
        strip: leave ICC, EXIF and XMP out.
        first_frame: of pictures with several frames take the first.
        verify: decode what was written and compare, before the file appears.
    """

    model: str = DEFAULT
    device: str = "auto"
    levels: int | None = None
    register_bits: int | None = None
    tail_level: int | None = None
    tile: int | None = None
    max_bpp: float | None = None
    min_psnr_db: float | None = None
    strip: bool = False
    first_frame: bool = False
    verify: bool = False

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: naming the option.
        """
        for name, value in (("bpp", self.max_bpp), ("psnr", self.min_psnr_db)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} = {value:g}: must be a positive number")
        if self.register_bits is not None and not MIN_REGISTER <= self.register_bits <= MAX_REGISTER:
            raise InputError(f"register bits = {self.register_bits}: must lie in {MIN_REGISTER}..{MAX_REGISTER}")


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
    from ddpm_codec.codecs.session import CodingSession

    options.check()
    files = list_inputs(inputs)
    targets = _targets(inputs, files, output, overwrite)
    sessions: dict[int | None, CodingSession] = {}
    reports = []
    for done, ((path, name), target) in enumerate(zip(files, targets, strict=True)):
        picture = read_stripped(path, name, options.first_frame, options.strip)
        steps = chosen_steps(options.model, options.levels, picture.info.pixel_count)
        if steps not in sessions:
            sessions[steps] = CodingSession.for_encoding(options.model, options.device, steps)
        session = sessions[steps]
        encode = _encode_one if picture.mode in ("RGB", "RGBA") else _encode_whole
        reports.append(encode(session, picture, target, options, overwrite))
        if progress is not None:
            progress(done + 1, len(files))
    return reports


def chosen_steps(model: str, levels: int | None, pixels: int) -> int | None:
    """Return the K of a progressive chain for a picture of so many pixels; None is the model's own.

    Raises:
        ModelError: no such model.
    """
    from ddpm_codec.zoo import find_model

    if levels is not None:
        return levels
    steps = STEPS if pixels >= BRIDGED_PIXELS else SMALL_STEPS
    return steps if steps in _chains(find_model(model)) else None


@lru_cache(maxsize=4)
def _chains(model: Path) -> frozenset[int]:
    from ddpm_codec.nn.frozen import load_model

    return frozenset(load_model(model).sigmas)


def choose_parameters(
    chain: "ProgressiveChain",
    pixels: int,
    register_bits: int | None = None,
    tail_level: int | None = None,
    tile: int | None = None,
) -> ProgressiveParameters:
    """Return the parameters for a picture of so many pixels; None leaves the choice to its size.

    Raises:
        InputError: a parameter does not fit the chain.
    """
    if register_bits is None:
        register_bits = next((bits for most, bits in REGISTERS if pixels <= most), LEAST_REGISTER)
    if tail_level is None:
        noisy = np.flatnonzero(chain.sigmas >= TAIL_SIGMA)
        tail_level = int(noisy[0]) if pixels >= BRIDGED_PIXELS and len(noisy) else 0
    if not 0 <= tail_level <= chain.steps:
        raise InputError(f"tail level = {tail_level}: the chain has levels 0 to {chain.steps}")
    tile = TAIL_TILES[0] if tile is None else tile
    checked_options(DEFAULT_BLOCK_PIXELS, tile)
    return ProgressiveParameters(chain.steps, register_bits, tail_level, tile, DEFAULT_BLOCK_PIXELS)


def head_of(session: "CodingSession", parameters: ProgressiveParameters) -> Head:
    """Return the head of a file."""
    identity = bytes.fromhex(session.model_id)[:SHORT_ID_BYTES]
    return Head(CODEC_PROGRESSIVE, session.model.name, identity, session.fingerprint(), parameters.values())


def preamble_of(session: "CodingSession", parameters: ProgressiveParameters, info: PictureInfo) -> int:
    """Return the bytes of a file before its first section."""
    return preamble_bytes(head_of(session, parameters), ImageEntry(info, ROUTE_MODEL))


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
    started, network = time.perf_counter(), session.network_seconds
    run = _Run(session, picture, options)
    report = run.report
    written = target.with_name(f".ddpm-{secrets.token_hex(8)}.tmp") if options.verify else target
    try:
        run.write(written, overwrite)
        if options.verify:
            _verify(written, picture, options, report.lossless)
            publish(written, target, overwrite=overwrite)
    finally:
        if options.verify:
            written.unlink(missing_ok=True)
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
    size = write_fallback_file(picture, target, overwrite=overwrite)
    info = picture.info
    report = ProgressiveReport(str(target), info.pixel_count * info.layout.channels, info.pixel_count, size)
    report.lossless = True
    report.notes.append(
        f"{picture.name}: mode {picture.mode} goes to the fallback whole: lossless, but not progressive"
    )
    report.seconds = time.perf_counter() - started
    return report


class _Run:
    """One picture on its way to a file."""

    def __init__(self, session: "CodingSession", picture: Picture, options: ProgressiveOptions) -> None:
        self._session, self._picture, self._options = session, picture, options
        self._pixels = np.ascontiguousarray(picture.array()[:, :, :3])
        self._parameters = choose_parameters(
            session.chain(), picture.info.pixel_count, options.register_bits, options.tail_level, options.tile
        )
        self._first = 0
        info = picture.info
        self.report = ProgressiveReport(
            file="",
            dims=info.pixel_count * info.layout.channels,
            pixels=info.pixel_count,
            model=session.model.name,
            device=session.device.type,
        )

    def write(self, target: Path, overwrite: bool) -> None:
        """Encode and write ``target``."""
        # Everything is encoded first: what the end is like stands in the head.
        alpha = self._alpha()
        sections = self._sections(0 if alpha is None else section_bytes(alpha))
        report, head = self.report, head_of(self._session, self._parameters)
        with SectionWriter(target, head, self._image(), overwrite=overwrite) as writer:
            report.header_bytes = writer.bytes
            if alpha is not None:
                writer.add(alpha)
                report.alpha_bytes = len(alpha)
                report.header_bytes += section_bytes(alpha) - len(alpha)
            for section in sections:
                end = writer.add(section.payload)
                report.header_bytes += section_bytes(section.payload) - len(section.payload)
                report.sections.append({"level": section.level, "end": end})
                report.index_ideal_bits += section.ideal_bits
                if section.level < 0:
                    report.tail_bytes += len(section.payload)
                else:
                    report.index_bytes += len(section.payload)
            report.file_bytes = writer.bytes
        report.tail_level = self._parameters.tail_level

    def _alpha(self) -> bytes | None:
        if self._picture.mode != "RGBA":
            return None
        return encode_array(np.ascontiguousarray(self._picture.array()[:, :, 3]))

    def _image(self) -> ImageEntry:
        return ImageEntry(self._picture.info, ROUTE_MODEL)

    def _sections(self, before: int) -> "list[Section]":
        """Return the sections, and settle parameters and losslessness.

        Raises:
            InputError: the bits allowed are too few for a first picture.
        """
        import torch

        from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder

        options, pixels = self._options, self._picture.info.pixel_count
        encoder = ProgressiveEncoder(
            self._session.chain(),
            self._session.lattice,
            self._parameters,
            self._pixels,
            threads=torch.get_num_threads(),
        )
        taken = before + preamble_of(self._session, self._parameters, self._picture.info)
        limit = math.inf if options.max_bpp is None else options.max_bpp * pixels / 8 - taken
        found: list[Section] = []
        whole = self._index_sections(encoder, found, limit)
        tail = encoder.tail(TAIL_TILES if options.tile is None else (options.tile,)) if whole else None
        self._parameters = encoder.parameters
        if whole and self._parameters.tail_level and (tail is None or pixels <= COMPARED_PIXELS):
            found, tail = self._indices_to_the_end(encoder, found, tail, limit)
        if not found:
            raise InputError(
                f"{self._picture.name}: the first picture takes {8 * (taken + self._first) / pixels:.3f} bits a pixel"
            )
        if tail is not None and _bytes_of(found) + _bytes_of(tail) <= limit:
            found += tail
            self.report.lossless = True
        return found

    def _indices_to_the_end(
        self, encoder: "ProgressiveEncoder", found: "list[Section]", tail: "list[Section] | None", limit: float
    ) -> "tuple[list[Section], list[Section] | None]":
        """Return the sections and the tail of indices to the end, where there is no other tail or a larger one."""
        longer = list(found)
        encoder.go_on_to(0)
        if not self._index_sections(encoder, longer, limit if tail is None else math.inf):
            self._parameters = encoder.parameters
            return longer, None
        direct = encoder.tail(TAIL_TILES)
        if tail is not None and _bytes_of(found) + _bytes_of(tail) <= _bytes_of(longer) + _bytes_of(direct or []):
            return found, tail
        self._parameters = encoder.parameters
        return longer, direct

    def _index_sections(self, encoder: "ProgressiveEncoder", found: "list[Section]", limit: float) -> bool:
        """Append sections; say whether all of them fitted and the quality asked for is not reached yet."""
        goal = self._options.min_psnr_db
        size = _bytes_of(found)
        for section in encoder.sections():
            size += section_bytes(section.payload)
            if size > limit:
                self._first = size
                return False
            found.append(section)
            # Between levels it would cost a network evaluation a section.
            if goal is not None and encoder.walk.at_level_end and encoder.psnr_db() >= goal:
                return False
        return True


def _bytes_of(sections: "list[Section]") -> int:
    return sum(section_bytes(section.payload) for section in sections)


def _verify(path: Path, picture: Picture, options: ProgressiveOptions, lossless: bool) -> None:
    """Decode ``path`` and compare with what was encoded.

    Raises:
        FormatError: it is not what it should be.
    """
    from ddpm_codec.codecs.progressive.decoding import DecodeOptions, decode_picture

    extra = Path(options.model) if Path(options.model).is_file() else None
    decoded, report = decode_picture(path, DecodeOptions(model=extra, device=options.device), max_pixels=1 << 62)
    if report.lossless != lossless or (lossless and picture_digest(decoded) != picture_digest(picture)):
        raise FormatError(f"{picture.name}: did not come back as it was; nothing was written")
