"""Chunks of uint8 arrays <-> ``.ddpm`` bytes: what the numcodecs and the zarr codec have in common.

A chunk is one picture, [H, W], [H, W, 3] or [H, W, 4], possibly with dimensions of 1 in front. Importing this loads no torch.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.api.coding import decode, encode
from ddpm_codec.errors import FormatError, InputError
from ddpm_codec.models.registry import DEFAULT, shipped_models

CODEC_ID = "ddpm"
"""The name of the codec in the metadata of numcodecs and of zarr."""

COLOUR_CHANNELS = (3, 4)


@dataclass(frozen=True)
class ChunkSettings:
    """How chunks are coded; plain values only, so that it can be stored as JSON.

    Attributes:
        model: name or file of the model; ``none``: classical lossless coding. Readers elsewhere find a model that ships by
            itself; one that does not ship must be at the same path.
        steps: steps K of the chain; None: the default for the model and the size of the chunk.
        progressive: write progressive files, lossless ones; chunks that are not RGB or RGBA stay as they are.
        tile: side of the tiles of large chunks, a multiple of 8; None: the model's own.

    Raises:
        InputError: a value is of the wrong type.
    """

    model: str = DEFAULT
    steps: int | None = None
    progressive: bool = False
    tile: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            raise InputError(f"model = {self.model!r}: must be a name or a file")
        if not isinstance(self.progressive, bool):
            raise InputError(f"progressive = {self.progressive!r}: must be true or false")
        for name, value in (("steps", self.steps), ("tile", self.tile)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} = {value!r}: must be a positive integer")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values; those that are None are left out."""
        return {
            field.name: value for field in fields(ChunkSettings) if (value := getattr(self, field.name)) is not None
        }

    def encode_chunk(self, chunk: NDArray[Any]) -> bytes:
        """Return a chunk as the bytes of a ``.ddpm`` file.

        Args:
            chunk: uint8, of a shape that :func:`picture_shape` accepts.

        Raises:
            InputError: the chunk is not uint8, or not one picture; or an option is at fault.
            ModelError: no such model or chain.
        """
        check_dtype(chunk.dtype)
        picture = np.ascontiguousarray(chunk).reshape(picture_shape(chunk.shape))
        return encode(picture, model=self.model, steps=self.steps, progressive=self.progressive, tile=self.tile)

    def decode_chunk(self, data: bytes, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
        """Return the chunk that :meth:`encode_chunk` was given.

        Args:
            data: bytes of a ``.ddpm`` file.
            shape: the shape of the chunk; None: that of the picture, without dimensions of 1 in front.

        Raises:
            EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
            FormatError: the data are damaged, or not of this shape.
            ModelError: the model that they were coded with is not here.
        """
        if shape is None:
            return decode(data, model=self._decoding_model)
        wanted = picture_shape(shape)
        # No more pixels than the chunk has are unpacked, whatever the data declare.
        picture = decode(data, model=self._decoding_model, max_pixels=math.prod(wanted[:2]))
        if picture.shape != wanted:
            raise FormatError(f"the chunk holds an array of shape {list(picture.shape)}, not {list(wanted)}")
        return picture.reshape(shape)

    @property
    def _decoding_model(self) -> str | None:
        """The model to look at; None leaves the choice among those that ship to the data, whatever the settings say."""
        return None if self.model in ("none", *(path.stem for path in shipped_models())) else self.model


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Check the type of an array's elements.

    Raises:
        InputError: it is not uint8.
    """
    if dtype != np.uint8:
        raise InputError(f"dtype {dtype}: the ddpm codec stores uint8")


def picture_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the picture in a chunk: [H, W], [H, W, 3] or [H, W, 4].

    Raises:
        InputError: the chunk is not one picture.
    """
    ndim = 3 if len(shape) > 2 and shape[-1] in COLOUR_CHANNELS else 2
    if len(shape) < ndim or set(shape[: len(shape) - ndim]) - {1} or 0 in shape:
        raise InputError(
            f"chunk of shape {list(shape)}: must be [H, W], [H, W, 3] or [H, W, 4], with only dimensions of 1 in front"
        )
    return shape[-ndim:]


def check_permuted(shape: tuple[int, ...]) -> None:
    """Check that the dimensions of a chunk make one picture in some order (a codec before this one may transpose).

    Raises:
        InputError: they do not.
    """
    long = [side for side in shape if side != 1]
    colours = [side for side in long if side in COLOUR_CHANNELS]
    if len(long) == 3 and colours:
        long.remove(colours[0])
    if len(shape) < 2 or len(long) > 2 or 0 in shape:
        picture_shape(shape)
        raise InputError(f"chunk of shape {list(shape)}: is not one picture")
