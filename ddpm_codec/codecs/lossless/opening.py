"""Opens what an archive was coded with: the sizes of its blocks and tiles, and its model.

Importing this module does not load torch.
"""

from typing import TYPE_CHECKING, Final

from ddpm_codec.codecs.tiling import MAX_BLOCK_TILES, MAX_TILE, CodingOptions
from ddpm_codec.container import CODEC_SINGLE, Container, Head
from ddpm_codec.errors import FormatError
from ddpm_codec.models.registry import ModelName
from ddpm_codec.picture import PictureInfo

if TYPE_CHECKING:
    from ddpm_codec.codecs.session import CodingSession, Model

FALLBACK_OPTIONS: Final = CodingOptions(1, 8)
"""Options used without a model, where they have no effect."""


def open_session(
    container: Container, model: "ModelName | Model | None", device: str
) -> "tuple[CodingOptions, CodingSession | None]":
    """Return the block and tile sizes of an archive, and its model: None if none is needed.

    Raises:
        EnvironmentMismatchError: coded in floating point in a different environment.
        FormatError: the coding parameters are damaged.
        ModelError: the model is not available.
    """
    head, label = container.head, container.label
    if not head.needs_model:
        return FALLBACK_OPTIONS, None
    from ddpm_codec.codecs.session import CodingSession

    try:
        single = head.codec == CODEC_SINGLE
        options = _single_options(head, container.images[0].info) if single else _archive_options(head)
        steps, crossing = _checked_chain(head, options)
    except KeyError as error:
        raise FormatError(f"{label}: its coding parameters are incomplete ({error})") from error
    except FormatError as error:
        raise FormatError(f"{label}: {error}") from None
    identity = head.model_id.hex()
    recorded = dict(head.fingerprint)
    return options, CodingSession.for_decoding(identity, recorded, steps, device, model, label, crossing=crossing)


def _archive_options(head: Head) -> CodingOptions:
    values = [head.parameters[key] for key in ("block_pixels", "tile")]
    if not all(isinstance(value, int) and 1 <= value < 1 << 40 for value in values):
        raise FormatError("its coding parameters are damaged")
    block_pixels, tile = (int(value) for value in values)
    return CodingOptions(block_pixels, tile)


def _checked_chain(head: Head, options: CodingOptions) -> tuple[int, int]:
    """Check the sizes of blocks and tiles, and return K and the index of the crossing."""
    steps, crossing, tile = head.parameters["steps"], head.parameters.get("crossing", 0), options.tile
    for value, least in ((steps, 1), (crossing, 0)):
        if not isinstance(value, int) or not least <= value < 1 << 40:
            raise FormatError("its coding parameters are damaged")
    if tile % 8 or not 8 <= tile <= MAX_TILE or options.square_tiles > MAX_BLOCK_TILES:
        raise FormatError(f"its coding parameters are damaged (block of {options.block_pixels}, tile = {tile})")
    return int(steps), int(crossing)


def _single_options(head: Head, info: PictureInfo) -> CodingOptions:
    """Return the sizes with which a picture is one region of one block."""
    return CodingOptions(info.pixel_count, int(head.parameters.get("tile", 8)))
