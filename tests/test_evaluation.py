"""The bound on arrays: the same figures as on DATA, progress per network evaluation, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpm_codec.errors import InputError
from ddpm_codec.evaluation import bound_of, evaluate_bpd
from ddpm_codec.models.opening import open_model
from ddpm_codec.models.protocol import CodecModel
from tests.ddpm_folders import random_ddpm, write_folder
from tests.golden.regenerate import EXACT, FLOAT, noisy_picture
from tests.helpers import SMALL, TINY

STEPS = 4


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return open_model(EXACT)


def figures(values: dict[str, Any]) -> dict[str, Any]:
    """Return a report without what depends on the clock."""
    return {key: value for key, value in values.items() if key not in {"seconds", "images_per_second"}}


def test_arrays_give_the_figures_of_a_folder(model: CodecModel, tmp_path: Path) -> None:
    """Pictures of three sizes, one cut into tiles and one padded."""
    images = [np.asarray(Image.open(path).convert("RGB")) for path in (SMALL, TINY)]
    images.append(noisy_picture(0, 16, 16))
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    of_arrays = bound_of(images, model, steps=STEPS, tile=64)
    of_data = evaluate_bpd(str(tmp_path), model=str(EXACT), steps=STEPS, tile=64)
    assert figures(of_arrays.to_json()) == figures(of_data.to_json())
    np.testing.assert_array_equal(of_arrays.total_bpd, of_data.total_bpd)
    assert of_arrays.dims.tolist() == [image.size for image in images]


def test_one_array_is_a_list_of_images(model: CodecModel) -> None:
    images = np.stack([noisy_picture(index, 16, 24) for index in range(3)])
    one, many = bound_of(images, model, steps=STEPS), bound_of(list(images), model, steps=STEPS)
    assert figures(one.to_json()) == figures(many.to_json())
    terms = one.prior_bpd + one.diffusion_bpd.sum(axis=1) + one.reconstruction_bpd
    np.testing.assert_array_equal(one.total_bpd, terms)
    assert (one.images, one.chain.steps, one.facts["steps"]) == (3, STEPS, STEPS)


@pytest.mark.parametrize("kind", ["exact", "ddpm"])
def test_progress_advances_with_every_network_evaluation(kind: str, model: CodecModel, tmp_path: Path) -> None:
    images = np.stack([noisy_picture(index, 16, 16) for index in range(5)])
    used = model if kind == "exact" else open_model(write_folder(random_ddpm(), tmp_path / "model"))
    told: list[tuple[int, int]] = []
    report = bound_of(images, used, batch=1, progress=lambda done, total: told.append((done, total)))
    # 16x16 pictures go through the network four at a time, so there are batches of four and of one.
    # The pixel decoder of the exact model is a network as well, evaluated once an image.
    count = report.facts["evaluations"] + ("decoder" in report.facts)
    assert {total for _, total in told} == {5 * count}
    assert [done for done, _ in told] == [*range(0, 4 * count, 4), *range(4 * count, 5 * count + 1)]


@pytest.mark.parametrize(
    ("images", "cause"),
    [
        ([], "at least one image"),
        (np.zeros((0, 8, 8, 3), np.uint8), "at least one image"),
        (np.zeros((2, 8, 8), np.uint8), r"image 0: must be uint8 \[H, W, 3\], not uint8 \[8, 8\]"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3))], r"image 1: must be uint8 \[H, W, 3\], not float64"),
        ([np.zeros((8, 0, 3), np.uint8)], r"image 0: must be uint8"),
    ],
)
def test_other_images_are_refused(images: list[NDArray[np.uint8]], cause: str, model: CodecModel) -> None:
    with pytest.raises(InputError, match=cause):
        bound_of(images, model)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"tile": 12}, "tile = 12"),
        ({"tile": 0}, "tile = 0"),
        ({"crossing": 5.0}, r"crossing 5: [^\n]*3\.2, 8\.2 grey levels"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, Any], cause: str, model: CodecModel) -> None:
    with pytest.raises(InputError, match=cause):
        bound_of([noisy_picture(0, 8, 8)], model, **settings)


def test_a_crossing_needs_a_pixel_decoder() -> None:
    alone = open_model(FLOAT)
    with pytest.raises(InputError, match="model tiny-float has no pixel decoder"):
        bound_of([noisy_picture(0, 8, 8)], alone, crossing=8.2)
