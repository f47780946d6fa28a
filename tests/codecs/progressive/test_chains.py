"""Which crossing a progressive file has, and what is shown there: with a toy of two crossings."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ddpm_codec.codecs.progressive import chains
from ddpm_codec.codecs.progressive.chains import choose_sessions
from ddpm_codec.codecs.progressive.file import EncodedPicture, encode_picture
from ddpm_codec.codecs.progressive.parameters import ProgressiveOptions
from ddpm_codec.codecs.progressive.reader import DecodedPicture, DecodeLimits, ProgressiveReader
from ddpm_codec.codecs.session import CodingSession, Model
from ddpm_codec.container import ByteSource, read_sections
from ddpm_codec.distortion import psnr_db
from ddpm_codec.picture import Picture, PictureInfo
from tests.golden.regenerate import noisy_picture
from tests.toy_exact import TOY_CROSSINGS, write_toy_exact
from tests.toy_pixel_codes import PackedGiven, PackedPixels

PIXELS = noisy_picture(40, 48, 40)
HIGHER, LOWER = 1, 0

PSNR = [20.0 * np.log10(255.0 / sigma) for sigma in TOY_CROSSINGS]
"""Of z_0 at each crossing, about, in dB."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The toy, with a coder of pixels whose mean is z_0 itself: how good it is depends on the crossing alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodingSession, "pixels", PackedPixels(1))
        yield Model.open(write_toy_exact(tmp_path_factory.mktemp("toy")), device="cpu")


def encoded(model: Model, **options: object) -> EncodedPicture:
    picture = Picture(PictureInfo("x.png", "RGB", (40, 48)), PIXELS.tobytes())
    how = ProgressiveOptions(**{"register_bits": 8, "tile": 16, "fallback": False, **options})  # type: ignore[arg-type]
    return encode_picture(model, picture, how)


def decoded(model: Model, found: EncodedPicture, limits: DecodeLimits | None = None) -> DecodedPicture:
    reader = ProgressiveReader(read_sections(ByteSource(found.file.data, "x", "x.ddpm")), model=model)
    return reader.decode(limits or DecodeLimits())


def message_bits(found: EncodedPicture) -> float:
    """Return the bits a pixel of all that comes before the tiles."""
    return (
        8
        * next(found.file.ends[place - 1] for place, section in enumerate(found.sections) if section.level < 0)
        / PIXELS[..., 0].size
    )


def test_files_without_limits_have_the_crossing_that_the_model_says(model: Model) -> None:
    for steps, wanted in ((None, 2), (3, 3)):
        found = encoded(model, steps=steps)
        assert (found.parameters.crossing, found.parameters.steps) == (HIGHER, wanted)
        assert np.array_equal(decoded(model, found).picture.array(), PIXELS)


def test_a_limit_chooses_the_highest_crossing_that_reaches_it(model: Model) -> None:
    low = message_bits(encoded(model))
    lower = encoded(model, min_psnr_db=PSNR[HIGHER] + 2.0)
    assert lower.parameters.crossing == LOWER
    high = 8 * len(lower.file.data) / PIXELS[..., 0].size
    assert low < 0.8 * high
    crossings = [
        [
            session.crossing
            for session in choose_sessions(model, PIXELS, ProgressiveOptions(max_bpp=bpp, register_bits=8))
        ]
        for bpp in (0.5 * low, (low + high) / 2, 1.5 * high)
    ]
    assert crossings == [[HIGHER], [LOWER], [HIGHER, LOWER]]


@pytest.mark.parametrize(("share", "crossing"), [(0.0, LOWER), (0.6, HIGHER)])
def test_what_comes_before_the_messages_counts(share: float, crossing: int, model: Model) -> None:
    bpp = 1.5 * message_bits(encoded(model))
    before = round(share * bpp * PIXELS[..., 0].size / 8)
    options = ProgressiveOptions(max_bpp=bpp, register_bits=8)
    assert choose_sessions(model, PIXELS, options, lambda _: before)[0].crossing == crossing


def test_tiles_where_codewords_fall_short_of_draws_are_weighed_against_a_lower_crossing(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "_reaches", lambda session, *_: session.crossing == HIGHER)
    goal = PSNR[HIGHER] + 2.0
    found = encoded(model, min_psnr_db=goal)
    assert found.parameters.crossing == LOWER
    assert not found.has_tiles
    assert psnr_db(PIXELS, decoded(model, found).picture.array()) >= goal
    # Just above what messages give, one small tile is shorter.
    shown = decoded(model, encoded(model), DecodeLimits(level=0)).picture.array()
    few = encoded(model, min_psnr_db=psnr_db(PIXELS, shown) + 0.01, tile=8)
    assert (few.parameters.crossing, few.has_tiles) == (HIGHER, True)


def test_a_quality_chooses_the_highest_crossing_that_reaches_it(model: Model) -> None:
    for goal, crossing in ((PSNR[HIGHER] - 2.0, HIGHER), (PSNR[HIGHER] + 2.0, LOWER)):
        found = encoded(model, min_psnr_db=goal)
        assert found.parameters.crossing == crossing
        assert not found.lossless
        assert not any(section.level < 0 for section in found.sections)
        assert psnr_db(PIXELS, decoded(model, found).picture.array()) >= goal


def test_past_the_lowest_crossing_there_are_tiles(model: Model) -> None:
    goal = PSNR[LOWER] + 1.0
    found = encoded(model, min_psnr_db=goal)
    tiles = sum(section.level < 0 for section in found.sections)
    assert 0 < tiles < 9
    assert psnr_db(PIXELS, decoded(model, found).picture.array()) >= goal


def test_a_limit_that_holds_the_whole_picture_gives_the_file_without_limits(model: Model) -> None:
    whole = encoded(model)
    limited = encoded(model, max_bpp=8 * (len(whole.file.data) + 8) / PIXELS[..., 0].size)
    assert limited.file.data == whole.file.data


@pytest.mark.parametrize("how", ["mean", "sample", "flow"])
def test_level_0_is_what_the_pixel_decoder_says_of_it(
    how: str, model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``sample`` draws from it, tile by tile and each with its own noise; the others show its mean."""
    keys = []

    def sample(given: PackedGiven, shape: tuple[int, int], rng: np.random.Philox, _origin: object) -> np.ndarray:
        key = int(rng.state["state"]["key"][0])
        keys.append(key)
        return np.full((len(given.picture), 3, *shape), 1 + key - (3 << 62), np.uint8)

    monkeypatch.setattr(PackedGiven, "sample", sample)
    monkeypatch.setattr(PackedGiven, "mean", lambda given: np.full(given.picture.shape, 99, np.uint8))
    found = encoded(model)
    for level in (0, 1):
        keys.clear()
        shown = decoded(model, found, DecodeLimits(level=level, reconstruction=how)).picture.array()
        if how == "sample":
            assert shown[::16, ::16, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
            # Workers take tiles in no order.
            assert sorted(keys) == [(3 << 62) + tile for tile in range(9)]
        elif how == "flow" or level == 0:
            assert (shown == 99).all()
        assert (len(keys) > 0) == (how == "sample")
