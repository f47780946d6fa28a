"""x_0 given z_0 as streams, and back: the pixel decoder with its entropy coder.

Each tile is a stream; several small tiles share one, so that a front has enough pixels for the network to run on at once.
Streams are independent: workers share them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_codec.codecs.pixel_code import Origin
from ddpm_codec.codecs.pixels.network import MaskedNetwork, masked_network, workspace
from ddpm_codec.errors import FormatError
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.nn.exact.decoder_parameters import OUTPUTS
from ddpm_codec.nn.integer import MEAN_BITS
from ddpm_codec.stopwatch import SharedStopwatch
from ddpm_codec.workers import Workers

WHOLE_PIXELS = 1 << 12
"""Tiles of at least so many pixels are a stream each."""

SHARED_PIXELS = 1 << 14
"""Smaller tiles share a stream of at most so many pixels."""

Picture = NDArray[np.int64]
Greys = NDArray[np.uint8]
Means = NDArray[np.int32]


@dataclass(frozen=True)
class EncodedPixels:
    """Tiles as streams.

    Attributes:
        streams: one for each tile, or for each run of small tiles, in their order.
        bits: ideal code length of each tile, the sum of -log2(frequency / 2^24), [B] float64.
    """

    streams: list[bytes]
    bits: NDArray[np.float64]


class PixelCoder:
    """Codes tiles x_0 given noisy pictures z_0 at one crossing.

    Args:
        executor: of the decoder.
        level: the crossing.
        workers: share the streams out; None: as many as the call asks for.
        network: adds up the time in the networks: in the trunk, and in the masked one where pixels are known. Where they are
            decoded, it is one loop with the entropy coder.
    """

    def __init__(
        self,
        executor: PixelDecoderExecutor,
        level: int,
        workers: Workers | None = None,
        network: SharedStopwatch | None = None,
    ) -> None:
        self._executor, self._level = executor, level
        self._workers, self._time = workers or Workers(), network or SharedStopwatch()
        self._network = masked_network(executor.parameters, level)

    @property
    def reach(self) -> int:
        """Pixels around a block of 8x8 that the trunk sees there."""
        return self._executor.parameters.config.trunk.reach

    @staticmethod
    def stream_count(batch: int, height: int, width: int) -> int:
        """Return how many streams a batch of tiles makes."""
        return len(_runs(batch, height, width))

    def given(self, picture: Picture) -> "TilesGiven":
        """Evaluate the trunk.

        Args:
            picture: z_0, (grey - 127.5) 2**PICTURE_BITS, int64 [B, 3, H, W], H and W multiples of 4.
        """
        with self._time.running():
            mean, features = self._executor.trunk(picture, self._level)
        return TilesGiven(self._executor, self._level, self._network, self._workers, self._time, mean, features)


@dataclass(frozen=True)
class TilesGiven:
    """p(x_0 | z_0) of tiles, once the trunk has seen z_0.

    Tiles [h, w] are the upper left corners of pictures, or lie at another origin (row, column): the trunk sees what is
    around them, the masked network does not.

    Attributes:
        executor: of the decoder.
        level: the crossing.
        network: the masked network.
        workers: share the streams out.
        time: adds up that of the masked network where pixels are known.
        means: m_0 in 1/1024 grey levels around 127.5, int32 [B, 3, H, W].
        features: uint8 [B, H, W, F].
    """

    executor: PixelDecoderExecutor
    level: int
    network: MaskedNetwork
    workers: Workers
    time: SharedStopwatch
    means: Means
    features: Greys

    def encode(self, x_0: Greys, origin: Origin = (0, 0)) -> EncodedPixels:
        """Code tiles.

        Args:
            x_0: uint8 [B, 3, h, w], h <= H, w <= W.
            origin: row and column of the tiles in the pictures.
        """
        mean, features = self._inside(x_0.shape[2:], origin)
        runs = _runs(len(x_0), *x_0.shape[2:])
        encoded = self.workers.map(lambda run: self._encode_run(mean[run], features[run], x_0[run]), runs)
        bits = np.concatenate([np.zeros(0), *(bits for _, bits in encoded)])
        return EncodedPixels([stream for stream, _ in encoded], bits)

    def decode(self, shape: tuple[int, int], streams: Sequence[bytes], origin: Origin = (0, 0)) -> Greys:
        """Return the tiles of :meth:`encode`, uint8 [B, 3, h, w].

        Args:
            shape: (h, w).
            streams: of the tiles.
            origin: row and column of the tiles in the pictures.

        Raises:
            FormatError: a stream does not end empty, or there are too many or too few. Not all damage shows that way: other
                bytes may be those of other tiles.
        """
        if len(_runs(len(self.means), *shape)) != len(streams):
            raise FormatError(_DAMAGED)
        words = [_to_words(stream) for stream in streams]
        tiles, whole = self._decode_words(shape, words, origin)
        if not all(whole):
            raise FormatError(_DAMAGED)
        return tiles

    def sample(self, shape: tuple[int, int], rng: np.random.BitGenerator, origin: Origin = (0, 0)) -> Greys:
        """Return a draw from p(x_0 | z_0), uint8 [B, 3, h, w]: what random streams decode to.

        Args:
            shape: (h, w).
            rng: its words are those of the streams, low half first, and 1 instead of 0.
            origin: row and column of the tiles in the pictures.
        """
        counts = [(run.stop - run.start) * 3 * shape[0] * shape[1] for run in _runs(len(self.means), *shape)]
        words = [_random_words(rng, count) for count in counts]
        return self._decode_words(shape, words, origin)[0]

    def mean(self) -> Greys:
        """Return m_0 as grey levels, uint8 [B, 3, H, W]."""
        half = 1 << (MEAN_BITS - 1)
        return ((self.means + (255 * half + half)) >> MEAN_BITS).clip(0, 255).astype(np.uint8)

    def _inside(self, shape: tuple[int, ...], origin: Origin) -> tuple[Means, Greys]:
        """Return mean and features of the tiles, [B, 3, h, w] and [B, h, w, F]."""
        rows, columns = (slice(start, start + side) for start, side in zip(origin, shape, strict=True))
        return self.means[:, :, rows, columns], self.features[:, rows, columns]

    def _encode_run(self, mean: Means, features: Greys, x_0: Greys) -> tuple[bytes, NDArray[np.float64]]:
        tiles, _, height, width = x_0.shape
        network, kernels = self.network, _kernels()
        mean, features, x_0 = (_plain(values) for values in (mean, features, x_0))
        with self.time.running():
            if self.executor.device.type == "cpu":
                sums = np.empty(tiles * height * width * OUTPUTS, np.int32)
                space = workspace(network, tiles, height, width)
                kernels.all_sums(network, space, mean, features, x_0, sums)
            else:
                sums = self.executor.sums(mean, features, x_0, self.level).reshape(-1)
        bits = np.zeros(tiles)
        words = np.empty(x_0.size + 2, np.uint32)
        count = kernels.encode_stream(network, sums, mean, x_0, words, bits)
        return words[:count].astype("<u4").tobytes().rstrip(b"\0"), bits

    def _decode_words(
        self, shape: tuple[int, int], words: list[NDArray[np.uint32]], origin: Origin
    ) -> tuple[Greys, list[bool]]:
        """Return the tiles, and of each stream whether it ended empty."""
        mean, features = self._inside(shape, origin)
        tiles = np.zeros((len(mean), 3, *shape), np.uint8)
        tasks = list(zip(_runs(len(mean), *shape), words, strict=True))
        run_task = partial(_decode_run, self.network, mean, features, tiles)
        return tiles, self.workers.map(run_task, tasks)


_DAMAGED = "its entropy-coded data is damaged"


def _decode_run(
    network: MaskedNetwork, mean: Means, features: Greys, tiles: Greys, task: tuple[slice, NDArray[np.uint32]]
) -> bool:
    run, words = task
    kernels = _kernels()
    greys = tiles[run]
    space = workspace(network, len(greys), *greys.shape[2:])
    return bool(kernels.decode_stream(network, space, _plain(mean[run]), _plain(features[run]), words, greys))


def _runs(batch: int, height: int, width: int) -> list[slice]:
    """Return the tiles of each stream."""
    pixels = height * width
    size = 1 if pixels >= WHOLE_PIXELS else max(1, SHARED_PIXELS // max(1, pixels))
    return [slice(first, min(first + size, batch)) for first in range(0, batch, size)]


def _random_words(rng: np.random.BitGenerator, count: int) -> NDArray[np.uint32]:
    words: NDArray[np.uint32] = rng.random_raw(-(-count // 2)).astype("<u8").view("<u4")[:count].astype(np.uint32)
    return np.maximum(words, 1)


def _to_words(stream: bytes) -> NDArray[np.uint32]:
    """Return the words of a stream.

    Raises:
        FormatError: it ends in a zero byte, which no encoder leaves.
    """
    if stream.endswith(b"\0"):
        raise FormatError(_DAMAGED)
    padded = stream + bytes(-len(stream) % 4)
    return np.frombuffer(padded, "<u4").astype(np.uint32)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return an array as the loops are compiled for: those for read-only or strided ones would be others."""
    return np.require(values, requirements=["C", "A", "W"])


def _kernels() -> ModuleType:
    """Return the compiled loops. numba takes half a second to load, so it is where a network runs."""
    from ddpm_codec.codecs.pixels import kernels

    return kernels
