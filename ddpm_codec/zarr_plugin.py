"""The codec ``ddpm`` for zarr version 3: uint8 pictures, lossless, in the place of the codec ``bytes``.

An entry point of the group ``zarr.codecs`` makes it known where the package is installed; importing this module registers it
as well::

    zarr.create_array(store, shape=..., chunks=(1, 512, 512, 3), dtype="uint8", serializer=DdpmCodec(), compressors=None)
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from zarr.abc.codec import ArrayBytesCodec
from zarr.registry import register_codec

from ddpm_codec.chunks import CODEC_ID, ChunkSettings, check_dtype, check_permuted
from ddpm_codec.errors import InputError

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer, NDBuffer
    from zarr.core.array_spec import ArraySpec
    from zarr.core.chunk_grids import ChunkGrid
    from zarr.core.common import JSON
    from zarr.core.dtype import TBaseDType, TBaseScalar, ZDType


@dataclass(frozen=True)
class DdpmCodec(ChunkSettings, ArrayBytesCodec):
    """Lossless codec of uint8 pictures; its arguments are those of :class:`~ddpm_codec.chunks.ChunkSettings`.

    A chunk is [H, W], [H, W, 3] or [H, W, 4], possibly with dimensions of 1 in front. Chunks are coded in threads.
    """

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: "dict[str, JSON]") -> Self:
        """Return the codec of an entry of ``codecs`` in the metadata of an array.

        Raises:
            InputError: the entry is not one of this codec.
        """
        configuration: Any = data.get("configuration", {})
        if data.get("name") != CODEC_ID or not isinstance(configuration, dict):
            raise InputError(f"{data!r}: is not a configuration of the codec {CODEC_ID}")
        try:
            return cls(**configuration)
        except TypeError as error:
            raise InputError(f"{data!r}: {error}") from None

    def to_dict(self) -> "dict[str, JSON]":
        """Return the entry of ``codecs`` in the metadata of an array."""
        return {"name": CODEC_ID, "configuration": self.to_json()}

    def validate(
        self, *, shape: tuple[int, ...], dtype: "ZDType[TBaseDType, TBaseScalar]", chunk_grid: "ChunkGrid"
    ) -> None:
        """Check an array when it is created or opened; what codecs before this one change is seen at the first chunk.

        Raises:
            InputError: the array is not uint8, or its chunks are no pictures.
        """
        check_dtype(dtype.to_native_dtype())
        chunk_shape: tuple[int, ...] | None = getattr(chunk_grid, "chunk_shape", None)
        if chunk_shape is not None:
            check_permuted(chunk_shape)

    def evolve_from_array_spec(self, array_spec: "ArraySpec") -> Self:
        """Return the codec itself: nothing in its configuration depends on the array."""
        return self

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: "ArraySpec") -> int:
        """Raise an error: the size depends on the picture.

        Raises:
            NotImplementedError: always, as the interface asks of codecs without a fixed size.
        """
        raise NotImplementedError("the encoded size depends on the picture")

    async def _encode_single(self, chunk_data: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer":
        data = await asyncio.to_thread(self.encode_chunk, chunk_data.as_numpy_array())
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _decode_single(self, chunk_data: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        check_dtype(chunk_spec.dtype.to_native_dtype())
        chunk = await asyncio.to_thread(self.decode_chunk, chunk_data.to_bytes(), chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(chunk)


register_codec(CODEC_ID, DdpmCodec)
