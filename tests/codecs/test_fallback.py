"""Coding without a model: exact in every mode, small, and deaf to what the data claim."""

import contextlib
import io
import lzma
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddpm_codec.codecs import fallback
from ddpm_codec.codecs.fallback import decode_array, decode_fallback, encode_array, encode_fallback
from ddpm_codec.errors import FormatError
from ddpm_codec.picture import MODES, Picture, PictureInfo

SIZES = [(1, 1), (1, 7), (9, 1), (33, 17)]


def picture(mode: str, size: tuple[int, int], seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, MODES[mode].byte_count(size), np.uint8).tobytes()
    if mode == "1":
        pixels = Image.frombytes("1", size, pixels).tobytes()
    return Picture(PictureInfo("x", mode, size), pixels)


def smooth(height: int, width: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    y, x, c = np.mgrid[:height, :width, :channels]
    noise = np.random.default_rng(4).integers(0, 9, (height, width, channels))
    values: np.ndarray[Any, Any] = (np.sin(x / 9) + np.cos(y / 7 + c)) * 50 + 120 + noise
    return values.astype(np.uint8)


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("size", SIZES)
def test_every_mode_comes_back(mode: str, size: tuple[int, int]) -> None:
    original = picture(mode, size)
    data = encode_fallback(original)
    assert len(data) <= len(original.pixels) + 1
    assert decode_fallback(data, mode, size) == original.pixels


@pytest.mark.parametrize("mode", sorted(MODES))
def test_every_codec_that_is_offered_is_exact(mode: str) -> None:
    original = picture(mode, (21, 10))
    job = fallback._Job(mode, original.size)
    for codec in fallback._choices(job):
        data = bytes([codec]) + fallback._ENCODERS[codec](job, original.pixels)
        assert decode_fallback(data, mode, original.size) == original.pixels


def test_transparent_pixels_keep_their_colour() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 4), np.uint8)
    pixels[..., 3] = 0
    assert (decode_array(encode_array(pixels), pixels.shape) == pixels).all()


def test_an_opaque_alpha_channel_comes_back() -> None:
    pixels = smooth(64, 64, 4)
    pixels[..., 3] = 255
    data = encode_array(pixels)
    assert data[0] == fallback.WEBP
    assert (decode_array(data, pixels.shape) == pixels).all()


@pytest.mark.parametrize(
    ("shape", "codec"),
    [((64, 64, 3), fallback.WEBP), ((64, 64), fallback.WEBP_GREY), ((64, 64, 2), fallback.WEBP_GREY)],
)
def test_smooth_arrays_go_through_webp(shape: tuple[int, ...], codec: int) -> None:
    pixels = smooth(*(*shape, 1)[:3]).reshape(shape)
    data = encode_array(pixels)
    assert data[0] == codec
    assert (decode_array(data, shape) == pixels).all()


@pytest.mark.parametrize("shape", [(1, 16384, 3), (20000, 1, 3), (2, 17000), (16384, 1, 4)])
def test_sides_beyond_webp(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(2).integers(0, 4, shape, np.uint8)
    assert (decode_array(encode_array(pixels), shape) == pixels).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "I;16", "I;16B", "F", "RGB;16", "RGBA;32"])
def test_large_pictures(mode: str) -> None:
    size = (1100, 1000) if mode not in ("1", "F") else (3000, 3000) if mode == "1" else (520, 520)
    count = MODES[mode].byte_count(size)
    pixels = np.resize(smooth(50, 70, 3), count).tobytes()
    original = Picture(PictureInfo("x", mode, size), pixels)
    assert decode_fallback(encode_fallback(original, effort=0), mode, size) == pixels


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "RGB;16", "RGBA;32", "RGB;F"])
def test_differences_of_neighbours_in_planes_of_bytes(mode: str) -> None:
    layout = MODES[mode]
    steps = np.random.default_rng(0).integers(-90, 91, (20, 300, layout.channels))
    pixels = (30000 + np.cumsum(steps, axis=1)).astype(layout.stored).tobytes()
    job = fallback._Job(mode, (300, 20))
    data = fallback._ENCODERS[fallback.LZMA_PLANES](job, pixels)
    assert len(data) < len(fallback._ENCODERS[fallback.LZMA](job, pixels))
    assert decode_fallback(bytes([fallback.LZMA_PLANES]) + data, mode, (300, 20)) == pixels


