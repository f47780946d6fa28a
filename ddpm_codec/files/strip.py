"""Draws a picture as its progressive file arrives: captioned frames, side by side or as an animation.

Importing this module does not load torch.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_codec.atomic import check_target, new_file
from ddpm_codec.codecs.progressive.reader import ProgressiveReader
from ddpm_codec.container import CODEC_PROGRESSIVE, DEFAULT_MAX_PIXELS, SectionFile, file_codec, read_sections
from ddpm_codec.distortion import psnr_db
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.files.drawing import FORMATS, Pixels, draw_tiles, over_white, save_pictures, side_by_side
from ddpm_codec.files.reports import Progress
from ddpm_codec.files.source import open_source
from ddpm_codec.image_io import read_picture, to_image
from ddpm_codec.isolation import isolated
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture

REFERENCE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


@dataclass(frozen=True)
class StripOptions:
    """Options of :func:`draw_strip`.

    Attributes:
        frames: maximum number of frames.
        width: maximum width of a frame in pixels; larger pictures are scaled down.
        delay_ms: milliseconds between frames of an animation; the last frame is shown three times as long.
        still: write a ``.webp`` with the frames side by side instead of an animation.
        reference: picture to compute PSNR against; None: the last frame, if it is lossless.
        reconstruction: ``mean``, ``sample`` or ``flow``.
        keep_going: draw a damaged file up to the damage.
    """

    frames: int = 8
    width: int = 384
    delay_ms: int = 700
    still: bool = False
    reference: Path | None = None
    reconstruction: str = "mean"
    keep_going: bool = False


@dataclass(frozen=True)
class Frame:
    """The picture after part of the file.

    Attributes:
        used_bytes: bytes of the file used, header included.
        bits_per_pixel: ``8 used_bytes / (width height)``.
        level: level reached by the whole picture; -1 is the picture itself.
        complete: whether no step beyond ``level`` has begun.
        shown: the pixels over white, [H, W, 3].
        psnr_db: PSNR of ``shown``; infinite if identical, None if there is no reference.
    """

    used_bytes: int
    bits_per_pixel: float
    level: int
    complete: bool
    shown: Pixels
    psnr_db: float | None = None

    @property
    def lossless(self) -> bool:
        """Whether the frame is the picture itself."""
        return self.level < 0

    def to_json(self) -> dict[str, Any]:
        """Return the figures; ``psnr_db`` is None if unknown or infinite."""
        return {
            "bytes": self.used_bytes,
            "bits_per_pixel": self.bits_per_pixel,
            "level": self.level,
            "lossless": self.lossless,
            "psnr_db": self.psnr_db if self.psnr_db is not None and math.isfinite(self.psnr_db) else None,
        }


@dataclass
class StripReport:
    """Report of :func:`draw_strip`.

    Attributes:
        file: the progressive file.
        output: the picture or animation.
        frames: one row per frame.
        damaged: with ``keep_going``, one line that says where the file is damaged.
    """

    file: str
    output: str
    frames: list[dict[str, Any]]
    damaged: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return dict(vars(self))


@isolated()
def draw_strip(
    path: Path,
    output: Path,
    options: StripOptions,
    *,
    model: ModelName | None = None,
    device: str = "auto",
    overwrite: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> StripReport:
    """Draw the picture of a progressive file as it arrives.

    Args:
        path: the file, possibly incomplete.
        output: a ``.png`` (or ``.webp`` with ``still``) of frames side by side, or an animated ``.gif`` or ``.webp``.
        options: what to draw.
        model: the model it was coded with; None to look for it among the shipped models.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        overwrite: replace ``output``.
        max_pixels: refuse files that declare more pixels.
        progress: called with (sections used, total sections).

    Raises:
        DdpmCodecError: see :class:`~ddpm_codec.codecs.progressive.reader.ProgressiveReader`.
        InputError: ``path`` is not progressive, the reference has another size, or the extension of ``output`` is not
            supported.
        OutputExistsError: ``output`` exists.
        OutputError: ``output`` cannot be written.
    """
    kind = _checked_output(path, output, options, overwrite)
    with open_source(path) as source:
        if file_codec(source) not in (None, CODEC_PROGRESSIVE):
            raise InputError(f"{path}: is not a progressive file")
        reference = None if options.reference is None else _read_reference(options.reference, max_pixels)
        file = read_sections(source, max_pixels=max_pixels)
    metadata = file.info.metadata
    if reference is not None:
        _check_size(options.reference, reference, file)
    reader = ProgressiveReader(file, model=model, device=device, keep_going=options.keep_going)
    found, damaged = _arrivals(reader, options, progress)
    frames = _compared(thinned(found, options.frames), reference)
    tiles = draw_tiles(
        [frame.shown for frame in frames], list(map(_caption, frames)), options.width, metadata.get("exif")
    )
    pictures = [side_by_side(tiles)] if kind == "PNG" or options.still else tiles
    with new_file(output, overwrite=overwrite) as temporary:
        save_pictures(pictures, temporary, kind, output, options.delay_ms, metadata.get("icc"))
    return StripReport(str(path), str(output), [frame.to_json() for frame in frames], damaged)


def thinned(frames: list[Frame], most: int) -> list[Frame]:
    """Return at most ``most`` frames, as even in log(bits) as possible; the first and last are kept.

    The frame between them whose neighbours are closest to each other is dropped, until few enough are left. If ``most``
    is 1, only the last frame is kept.
    """
    if most == 1:
        return frames[-1:]
    kept = list(frames)
    while len(kept) > most:
        spans = [after.used_bytes / before.used_bytes for before, after in zip(kept, kept[2:], strict=False)]
        del kept[1 + spans.index(min(spans))]
    return kept


def _checked_output(path: Path, output: Path, options: StripOptions, overwrite: bool) -> str:
    """Check the output; return Pillow's name of its format."""
    kind = FORMATS.get(output.suffix.lower())
    if kind is None:
        raise InputError(f"{output}: {output.suffix or 'no extension'} is not supported; use {', '.join(FORMATS)}")
    if options.still and kind == "GIF":
        raise InputError(f"{output}: --still needs .png or .webp")
    check_target(output, overwrite=overwrite, sources=filter(None, (path, options.reference)))
    return kind


