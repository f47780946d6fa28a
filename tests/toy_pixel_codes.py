"""A coder of pixels given z_0 that looks at neither a network nor z_0: runs of pictures, packed by zlib."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixel_code import Ints, Origin, Pixels
from ddpm_codec.errors import FormatError


@dataclass(frozen=True)
class PackedStreams:
    """See :class:`~ddpm_codec.codecs.pixel_code.Streams`."""

    streams: list[bytes]
    bits: NDArray[np.float64]


class PackedPixels:
    """A :class:`~ddpm_codec.codecs.pixel_code.PixelCode` whose streams hold up to ``run`` pictures.

    Each byte is XORed with z_0, rounded, so that another z_0 gives other pixels, as of a network.
    """

    def __init__(self, run: int = 3) -> None:
        self.run = run

    reach = 0

    def given(self, picture: Ints) -> "PackedGiven":
        return PackedGiven(self.run, picture)

    def stream_count(self, images: int, _height: int, _width: int) -> int:
        return -(-images // self.run)


@dataclass(frozen=True)
class PackedGiven:
    """See :class:`~ddpm_codec.codecs.pixel_code.PixelsGiven`."""

    run: int
    picture: Ints

    def encode(self, x_0: Pixels, origin: Origin = (0, 0)) -> PackedStreams:
        mixed = x_0 ^ _grey(self.picture, x_0.shape[2:], origin)
        pieces = [zlib.compress(one.tobytes()) for one in mixed]
        return PackedStreams(
            [zlib.compress(run.tobytes()) for run in self._runs(mixed)],
            np.array([8.0 * len(piece) for piece in pieces]),
        )

    def decode(self, shape: tuple[int, int], streams: Sequence[bytes], origin: Origin = (0, 0)) -> Pixels:
        grey = _grey(self.picture, shape, origin)
        found = []
        for run, stream in zip(self._runs(grey), streams, strict=True):
            unpack = zlib.decompressobj()
            try:
                data = unpack.decompress(stream, run.size + 1)
            except zlib.error:
                raise FormatError("its entropy-coded data is damaged") from None
            if len(data) != run.size or not unpack.eof or unpack.unused_data:
                raise FormatError("its entropy-coded data is damaged")
            found.append(np.frombuffer(data, np.uint8).reshape(run.shape))
        return np.concatenate(found) ^ grey

    def mean(self) -> Pixels:
        return _grey(self.picture, self.picture.shape[2:], (0, 0))

    def sample(self, shape: tuple[int, int], _rng: np.random.Philox, origin: Origin = (0, 0)) -> Pixels:
        return _grey(self.picture, shape, origin)

    def _runs(self, pictures: Pixels) -> list[Pixels]:
        return [pictures[start : start + self.run] for start in range(0, len(pictures), self.run)]


def _grey(picture: Ints, shape: tuple[int, ...], origin: Origin) -> Pixels:
    (top, left), (height, width) = origin, shape
    inside = picture[:, :, top : top + height, left : left + width]
    return np.clip((inside >> 6) + 128, 0, 255).astype(np.uint8)
