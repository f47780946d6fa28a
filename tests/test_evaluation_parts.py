"""Noise by seed and place: an image's row of a bound is the same in the whole set and in any part of it."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ddpm_codec.diffusion.bound import evaluate_bound
from ddpm_codec.diffusion.pictures import to_model_values
from ddpm_codec.errors import InputError
from ddpm_codec.evaluation import bound_of
from ddpm_codec.evaluation.tiles import noise_number
from ddpm_codec.models.frozen import FrozenModel
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.pixel_decoder_model import PixelDecoderModel
from ddpm_codec.models.protocol import CodecModel
from ddpm_codec.nn.pixel_decoder import PixelDecoder
from tests.ddpm_folders import random_ddpm, write_folder
from tests.golden.regenerate import FLOAT, noisy_picture
from tests.toy_decoders import TINY
from tests.toy_exact import toy_exact

SIZES = [(16, 16), (15, 16), (39, 46), (16, 16), (9, 33)]
"""Two alike, one that differs from them in what is padded alone, one of four tiles, one of two."""

TILE = 32

ADDED = 40 * 48 * 3
"""Float64 numbers that are added up for a term of the largest image, padding included."""

EXACT_RTOL = 2 * ADDED * 2.0**-53
"""Terms are sums of numbers of one sign: any order is off by less than one rounding an addition, so two orders by two."""

FLOAT_RTOL = 2 * 32 * 2.0**-24
"""Terms are quadratic in what a network of fewer than 32 layers says, each of which rounds to float32."""

OTHER_NOISE = 1e-3
"""A term with other noise differs by more: there are some thousand sub-pixels."""


class Kind(NamedTuple):
    """A model, what decodes its pixels, and how exactly its rows repeat."""

    model: CodecModel
    rtol: float
    settings: dict[str, Any]


@pytest.fixture(scope="module", params=["exact", "float", "float with a decoder", "ddpm"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    if request.param == "exact":
        return Kind(toy_exact(), EXACT_RTOL, {})
    if request.param == "ddpm":
        folder: Path = tmp_path_factory.mktemp("models") / "ddpm"
        return Kind(open_model(write_folder(random_ddpm(), folder)), FLOAT_RTOL, {"steps": 5})
    settings = {"steps": 4} | ({"decoder": random_decoder()} if "decoder" in request.param else {})
    return Kind(in_float32(open_model(FLOAT)), FLOAT_RTOL, settings)


class InFloat32(FrozenModel):
    """On processors that prefer bfloat16 as well, whose rounding would hide all but gross errors."""

    def bound_dtype(self, device: torch.device) -> str:
        del device
        return "float32"


def in_float32(model: CodecModel) -> InFloat32:
    assert isinstance(model, FrozenModel)
    return InFloat32(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)})


def random_decoder() -> PixelDecoderModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = PixelDecoder(TINY).state_dict()
        weights = {key: value + 0.02 * torch.randn_like(value) for key, value in weights.items()}
    return PixelDecoderModel("random", "for tests", TINY, (8.2,), weights)


def images() -> list[NDArray[np.uint8]]:
    return [noisy_picture(index, *size) for index, size in enumerate(SIZES)]


def rows(kind: Kind, places: list[int], *, told: bool = True, batch: int = 64, seed: int = 3) -> NDArray[np.float64]:
    """Return every term of the bound of some of the images, [n, K + 3]."""
    chosen = [images()[place] for place in places]
    report = bound_of(
        chosen,
        kind.model,
        batch=batch,
        seed=seed,
        places=places if told else None,
        tile=TILE,
        device="cpu",
        **kind.settings,
    )
    return np.column_stack([report.prior_bpd, report.diffusion_bpd, report.reconstruction_bpd, report.mean_rmse])


def test_a_row_depends_on_seed_and_place_alone(kind: Kind) -> None:
    """Not on the other images, their number, their order or the batch."""
    everything = list(range(len(SIZES)))
    whole = rows(kind, everything)
    for places, batch in (([0, 1], 64), ([2, 3, 4], 1), ([3, 2, 4, 1], 2)):
        np.testing.assert_allclose(rows(kind, places, batch=batch), whole[places], rtol=kind.rtol)
    # L_T sees no noise.
    for other in (rows(kind, everything[1:], told=False), rows(kind, everything[1:], seed=4)):
        np.testing.assert_allclose(other[:, 0], whole[1:, 0], rtol=kind.rtol)
        assert (np.abs(other[:, 1:] / whole[1:, 1:] - 1.0).max(axis=1) > OTHER_NOISE).all()


def test_tiles_draw_noise_by_their_place_in_the_image() -> None:
    """Of an image of two tiles the terms again, tile by tile."""
    model, image = in_float32(open_model(FLOAT)), noisy_picture(0, 16, 40)
    report = bound_of([image], model, steps=3, tile=TILE, seed=3, places=[5], device="cpu")
    setting = model.bound_setting(3, None, None)
    denoiser = model.bound_denoiser(torch.device("cpu"), "float32")
    bits = np.zeros(3)
    for number, tile in ((5, image[:, :32]), (1 << 32 | 5, image[:, 32:])):
        x_0 = to_model_values(np.ascontiguousarray(tile.transpose(2, 0, 1)[None]), torch.device("cpu"))
        terms = evaluate_bound(
            denoiser,
            [x_0],
            setting.transform,
            setting.chain,
            setting.prior,
            variance=setting.variances,
            seed=3,
            numbers=[number],
        )
        bits += tile.size * terms.diffusion_bpd[0]
    np.testing.assert_allclose(report.diffusion_bpd[0] * image.size, bits, rtol=FLOAT_RTOL)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_number_tells_place_and_tile(place: int, tile: int) -> None:
    """So no two tiles share one, and all have 64 bits; that of an only tile is the place."""
    assert divmod(noise_number(place, tile), 1 << 32) == (tile, place)


@pytest.mark.parametrize(("place", "tile"), [(1 << 32, 0), (0, 1 << 32), (-1, 0), (0, -1)])
def test_numbers_end_where_they_would_collide(place: int, tile: int) -> None:
    with pytest.raises(InputError, match=f"tile {tile} of image {place}"):
        noise_number(place, tile)


@pytest.mark.parametrize(
    ("places", "cause"),
    [
        ([], "0 places for 2 images"),
        ([0, 1, 2], "3 places for 2 images"),
        ([4, 4], "must be distinct"),
        ([-1, 0], "at least 0"),
        ([0, 1 << 32], "below 2.32; got 0 to 4294967296"),
    ],
)
def test_other_places_are_refused(places: list[int], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        bound_of([noisy_picture(0, 8, 8)] * 2, toy_exact(), places=places)


def test_an_image_that_is_refused_is_named_by_its_place() -> None:
    with pytest.raises(InputError, match="image 7: must be uint8"):
        bound_of([noisy_picture(0, 8, 8), np.zeros((8, 8), np.uint8)], toy_exact(), places=[6, 7])
