"""Tiles as streams of bytes."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpm_codec.codecs.pixels.coder import PixelCoder
from ddpm_codec.errors import FormatError
from ddpm_codec.nn.exact.decoder_executor import PixelDecoderExecutor
from ddpm_codec.stopwatch import SharedStopwatch
from ddpm_codec.workers import Workers
from tests.codecs.pixels.conftest import LEVEL


def noisy(batch: int, height: int, width: int, seed: int = 0) -> NDArray[np.int64]:
    shape = (batch, 3, -(-height // 4) * 4, -(-width // 4) * 4)
    return np.random.default_rng(seed).normal(0.0, 50.0 * 64.0, shape).astype(np.int64)


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def coder(request: pytest.FixtureRequest, executor: PixelDecoderExecutor) -> PixelCoder:
    return PixelCoder(executor, LEVEL, Workers(request.param))


@pytest.mark.parametrize(
    ("batch", "height", "width", "streams"),
    [(1, 1, 1, 1), (2, 64, 64, 2), (2, 63, 65, 1), (5, 63, 65, 2), (40, 20, 21, 2), (3, 33, 17, 1), (0, 8, 8, 0)],
)
def test_round_trip(coder: PixelCoder, batch: int, height: int, width: int, streams: int) -> None:
    picture = noisy(batch, height, width)
    tiles = coder.given(picture).sample((height, width), np.random.Philox(1))
    encoded = coder.given(picture).encode(tiles)
    assert len(encoded.streams) == coder.stream_count(batch, height, width) == streams
    assert encoded.bits.shape == (batch,)
    assert not any(stream.endswith(b"\0") for stream in encoded.streams)
    # The first symbol of an empty stack takes up to 24 bits, whatever its frequency.
    assert abs(8 * sum(map(len, encoded.streams)) - encoded.bits.sum()) < 8 * 5 * max(streams, 1)
    assert (coder.given(picture).decode((height, width), encoded.streams) == tiles).all()


def test_read_only_and_strided_tiles_code_as_others(coder: PixelCoder) -> None:
    picture = noisy(2, 8, 8)
    tiles = coder.given(picture).sample((8, 8), np.random.Philox(1))
    strided = np.ascontiguousarray(tiles.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    strided.flags.writeable = False
    assert coder.given(picture).encode(strided).streams == coder.given(picture).encode(tiles).streams


def test_tiles_know_nothing_of_each_other(coder: PixelCoder) -> None:
    picture = noisy(3, 64, 64)
    tiles = coder.given(picture).sample((64, 64), np.random.Philox(1))
    alone = [coder.given(picture[i : i + 1]).encode(tiles[i : i + 1]).streams[0] for i in range(3)]
    assert alone == coder.given(picture).encode(tiles).streams


def test_streams_that_hold_too_much_or_are_too_few(coder: PixelCoder) -> None:
    picture = noisy(2, 64, 64)
    streams = coder.given(picture).encode(coder.given(picture).sample((64, 64), np.random.Philox(1))).streams
    for damaged in (
        # More than three bytes for each of 3 * 64 * 64 sub-pixels.
        [streams[0], streams[1] + bytes(range(1, 256)) * 200],
        [streams[0], streams[1] + b"\0"],
        [streams[0], streams[1], b""],
        streams[:1],
        [],
    ):
        with pytest.raises(FormatError, match=r"^its entropy-coded data is damaged$"):
            coder.given(picture).decode((64, 64), damaged)


def test_bytes_that_were_changed_give_an_error_or_a_picture_whose_bytes_they_are(coder: PixelCoder) -> None:
    picture = noisy(1, 24, 24)
    tiles = coder.given(picture).sample((24, 24), np.random.Philox(1))
    (stream,) = coder.given(picture).encode(tiles).streams
    rng, refused = np.random.default_rng(0), 0
    for _ in range(60):
        changed = bytearray(stream)
        changed[rng.integers(len(stream))] ^= 1 << int(rng.integers(8))
        try:
            found = coder.given(picture).decode((24, 24), [bytes(changed)])
        except FormatError:
            refused += 1
        else:
            assert (found != tiles).any()
            assert coder.given(picture).encode(found).streams == [bytes(changed)]
    assert refused > 10


def test_the_mean_is_that_of_the_trunk(coder: PixelCoder, executor: PixelDecoderExecutor) -> None:
    picture = noisy(2, 8, 8)
    mean, _ = executor.trunk(picture, LEVEL)
    wanted = np.floor(mean / 1024.0 + 127.5 + 0.5).clip(0, 255)
    assert (coder.given(picture).mean() == wanted).all()
    assert len(np.unique(wanted)) > 2


def test_samples_differ_and_repeat(coder: PixelCoder) -> None:
    picture = noisy(1, 16, 16)
    one, again, other = (coder.given(picture).sample((16, 16), np.random.Philox(seed)) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_tiles_may_lie_anywhere_in_the_picture(coder: PixelCoder) -> None:
    """The trunk sees around them: its means there are those of the whole picture."""
    picture = noisy(1, 24, 32)
    tiles = coder.given(picture).sample((11, 13), np.random.Philox(3), (8, 16))
    streams = coder.given(picture).encode(tiles, (8, 16)).streams
    assert np.array_equal(coder.given(picture).decode((11, 13), streams, (8, 16)), tiles)
    corner = np.ascontiguousarray(picture[:, :, 8:24, 16:32])
    assert not np.array_equal(coder.given(picture).mean()[:, :, 8:24, 16:32], coder.given(corner).mean())
    assert coder.given(corner).encode(tiles).streams != streams


class Counted(SharedStopwatch):
    """Also counts the parts that are timed."""

    parts = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        self.parts += 1
        with super().running():
            yield


def test_the_time_in_the_networks_is_that_of_the_trunk_and_of_known_pixels(executor: PixelDecoderExecutor) -> None:
    watch, picture = Counted(), noisy(2, 64, 64)
    given = PixelCoder(executor, LEVEL, Workers(1), watch).given(picture)
    assert watch.parts == 1
    tiles = given.sample((64, 64), np.random.Philox(1))
    encoded = given.encode(tiles)
    assert watch.parts == 1 + len(encoded.streams) == 3
    given.decode((64, 64), encoded.streams)
    given.mean()
    assert watch.parts == 3
    assert watch.seconds > 0.0