def test_noise_costs_one_byte_at_most() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)
    assert len(encode_array(pixels)) <= pixels.size + 1


def test_it_is_no_larger_than_a_webp_file() -> None:
    pixels = smooth(120, 90, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True, exact=True, method=4, quality=100)
    assert len(encode_array(pixels)) <= len(file.getvalue()) - 19


def test_a_codec_that_errs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = smooth(30, 30, 3)
    monkeypatch.setitem(fallback._DECODERS, fallback.WEBP, lambda job, data: bytes(job.byte_count))
    data = encode_array(pixels)
    assert data[0] != fallback.WEBP
    assert (decode_array(data, pixels.shape) == pixels).all()


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 3), st.data())
def test_array_round_trip(height: int, width: int, channels: int, span: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    pixels = rng.integers(0, 4**span + 1, (height, width, channels)).clip(0, 255).astype(np.uint8)
    assert (decode_array(encode_array(pixels), pixels.shape) == pixels).all()


@pytest.mark.parametrize("codec", sorted(fallback._DECODERS))
@pytest.mark.parametrize("size", [(63, 64), (64, 65), (1, 1), (1 << 14, 1 << 14), (1 << 20, 1 << 10)])
def test_another_size_than_the_declared_is_refused(codec: int, size: tuple[int, int]) -> None:
    mode = {fallback.WEBP_GREY: "L", fallback.LZMA_PLANES: "RGB;16"}.get(codec, "RGB")
    pixels = smooth(64, 64, MODES[mode].pixel_bytes)
    data = bytes([codec]) + fallback._ENCODERS[codec](fallback._Job(mode, (64, 64)), pixels.tobytes())
    assert decode_fallback(data, mode, (64, 64)) == pixels.tobytes()
    with pytest.raises(FormatError):
        decode_fallback(data, mode, size)


def test_a_webp_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image, "open", fail)
    bits = (16383 - 1) | (16383 - 1) << 14
    with pytest.raises(FormatError, match="declared size"):
        decode_fallback(b"\x01\x2f" + struct.pack("<I", bits) + bytes(10), "RGB", (2, 2))


def test_an_lzma_bomb_is_not_unpacked() -> None:
    filters = fallback._lzma_filters(fallback._Job("L", (2, 2)), delta=False)
    bomb = lzma.compress(bytes(1 << 26), lzma.FORMAT_RAW, filters=filters)
    with pytest.raises(FormatError):
        decode_fallback(bytes([fallback.LZMA]) + bomb, "L", (2, 2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
@given(data=st.binary(max_size=60))
def test_any_bytes_give_a_format_error_or_pixels(mode: str, data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert len(decode_fallback(data, mode, (5, 3))) == MODES[mode].byte_count((5, 3))


@pytest.mark.parametrize("codec", [fallback.WEBP, fallback.PNG, fallback.LZMA, fallback.WEBP_GREY])
def test_cut_data_are_refused(codec: int) -> None:
    mode = "L" if codec == fallback.WEBP_GREY else "RGB"
    pixels = smooth(24, 24, MODES[mode].channels)
    data = bytes([codec]) + fallback._ENCODERS[codec](fallback._Job(mode, (24, 24)), pixels.tobytes())
    for length in range(0, len(data) - 8, 7):
        with pytest.raises(FormatError):
            decode_fallback(data[:length], mode, (24, 24))


def test_unknown_codecs_and_modes_that_a_codec_lacks() -> None:
    with pytest.raises(FormatError, match="newer version"):
        decode_fallback(b"\x63data", "RGB", (1, 1))
    for codec, mode in [(fallback.WEBP, "L"), (fallback.WEBP_GREY, "RGB"), (fallback.PNG, "F")]:
        with pytest.raises(FormatError, match="does not support"):
            decode_fallback(bytes([codec]) + b"data", mode, (1, 1))
