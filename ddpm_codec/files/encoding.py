"""Picture files to ``.ddpm`` files, by whichever codec is asked for. Importing this loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions
from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.errors import InputError
from ddpm_codec.files.archives import encode_files
from ddpm_codec.files.progressive import encode_progressive_files
from ddpm_codec.files.reports import EncodeReport, Progress, ProgressiveReport
from ddpm_codec.models.registry import DEFAULT, ModelName


@dataclass(frozen=True)
class EncodeOptions:
    """Everything that may be asked of an encoding.

    Attributes:
        model: name or file of a model; ``none``: everything goes through the fallback.
        device: ``auto``, ``cpu`` or ``cuda``.
        steps: K of the chain; None: the codec's own choice.
        tile: side of the tiles of large pictures, a multiple of 8; None: the codec's own choice.
        block_pixels: of an archive, pixels of a block, the unit of damage.
        progressive: a progressive file for each picture instead of one archive.
        max_bpp: of a progressive file, stop before it has more bits a pixel; None: do not.
        min_psnr_db: of a progressive file, stop when the picture is as good; None: do not.
        register_bits: of a progressive file, bits of the trellis; None: by the size of the picture.
        overwrite: replace outputs that are there.
        strip: leave ICC, EXIF and XMP out.
        first_frame: of pictures with several frames take the first.
        verify: decode and compare before an output appears.

    Raises:
        InputError: options that do not go together.
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
    overwrite: bool = False
    strip: bool = False
    first_frame: bool = False
    verify: bool = False

    def __post_init__(self) -> None:
        if self.progressive and self.block_pixels != DEFAULT_BLOCK_PIXELS:
            raise InputError("block-pixels does not go with progressive files")
        if not self.progressive and (self.max_bpp, self.min_psnr_db, self.register_bits) != (None, None, None):
            raise InputError("bpp, psnr and register-bits need a progressive file (--progressive)")


def encode(
    inputs: Sequence[Path], output: Path, options: EncodeOptions, *, progress: Progress | None = None
) -> EncodeReport | list[ProgressiveReport]:
    """Encode picture files and folders of them.

    Args:
        inputs: files and folders.
        output: the .ddpm file; of several progressive ones, their folder.
        options: see there.
        progress: called with (pictures done, pictures).

    Returns:
        The report of an archive, or of each progressive file.

    Raises:
        InputError: an input, an option or the device is at fault.
        ModelError: no such model or chain.
        OutputExistsError: an output is there.
        OutputError: it cannot be written.
    """
    if not options.progressive:
        return encode_files(
            inputs,
            output,
            model=options.model,
            device=options.device,
            overwrite=options.overwrite,
            strip=options.strip,
            first_frame=options.first_frame,
            verify=options.verify,
            block_pixels=options.block_pixels,
            tile=options.tile,
            steps=options.steps,
            progress=progress,
        )
    return encode_progressive_files(
        inputs,
        output,
        ProgressiveOptions(
            steps=options.steps,
            register_bits=options.register_bits,
            tile=options.tile,
            max_bpp=options.max_bpp,
            min_psnr_db=options.min_psnr_db,
        ),
        model=options.model,
        device=options.device,
        overwrite=options.overwrite,
        strip=options.strip,
        first_frame=options.first_frame,
        verify=options.verify,
        progress=progress,
    )
