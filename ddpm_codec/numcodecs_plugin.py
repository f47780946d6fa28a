"""The codec ``ddpm`` for numcodecs, and so for zarr version 2 and kerchunk: uint8 pictures, lossless.

An entry point of the group ``numcodecs.codecs`` makes it known where the package is installed; importing this module
registers it as well::

    zarr.create_array(store, shape=..., chunks=(1, 512, 512, 3), dtype="uint8", zarr_format=2, compressors=Ddpm())
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ensure_ndarray, ndarray_copy
from numcodecs.registry import register_codec
from numpy.typing import NDArray

from ddpm_codec.chunks import CODEC_ID, ChunkSettings
from ddpm_codec.errors import FormatError, InputError


@dataclass(frozen=True)
class Ddpm(ChunkSettings, Codec):  # type: ignore[misc]  # numcodecs has no annotations
    """Lossless codec of uint8 pictures; its arguments are those of :class:`~ddpm_codec.chunks.ChunkSettings`.

    A chunk is [H, W], [H, W, 3] or [H, W, 4], possibly with dimensions of 1 in front, in C order.
    """

    codec_id: ClassVar[str] = CODEC_ID

    def get_config(self) -> dict[str, Any]:
        """Return ``id`` and the settings, all of them JSON values."""
        return {"id": self.codec_id, **self.to_json()}

    def encode(self, buf: Any) -> bytes:  # noqa: ANN401 - any buffer, as numcodecs has it - whatever has a buffer
        """Return a chunk as the bytes of a ``.ddpm`` file.

        Args:
            buf: uint8 array, or another buffer that has this type and a shape.

        Raises:
            InputError: not uint8, not one picture, or in Fortran order.
            ModelError: no such model or chain.
        """
        chunk = ensure_ndarray(buf)
        # decode returns C order, which zarr would take for Fortran order where the array says so.
        if chunk.flags.f_contiguous and not chunk.flags.c_contiguous:
            raise InputError("chunk in Fortran order: the ddpm codec needs order='C'")
        return self.encode_chunk(chunk)

    def decode(self, buf: Any, out: Any = None) -> NDArray[np.uint8]:  # noqa: ANN401 - any buffer, as numcodecs has it
        """Return the picture of a chunk, [H, W], [H, W, 3] or [H, W, 4]; dimensions of 1 in front are not restored.

        Args:
            buf: what :meth:`encode` returned.
            out: writable array that gets the picture, of as many bytes; then it is returned.

        Raises:
            EnvironmentMismatchError: coded in floating point in an environment that differs from this one.
            FormatError: the data are damaged, or ``out`` is of another size.
            ModelError: the model that they were coded with is not here.
        """
        picture = self.decode_chunk(ensure_bytes(buf))
        if out is None:
            return picture
        target: NDArray[np.uint8] = ensure_ndarray(out)
        if target.nbytes != picture.nbytes:
            raise FormatError(f"the chunk holds {picture.nbytes} bytes, out has {target.nbytes}")
        ndarray_copy(picture, target)
        return target


register_codec(Ddpm)
