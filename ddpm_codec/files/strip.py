"""What a picture looks like as its file arrives: frames with captions, side by side or one after the other.

Importing this loads no torch.
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
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import Picture

REFERENCE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


@dataclass(frozen=True)
class StripOptions:
    """What to show, and how.

    Attributes:
        frames: at most so many.
        width: of a frame in pixels; larger pictures are scaled down to it.
        delay_ms: between the frames of an animation; the last one stays three times as long.
        still: a ``.webp`` with the frames side by side instead of an animation.
        reference: the picture that PSNR compares with; None: the last frame, where that is lossless.
        reconstruction: ``mean``, ``sample`` or ``flow``.
        keep_going: of a damaged file draw what comes before the damage.
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
    """The picture after so many bytes.

    Attributes:
        used_bytes: of the file, everything before the picture included.
        bits_per_pixel: the same, ``8 bytes / (width height)``.
        level: whose latents are known of the whole picture; -1 is the picture itself.
        complete: nothing is known beyond ``level``.
        shown: the pixels over white, [H, W, 3].
        psnr_db: of ``shown``; infinite where nothing differs, None where there is nothing to compare with.
    """

    used_bytes: int
    bits_per_pixel: float
    level: int
    complete: bool
    shown: Pixels
    psnr_db: float | None = None

    @property
    def lossless(self) -> bool:
        """Whether this is the picture itself."""
        return self.level < 0

    def to_json(self) -> dict[str, Any]:
        """Return the figures; ``psnr_db`` is None where it is unknown or infinite."""
        return {
            "bytes": self.used_bytes,
            "bits_per_pixel": self.bits_per_pixel,
            "level": self.level,
            "lossless": self.lossless,
            "psnr_db": self.psnr_db if self.psnr_db is not None and math.isfinite(self.psnr_db) else None,
        }


@dataclass
class StripReport:
    """What was drawn.

    Attributes:
        file: the progressive file.
        output: the picture or animation.
        frames: one row a frame.
        damaged: with ``keep_going``, a line that says where the file is damaged.
    """

    file: str
    output: str
    frames: list[dict[str, Any]]
    damaged: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return dict(vars(self))


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
    """Draw what a progressive file shows as it arrives.

    Args:
        path: the file, or the start of one.
        output: a ``.png`` or, with ``still``, ``.webp`` of frames side by side; a ``.gif`` or ``.webp`` that moves.
        options: see there.
        model: the model that it was coded with; None: whichever it names among those that ship.
        device: ``auto`` (as encoded), ``cpu`` or ``cuda``.
        overwrite: replace ``output``.
        max_pixels: refuse a file that declares more.
        progress: called with (sections used, sections).

    Raises:
        DdpmCodecError: see :class:`~ddpm_codec.codecs.progressive.reader.ProgressiveReader`.
        InputError: ``path`` is not progressive, the reference does not fit, or ``output`` is of no such kind.
        OutputExistsError: ``output`` is there.
        OutputError: it cannot be written.
    """
    kind = _checked_output(path, output, options, overwrite)
    with open_source(path) as source:
        if file_codec(source) not in (None, CODEC_PROGRESSIVE):
            raise InputError(f"{path}: is not progressive; it decodes whole or not at all")
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
    """Return at most ``most`` frames, as even in log(bits) as they come; the first and the last stay.

    Of the frames between these, the one goes whose neighbours are nearest to each other, until few enough are left. A
    single frame is the last one.
    """
    if most == 1:
        return frames[-1:]
    kept = list(frames)
    while len(kept) > most:
        spans = [after.used_bytes / before.used_bytes for before, after in zip(kept, kept[2:], strict=False)]
        del kept[1 + spans.index(min(spans))]
    return kept


def _checked_output(path: Path, output: Path, options: StripOptions, overwrite: bool) -> str:
    """Return Pillow's name of the format of ``output``, once everything is refused that can be."""
    kind = FORMATS.get(output.suffix.lower())
    if kind is None:
        raise InputError(f"{output}: {output.suffix or 'no extension'} is not drawn; use {', '.join(FORMATS)}")
    if options.still and kind == "GIF":
        raise InputError(f"{output}: a still is a .png or .webp")
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
            f"{path}: is {reference.shape[1]}x{reference.shape[0]} pixels, and the picture of {file.label} is "
            f"{width}x{height}"
        )


def _arrivals(
    reader: ProgressiveReader, options: StripOptions, progress: Progress | None
) -> tuple[list[Frame], list[str]]:
    """Return a frame for each section that completes a level, and for the last one; and why it is the last."""
    frames: list[Frame] = []
    file, decoder = reader.file, reader.decoder
    damaged = [f"{file.label}: is damaged behind byte {file.used_bytes}"] if file.damaged else []
    total, level = reader.remaining, decoder.level
    while reader.remaining:
        try:
            reader.feed()
        except FormatError as error:
            # What was fed may have been taken in part, so there is no picture but those that were drawn before.
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


def _frame(reader: ProgressiveReader, how: str, complete: bool) -> Frame:
    picture: Picture = reader.decoder.picture(how)
    used = reader.used_bytes
    bits_per_pixel = 8 * used / picture.info.pixel_count
    return Frame(used, bits_per_pixel, reader.decoder.level, complete, over_white(picture.array()))


def _compared(frames: list[Frame], reference: Pixels | None) -> list[Frame]:
    """Return the frames with their PSNR, where there is something to compare with."""
    if reference is None:
        if not frames[-1].lossless:
            return frames
        reference = frames[-1].shown
    return [Frame(**{**vars(frame), "psnr_db": psnr_db(reference, frame.shown)}) for frame in frames]


def _caption(frame: Frame) -> tuple[list[str], list[str]]:
    """Return what stands under a frame, in full and shortened: bytes, rate, level, quality."""
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