def _read_reference(path: Path, max_pixels: int) -> Pixels:
    picture = read_picture(path, max_pixels=max_pixels)
    if picture.mode not in REFERENCE_MODES:
        raise InputError(f"{path}: pixel mode {picture.mode} cannot be compared; use RGB or RGBA")
    return over_white(np.asarray(to_image(picture).convert("RGBA")))


def _check_size(path: Path | None, reference: Pixels, file: SectionFile) -> None:
    width, height = file.info.size
    if reference.shape[:2] != (height, width):
        raise InputError(
            f"{path}: is {reference.shape[1]}x{reference.shape[0]} pixels, but the picture in {file.label} is "
            f"{width}x{height}"
        )


def _arrivals(
    reader: ProgressiveReader, options: StripOptions, progress: Progress | None
) -> tuple[list[Frame], list[str]]:
    """Return a frame for each section that completes a level and for the last section, and the damage if any."""
    frames: list[Frame] = []
    file, decoder = reader.file, reader.decoder
    damaged = [f"{file.label}: is damaged after byte {file.used_bytes}"] if file.damaged else []
    total, level = reader.remaining, decoder.level
    while reader.remaining:
        try:
            _feed(reader)
        except FormatError as error:
            # The section may have been partly applied, so only earlier frames are valid.
            if not (options.keep_going and frames):
                raise
            return frames, [str(error)]
        if progress is not None:
            progress(reader.used, total)
        if decoder.level < level or not reader.remaining:
            complete = decoder.level < level and decoder.at_level_end
            level = decoder.level
            frames.append(_frame(reader, options.reconstruction, complete))
    return frames, damaged


def _feed(reader: ProgressiveReader) -> None:
    """Use the next section, or all tiles at once.

    Raises:
        FormatError: a section cannot be decoded.
    """
    if not reader.decoder.takes_tiles:
        reader.feed()
        return
    damaged = reader.feed_tiles(reader.remaining)
    if damaged:
        raise FormatError(damaged[0])


def _frame(reader: ProgressiveReader, how: str, complete: bool) -> Frame:
    picture: Picture = reader.decoder.picture(how)
    used = reader.used_bytes
    bits_per_pixel = 8 * used / picture.info.pixel_count
    return Frame(used, bits_per_pixel, reader.decoder.level, complete, over_white(picture.array()))


def _compared(frames: list[Frame], reference: Pixels | None) -> list[Frame]:
    """Return the frames with their PSNR, if there is a reference."""
    if reference is None:
        if not frames[-1].lossless:
            return frames
        reference = frames[-1].shown
    return [Frame(**{**vars(frame), "psnr_db": psnr_db(reference, frame.shown)}) for frame in frames]


def _caption(frame: Frame) -> tuple[list[str], list[str]]:
    """Return the caption of a frame, in full and abbreviated: bytes, rate, level, quality."""
    stage = "lossless" if frame.lossless else f"level {frame.level}{'' if frame.complete else '+'}"
    size = f"{frame.used_bytes:,} bytes"
    short = size if frame.used_bytes < 10_000 else f"{frame.used_bytes / 1000:.3g} kB"
    if frame.used_bytes >= 1_000_000:
        short = f"{frame.used_bytes / 1e6:.3g} MB"
    rate = f"{frame.bits_per_pixel:.3f}"
    quality = ["PSNR: -"] * 2
    if frame.psnr_db is not None:
        quality = [f"{frame.psnr_db:.2f} dB", f"{frame.psnr_db:.1f} dB"]
    if frame.lossless and not frame.to_json()["psnr_db"]:
        quality = ["", ""]
    return [size, f"{rate} bits/pixel", stage, quality[0]], [short, f"{rate} bpp", stage, quality[1]]
