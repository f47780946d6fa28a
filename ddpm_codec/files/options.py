"""Options of encoding."""

from dataclasses import dataclass

from ddpm_codec.codecs.tiling import DEFAULT_BLOCK_PIXELS
from ddpm_codec.errors import InputError
from ddpm_codec.models.registry import DEFAULT, ModelName


@dataclass(frozen=True)
class EncodeOptions:
    """Encoding options.

    Attributes:
        model: name or file of a model; ``none`` to use the fallback only.
        device: ``auto``, ``cpu`` or ``cuda``.
        steps: K of the chain; None: chosen by the codec.
        tile: side of the tiles of large pictures, a multiple of 8; None: chosen by the codec.
        block_pixels: archives: pixels per block, the unit of damage. A single picture that has more becomes an archive where
            the model codes it, and a file of one picture like any other where the fallback does.
        progressive: write a progressive file per picture instead of one archive.
        max_bpp: progressive files: stop before exceeding this many bits per pixel; None: no limit.
        min_psnr_db: progressive files: stop once the picture has this PSNR, in dB; None: no limit.
        register_bits: progressive files: register bits of the trellis; None: by picture size.
        fallback: progressive files: end with the fallback where that takes fewer bytes, after few messages.
        overwrite: replace existing outputs.
        strip: omit all metadata.
        first_frame: encode the first frame of pictures with several.
        verify: decode and compare before an output appears.
        strict: refuse folders with files that would be left out.
        keep_going: encode the other pictures if some cannot be used; ``refused`` in the report lists those.

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
    fallback: bool = True
    overwrite: bool = False
    strip: bool = False
    first_frame: bool = False
    verify: bool = False
    strict: bool = False
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.progressive and self.model == "none":
            raise InputError("progressive files need a model; model none codes archives alone")
        if self.model == "none" and self.steps is not None:
            raise InputError("steps need a model; model none has no chain")
        if self.progressive and self.block_pixels != DEFAULT_BLOCK_PIXELS:
            raise InputError("block-pixels does not apply to progressive files")
        if not self.progressive and any(
            value is not None for value in (self.max_bpp, self.min_psnr_db, self.register_bits)
        ):
            raise InputError("--bpp, --psnr and --register-bits need --progressive")
