"""The tiles at the end of a progressive file: whether the network sees them one by one or together changes no byte."""

import numpy as np
import pytest

from ddpm_codec.codecs.pixel_code import Ints, PixelCode
from ddpm_codec.codecs.progressive import ending
from ddpm_codec.codecs.progressive.ending import TileEnd
from ddpm_codec.codecs.progressive.pixels import FactorisedPixels, pixel_code
from ddpm_codec.codecs.progressive.steps import Latents, ProgressiveChain
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.errors import FormatError
from ddpm_codec.isolation import isolated
from ddpm_codec.workers import Workers
from tests.golden.regenerate import EXACT, noisy_picture

SIZE = 200, 270
TILE = 64


@pytest.fixture(scope="module")
def session() -> CodingSession:
    return CodingSession.for_encoding(str(EXACT), "cpu", 3)


@pytest.fixture(scope="module")
def z_0(session: CodingSession) -> Latents:
    """Latents of PIXELS at the crossing."""
    chain = ProgressiveChain(session.chain)
    padded = np.pad(noisy_picture(50, SIZE[1], SIZE[0]), ((0, 2), (0, 0), (0, 0)), mode="edge")
    y_0 = chain.coefficients(padded)
    noise = np.random.default_rng(0).standard_normal(y_0.shape)
    return np.rint((y_0 + chain.sigmas[0] * noise) * 1024).astype(np.int32)


class Counting:
    """A code that counts what the network is asked for, of known reach or not."""

    def __init__(self, code: PixelCode, reach: int | None) -> None:
        self.code, self.reach, self.seen = code, reach, list[tuple[int, ...]]()

    def given(self, picture: Ints) -> object:
        self.seen.append(picture.shape[2:])
        return self.code.given(picture)


def end_of(session: CodingSession, code: object, workers: Workers | None = None) -> TileEnd:
    return TileEnd(ProgressiveChain(session.chain), code, SIZE, TILE, workers)  # type: ignore[arg-type]


def test_tiles_that_are_seen_together_are_those_seen_one_by_one(
    session: CodingSession, z_0: Latents, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, code = noisy_picture(50, SIZE[1], SIZE[0]), pixel_code(session)
    assert code.reach == 24
    alone, together = Counting(code, None), Counting(code, 24)
    streams = end_of(session, alone).encode(z_0, pixels)
    assert len(streams) == len(alone.seen) == 20
    assert end_of(session, together).encode(z_0, pixels) == streams
    assert together.seen == [(272, 200)]
    shown = end_of(session, alone).drawn(z_0)
    for side, evaluations in ((64, 20), (128, 6), (200, 4)):
        monkeypatch.setattr(ending, "TOGETHER", side)
        for workers in (None, Workers(2)):
            counting = Counting(code, 24)
            end = end_of(session, counting, workers)
            assert end.encode(z_0, pixels) == streams
            assert len(counting.seen) == evaluations
            for number, found in end.decode(z_0, dict(enumerate(streams))).items():
                assert not isinstance(found, FormatError)
                assert np.array_equal(found, end.view(pixels, number))
            assert np.array_equal(end.drawn(z_0), shown)


def test_tiles_of_a_network_that_sees_beyond_the_margin_are_seen_one_by_one(
    session: CodingSession, z_0: Latents
) -> None:
    code = Counting(pixel_code(session), 72)
    end_of(session, code).encode(z_0, noisy_picture(50, SIZE[1], SIZE[0]))
    assert len(code.seen) == 20
    assert FactorisedPixels.reach is None


def test_some_tiles_are_decoded_without_the_others(session: CodingSession, z_0: Latents) -> None:
    pixels, code = noisy_picture(50, SIZE[1], SIZE[0]), Counting(pixel_code(session), 24)
    end = end_of(session, code)
    streams = end.encode(z_0, pixels)
    code.seen.clear()
    wanted = {5: streams[5], 6: b"\1\0", 9: streams[9]}
    found = end.decode(z_0, wanted)
    assert list(found) == [5, 6, 9]
    assert isinstance(found[6], FormatError)
    for number in (5, 9):
        tile = found[number]
        assert not isinstance(tile, FormatError)
        assert np.array_equal(tile, end.view(pixels, number))
    # Two columns and two rows of tiles, with 64 pixels around them as far as there are any.
    assert code.seen == [(256, 200)]
    assert end.decode(z_0, {}) == {}


def test_threads_change_nothing(session: CodingSession, z_0: Latents) -> None:
    pixels = noisy_picture(50, SIZE[1], SIZE[0])
    end = end_of(session, pixel_code(session), Workers())
    with isolated(1):
        streams = end.encode(z_0, pixels)
    with isolated(3):
        assert end.encode(z_0, pixels) == streams
