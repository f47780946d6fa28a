"""Pictures as one string: messages, then the streams of tiles, and not a byte more."""

import numpy as np
import pytest

from ddpm_codec.codecs.progressive import indexed
from ddpm_codec.codecs.progressive.encoder import ProgressiveEncoder
from ddpm_codec.codecs.progressive.ending import checksum_bytes, pixel_checksum
from ddpm_codec.codecs.progressive.indexed import decode_indexed, encode_indexed
from ddpm_codec.codecs.progressive.parameters import ProgressiveParameters
from ddpm_codec.codecs.progressive.pixels import pixel_code
from ddpm_codec.codecs.session import CodingSession
from ddpm_codec.errors import FormatError
from ddpm_codec.isolation import isolated
from tests.golden.regenerate import EXACT, noisy_picture


@pytest.fixture(scope="module")
def session() -> CodingSession:
    return CodingSession.for_encoding(str(EXACT), "cpu", 3)


@pytest.mark.parametrize("size", [(1, 1), (9, 31), (32, 32)])
def test_pictures_come_back(size: tuple[int, int], session: CodingSession) -> None:
    pixels = noisy_picture(1, *size)
    data = encode_indexed(session, pixels, 8)
    assert np.array_equal(decode_indexed(session, data, size[::-1], 8), pixels)


def test_a_picture_of_one_tile_has_no_lengths(session: CodingSession) -> None:
    pixels = noisy_picture(2, 24, 24)
    encoder = ProgressiveEncoder(session.chain, pixel_code(session), ProgressiveParameters(0, 3, 8), pixels)
    messages = b"".join(message.data for message in encoder.messages())
    assert encode_indexed(session, pixels, 8) == pixel_checksum(pixels) + messages + encoder.streams()[0]


def test_pictures_of_several_tiles_come_back(session: CodingSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "TILE", 16)
    pixels = noisy_picture(3, 33, 20)
    pixels[:16] = 0
    data = encode_indexed(session, pixels, 6)
    assert np.array_equal(decode_indexed(session, data, (20, 33), 6), pixels)


def test_threads_change_nothing(session: CodingSession) -> None:
    pixels = noisy_picture(5, 40, 300)
    with isolated(1):
        data = encode_indexed(session, pixels, 8)
    with isolated(2):
        assert encode_indexed(session, pixels, 8) == data
        assert np.array_equal(decode_indexed(session, data, (300, 40), 8), pixels)


def test_damage_is_an_error(session: CodingSession) -> None:
    """Whatever the bytes decode to, the checksum in front is that of other pixels."""
    pixels = noisy_picture(4, 16, 16)
    data = encode_indexed(session, pixels, 6)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 30).tolist():
        changed = bytearray(data)
        changed[at] ^= int(rng.integers(1, 256))
        with pytest.raises(FormatError):
            decode_indexed(session, bytes(changed), (16, 16), 6)
    encoder = ProgressiveEncoder(session.chain, pixel_code(session), ProgressiveParameters(0, 3, 6), pixels)
    messages = checksum_bytes(16 * 16) + sum(len(message.data) for message in encoder.messages())
    # A stream may be empty, so that a file may end behind the messages; here it is not.
    for end in (*range(0, messages, 17), messages - 1, messages, len(data) - 1):
        with pytest.raises(FormatError):
            decode_indexed(session, data[:end], (16, 16), 6)
    for register_bits in (3, 17):
        with pytest.raises(FormatError, match="parameters"):
            decode_indexed(session, data, (16, 16), register_bits)
