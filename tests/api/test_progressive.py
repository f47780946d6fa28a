"""Progressive files while their bytes arrive."""

import numpy as np
import pytest
from numpy.typing import NDArray

import ddpm_codec
from tests.golden.regenerate import EXACT, noisy_picture

Pixels = NDArray[np.uint8]


def test_a_progressive_decoder_takes_any_pieces(small: Pixels, progressive: bytes) -> None:
    ends = set(ddpm_codec.info(progressive).section_ends[1:])
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    assert (decoder.info, decoder.level, decoder.lossless) == (None, None, False)
    with pytest.raises(ddpm_codec.FormatError, match="too short"):
        decoder.picture()
    better = [decoder.feed(progressive[at : at + 1]) for at in range(len(progressive))]
    assert {at + 1 for at, is_better in enumerate(better) if is_better} == ends
    assert (decoder.lossless, decoder.level, decoder.used_bytes) == (True, -1, len(progressive))
    assert np.array_equal(decoder.picture(), small)
    assert not decoder.feed(b"")


def test_half_a_file_is_the_picture_that_the_decoder_shows(small: Pixels, progressive: bytes) -> None:
    half = progressive[: len(progressive) // 2]
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    assert decoder.feed(half)
    assert not decoder.lossless
    assert np.array_equal(decoder.picture(), ddpm_codec.decode(half, model=EXACT))
    kinds = [decoder.picture(how) for how in ("mean", "sample", "flow")]
    errors = [float(np.mean((kind.astype(float) - small) ** 2)) for kind in kinds]
    assert errors[0] < errors[1]
    with pytest.raises(ddpm_codec.InputError, match="median"):
        decoder.picture("median")


def test_damage_stops_a_progressive_decoder_and_leaves_its_picture(small: Pixels, progressive: bytes) -> None:
    ends = ddpm_codec.info(progressive).section_ends
    damaged = bytearray(progressive)
    damaged[ends[1] + 5] ^= 64
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    with pytest.raises(ddpm_codec.FormatError, match=f"damaged after byte {ends[1]}"):
        decoder.feed(damaged)
    assert decoder.picture().shape == small.shape
    for foreign in (b"PNG", ddpm_codec.encode(small[:, :, 0])):
        with pytest.raises(ddpm_codec.FormatError, match=r"^<bytes>: is not a "):
            ddpm_codec.ProgressiveDecoder().feed(foreign)


def test_alpha_arrives_with_the_first_picture() -> None:
    image = np.dstack([noisy_picture(5, 24, 24), np.arange(576, dtype=np.uint16).reshape(24, 24).astype(np.uint8)])
    data = ddpm_codec.encode(image, progressive=True, model=EXACT, steps=8)
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT)
    while not decoder.feed(data[(at := decoder._reader.file_bytes) : at + 16]):
        pass
    assert np.array_equal(decoder.picture()[:, :, 3], image[:, :, 3])
    assert decoder.pil().mode == "RGBA"


def test_limits_hold(small: Pixels) -> None:
    limited = ddpm_codec.encode(small, progressive=True, bpp=3.0, model=EXACT, steps=8)
    assert 8 * len(limited) <= 3.0 * small.shape[0] * small.shape[1]
    assert not np.array_equal(ddpm_codec.decode(limited, model=EXACT), small)
    good = ddpm_codec.encode(small, progressive=True, psnr=25.0, model=EXACT, steps=8)
    error = float(np.mean((ddpm_codec.decode(good, model=EXACT).astype(float) - small) ** 2))
    assert 10 * np.log10(255**2 / error) >= 25.0


def test_a_refused_file_stays_refused(progressive: bytes) -> None:
    decoder = ddpm_codec.ProgressiveDecoder(model=EXACT, max_pixels=10)
    for data in (progressive, b"", progressive[50:]):
        with pytest.raises(ddpm_codec.FormatError, match="pixels"):
            decoder.feed(data)
