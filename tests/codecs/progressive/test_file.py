"""Which sections a progressive file has: messages and tiles within limits, or a few messages and the fallback."""

from dataclasses import replace

import numpy as np
import pytest

from ddpm_codec.codecs.fallback import encode_array
from ddpm_codec.codecs.progressive.file import EncodedPicture, encode_picture
from ddpm_codec.codecs.progressive.parameters import FALLBACK_SHARE, ProgressiveOptions
from ddpm_codec.codecs.progressive.reader import DecodeLimits, ProgressiveReader
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.container import ByteSource, read_sections
from ddpm_codec.distortion import psnr_db
from ddpm_codec.errors import InputError
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.picture import Picture, PictureInfo
from tests.golden.regenerate import EXACT, drawn_picture, noisy_picture
from tests.progressive.files import raw_fallback

Pixels = np.ndarray


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.open(str(EXACT), device="cpu")


@pytest.fixture(scope="module")
def lowest() -> Model:
    """A model whose progressive files end at its lowest crossing, whatever their limits."""
    opened = Model.open(str(EXACT), device="cpu")
    assert isinstance(opened.codec_model, FrozenModel)
    opened.codec_model = replace(opened.codec_model, progressive_crossing=0)
    return opened


def encoded(model: Model, pixels: Pixels, **options: object) -> EncodedPicture:
    picture = Picture(PictureInfo("x.png", "RGB", (pixels.shape[1], pixels.shape[0])), pixels.tobytes())
    how = ProgressiveOptions(**{"steps": 8, "register_bits": 8, **options})  # type: ignore[arg-type]
    return encode_picture(model, picture, how)


def shown(model: Model, found: EncodedPicture, limits: DecodeLimits | None = None) -> Pixels:
    reader = ProgressiveReader(read_sections(ByteSource(found.file.data, "x", "x.ddpm")), model=model)
    decoded = reader.decode(limits or DecodeLimits())
    if limits is None:
        assert decoded.lossless is found.lossless
    return decoded.picture.array()


def graphics() -> dict[str, Pixels]:
    white = np.full((96, 120, 3), 255, np.uint8)
    text = white.copy()
    text[8:90:6, 4:110:3] = 0
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return {"white": white, "text": text, "drawn": drawn_picture(96, 120), "noise": noise}


@pytest.mark.parametrize("kind", ["white", "text", "drawn", "noise"])
def test_graphics_and_noise_take_little_more_than_the_fallback(kind: str, model: Model) -> None:
    pixels = graphics()[kind]
    found = encoded(model, pixels)
    assert found.parameters.end > 0
    assert found.lossless
    payload = encode_array(pixels)
    messages = sum(len(section.payload) for section in found.sections[:-1])
    assert FALLBACK_SHARE * messages <= len(payload)
    # Head with the name of a model that does not ship, and the framing of few sections.
    assert len(found.file.data) <= len(payload) + messages + 40 + 6 * len(found.sections)
    assert np.array_equal(shown(model, found), pixels)


def test_a_picture_before_its_fallback_is_a_coarse_one(model: Model) -> None:
    pixels = graphics()["noise"]
    found = encoded(model, pixels)
    level = found.parameters.last
    assert 1 <= level <= 8
    coarse = shown(model, found, DecodeLimits(level=level))
    assert 5.0 < psnr_db(pixels, coarse) < 30.0


def test_pictures_that_the_model_serves_end_with_tiles(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = drawn_picture(64, 80)
    assert encoded(model, pixels, tile=32).parameters.end > 0
    raw_fallback(monkeypatch)
    pixels = noisy_picture(30, 64, 80)
    found = encoded(model, pixels, tile=32)
    assert found.parameters.end == 0
    assert [section.level for section in found.sections][-6:] == [-1] * 6
    assert np.array_equal(shown(model, found), pixels)


def test_a_limit_is_used_up_by_whole_tiles(lowest: Model) -> None:
    pixels = noisy_picture(30, 64, 80)
    options = {"tile": 32, "fallback": False}
    whole = encoded(lowest, pixels, **options)
    # The preamble is counted with more bytes than it may take.
    limit = 8 * (whole.file.ends[-3] + 4) / 64 / 80
    part = encoded(lowest, pixels, max_bpp=limit, **options)
    assert not part.lossless
    assert len(part.file.data) <= limit * 64 * 80 / 8
    assert len(part.sections) == len(whole.sections) - 2
    canvas = shown(lowest, part)
    assert np.array_equal(canvas[:32], pixels[:32])
    assert np.array_equal(canvas[32:, :32], pixels[32:, :32])
    assert 20.0 < psnr_db(pixels[32:, 32:], canvas[32:, 32:]) < 60.0


@pytest.mark.parametrize("bpp", [0.6, 1.0, 1.5, 3.0])
def test_a_limit_of_a_small_picture_is_used_up_by_whole_messages(
    bpp: float, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name of a model that does not ship would take most of the lowest limit.
    monkeypatch.setattr(CodingSession, "ships", True)
    pixels = noisy_picture(32, 32, 32)
    options = {"fallback": False, "steps": None, "register_bits": None}
    whole = encoded(model, pixels, **options)
    part = encoded(model, pixels, max_bpp=bpp, **options)
    assert not part.lossless
    limit = bpp * 32 * 32 / 8
    messages = [message for section in whole.sections for message in section.messages]
    sent = [message for section in part.sections for message in section.messages]
    assert len(sent) < len(messages)
    # The preamble is counted with more bytes than it may take, and the next message does not fit.
    assert limit - len(messages[len(sent)].data) - 8 < len(part.file.data) <= limit
    assert shown(model, part, DecodeLimits()).shape == pixels.shape


def test_a_limit_below_the_first_message_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match=r"the first picture takes 0\.\d+ bits/pixel"):
        encoded(model, noisy_picture(32, 32, 32), max_bpp=0.2, fallback=False)


def test_a_quality_beyond_the_crossing_is_reached_by_tiles(lowest: Model) -> None:
    pixels = noisy_picture(31, 64, 80)
    options = {"tile": 32, "fallback": False}
    last = encoded(lowest, pixels, **options).sections
    crossing = sum(section.level >= 0 for section in last)
    at_crossing = psnr_db(pixels, shown(lowest, encoded(lowest, pixels, **options), DecodeLimits(level=0)))
    found = encoded(lowest, pixels, min_psnr_db=at_crossing + 2.0, **options)
    tiles = [section for section in found.sections if section.level < 0]
    assert crossing > 0
    assert 0 < len(tiles) < 6
    assert not found.lossless
    assert psnr_db(pixels, shown(lowest, found)) >= at_crossing + 2.0


def test_what_is_lossless_within_a_limit_is_lossless(model: Model) -> None:
    pixels = graphics()["drawn"]
    payload = encode_array(pixels)
    for spare, messages in ((64, False), (64 + len(payload) // FALLBACK_SHARE + 32, True)):
        limit = 8 * (len(payload) + spare) / pixels[..., 0].size
        found = encoded(model, pixels, max_bpp=limit)
        assert found.lossless
        assert 8 * len(found.file.data) <= limit * pixels[..., 0].size
        assert messages or len(found.sections) >= 1
    assert not encoded(model, pixels, max_bpp=8 * (len(payload) - 1) / pixels[..., 0].size).lossless
